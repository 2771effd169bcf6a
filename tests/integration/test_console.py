"""What a person sees of a run: on terminals of two widths, in a file, and at Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import REPOSITORY, TINY_RECIPE, Overrides

pytestmark = pytest.mark.slow

CTRL_C = b"\x03"
SHORT = ("duration=8ba", "schedule={name: constant}", "logging.interval=2ba")
HEADER = (
    "run folder",
    "model",
    "devices",
    "precision",
    "attention",
    "torch.compile",
    "batch",
    "corpus",
    "to do",
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "main.py", str(TINY_RECIPE), *arguments]


def on_terminal(
    words: list[str], columns: int, interrupt_after: bytes | None = None
) -> tuple[int, bytes]:
    """Exit code and output of a command on a terminal.

    Args:
        interrupt_after: press Ctrl-C once this was printed.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
        os.execve(words[0], words, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    output = b""
    while True:
        try:
            new = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        output += new
        if interrupt_after is not None and interrupt_after in output:
            interrupt_after = None
            os.write(terminal, CTRL_C)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), output


def screen(output: bytes) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for sequence in re.finditer(r"\x1b\[([?0-9;]*)([A-Za-z])|(.)", output.decode(), re.DOTALL):
        number, action, character = sequence.groups()
        if action == "A":
            row -= int(number or 1)
        elif action == "K":
            lines[row].clear()
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            lines += [[] for _ in range(row - len(lines) + 1)]
        elif character is not None:
            lines[row] += [" "] * (column + 1 - len(lines[row]))
            lines[row][column] = character
            column += 1
    return ["".join(line) for line in lines]


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.long)])
def test_on_a_terminal_lines_fit_and_the_bar_leaves_nothing(tiny: Overrides, columns: int) -> None:
    code, output = on_terminal(command(*tiny(*SHORT)), columns)
    shown = screen(output)
    assert code == 0, "\n".join(shown)
    assert "━" in output.decode()
    assert b"\x1b[?25l" not in output.rpartition(b"\x1b[?25h")[2]  # the cursor is there
    text = "\n".join(shown)
    assert "━" not in text
    records = [line for line in shown if "tok/s" in line]
    assert [int(line.split("step")[1].split()[0]) for line in records] == [2, 4, 6, 8]
    assert all(
        re.search(r"loss \d\.\d{4}", line) and line.endswith(" left") for line in records[1:]
    )
    assert max(map(len, records)) <= min(columns, 100)
    assert re.search(r"step      6  eval  loss \d\.\d{4}  accuracy \d+\.\d%", text)
    assert shown[-2].startswith("finished ")


def test_a_file_gets_plain_lines_and_the_header_once(tiny: Overrides) -> None:
    stages = "stages={one: {duration: 4ba}, two: {duration: 2ba}}"
    done = subprocess.run(
        command(*tiny("schedule={name: constant}", stages)),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert [line.split("  ")[1] for line in lines[1 : 1 + len(HEADER)]] == list(HEADER)
    assert done.stdout.count("torch.compile") == done.stdout.count("attention  ") == 1
    assert "6 x encoder" not in done.stdout  # formulas stand in docs
    assert max(len(line) for line in lines if "tok/s" in line) <= 100
    assert "stage two begins after update 4" in done.stdout


def test_a_sign_of_life_comes_where_no_record_does(
    tiny: Overrides, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A minute that is over at once.
    monkeypatch.setattr("flexbert.train.console.stage_display.QUIET_SECONDS", 0.0)
    settings = ("duration=4ba", "schedule={name: constant}", "logging.interval=100ba")
    assert train(load_recipe(TINY_RECIPE, tiny(*settings)), command=["test"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if line.startswith("pretrain")) <= 100
    text = "\n".join(lines)
    for pattern in (
        r"  0%  step      0  in update 1, micro-batch 1 of 2  0s, time left unknown",
        r" 50%  step      2    768 tok  +[\d.]+k? tok/s  \d+s, \d+s left",
        r"100%  step      4  evaluating, batch 2 of 3  \d+s, 0s left",
    ):
        assert re.search(pattern, text), text


def test_quiet_prints_the_end_alone(tiny: Overrides, tmp_path: Path) -> None:
    done = subprocess.run(
        command(*tiny(*SHORT), "--quiet"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    *warnings, line = done.stdout.splitlines()
    assert line.startswith(f"finished {tmp_path}")
    # A busy machine may be warned of.
    assert all(warning.startswith("warning: ") for warning in warnings)
    assert "tok/s" not in done.stderr


def test_ctrl_c_saves_and_names_the_command_to_go_on_with(tiny: Overrides, tmp_path: Path) -> None:
    words = command(*tiny("duration=2000ba", "data.num_workers=1", "logging.interval=1ba"))
    code, output = on_terminal(words, 100, interrupt_after=b"tok/s")
    shown = screen(output)
    assert code == 75, "\n".join(shown)
    assert "Traceback" not in "\n".join(shown)
    saved = list_checkpoints(tmp_path / "runs" / "tiny" / "checkpoints")[-1]
    # A terminal of 100 columns does not break the line for whoever copies it.
    last = next(line for line in reversed(shown) if line)
    assert any(line.startswith("SIGINT: saving; ") for line in shown)
    assert "━" not in "\n".join(shown)
    assert last.startswith(f"stopped on request (SIGINT): saved {saved}; go on with: ")
    assert shlex.split(last.partition("go on with: ")[2])[-len(words) + 1 :] == words[1:]
