"""Tokenizer folders and inputs of others: no code of theirs runs, and nothing is waited for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.cli import main
from tests.conftest import REPOSITORY

COMMAND = (sys.executable, "-m", "data_prep", "tokenizer")
CODE = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast, PretrainedConfig

Path({mark!r}).write_text("ran")

class Evil(PreTrainedTokenizerFast):
    pass

class EvilConfig(PretrainedConfig):
    model_type = "evil"
"""


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def copied(tokenizer: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokenizer, tmp_path / "tokenizer"))


def change(file: Path, **values: object) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize(
    "where",
    [
        "tokenizer_config.json",
        "config.json",
        pytest.param("both", marks=pytest.mark.slow),
        pytest.param("unknown class", marks=pytest.mark.slow),
    ],
)
def test_code_of_a_folder_never_runs_whatever_is_answered(
    copied: Path, tmp_path: Path, where: str
) -> None:
    mark = tmp_path / "ran"
    (copied / "evil.py").write_text(CODE.format(mark=str(mark)))
    if where != "config.json":
        change(
            copied / "tokenizer_config.json",
            tokenizer_class="Evil",
            auto_map={"AutoTokenizer": [None, "evil.Evil"]},
        )
    if where in ("config.json", "both"):
        change(
            copied / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.EvilConfig"}
        )
        change(copied / "tokenizer_config.json", tokenizer_class=None)
    if where == "unknown class":
        shutil.move(copied / "tokenizer.json", copied / "evil.json")
    made = subprocess.run(
        [*COMMAND, "--adapt", str(copied), "--out", str(tmp_path / "out")],
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)},
        input="yes\n" * 5,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not mark.exists()
    assert "[y/N]" not in made.stdout + made.stderr
    assert "trust_remote_code" not in made.stdout + made.stderr
    assert made.returncode in (0, 2)
    if made.returncode == 2:
        assert made.stderr.splitlines()[-1].startswith(f"error: --adapt {copied}: cannot be loaded")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_a_tokenizers_files_are_regular(
    copied: Path, tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(copied / name)
    else:
        (copied / name).symlink_to(kind)
    assert main(["tokenizer", "--adapt", str(copied), "--out", str(tmp_path / "out")]) == 2
    assert "not a regular file" in one_line(capsys)
    if name == "added_tokens.json":
        return
    text = tmp_path / "a.txt"
    text.write_text("text")
    command = ["corpus", "--tokenizer", str(copied), "--out", str(tmp_path / "c"), str(text)]
    assert main(command) == 2
    assert name in one_line(capsys)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "[" * 3000),
        ("tokenizer.json", '{"a":' * 3000),
        ("tokenizer_config.json", "[" * 3000 + "]" * 3000),
        ("tokenizer_config.json", '{"cls_token": {"content": 3}}'),
        ("tokenizer_config.json", '{"cls_token": [1]}'),
        ("tokenizer_config.json", '{"cls_token": {}}'),
    ],
)
def test_a_damaged_tokenizer_is_one_line(
    copied: Path, tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / name).write_text(content)
    text = tmp_path / "a.txt"
    text.write_text("text")
    command = ["corpus", "--tokenizer", str(copied), "--out", str(tmp_path / "c"), str(text)]
    assert main(command) == 2
    assert str(copied) in one_line(capsys)


def test_pipes_and_devices_are_counted_and_not_read(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for number in range(200):
        (text / f"{number}.txt").write_text(f"document {number}")
    os.mkfifo(text / "pipe.txt")
    (text / "endless.jsonl").symlink_to("/dev/zero")
    out = tmp_path / "c"
    command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(out), "--quiet"]
    assert main([*command, "--workers", "1", "--validation", "0.1", str(text)]) == 0
    assert "(no regular file)" in capsys.readouterr().out
    assert json.loads((out / "report.json").read_text())["skipped_files"] == {
        "(no regular file)": 2
    }
    assert main([*command, str(text / "pipe.txt")]) == 2
    assert "neither a file nor a folder" in one_line(capsys)
