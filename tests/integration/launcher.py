"""Starts runs as processes that can be killed, without importing Composer for each anew.

A server imports everything once and forks for every run: a second instead of twelve. Each process
writes a line for every update that it has begun, with a digest of each row of its
share and the optimizer's hyperparameters.

    python -m tests.integration.launcher        (driven through Launcher)
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.integration.faults import Fault

REPOSITORY = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 240
SHOW_STACKS = signal.SIGUSR2
# A write to disk takes as long as on a busy disk, so that a signal can arrive in the middle.
FSYNC_SECONDS = 0.02


class Launcher:
    """The server's other side."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        """
        Args:
            prefix: of the server's command: what it is run in.
        """
        self._server = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.integration.launcher"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        recipe: Path,
        overrides: Sequence[str],
        num_processes: int,
        batches: Path,
        *,
        own: Mapping[int, Sequence[str]] | None = None,
        faults: Sequence[Fault] = (),
    ) -> Run:
        """Start a run on so many processes.

        Args:
            batches: folder for the lines that it writes: see :func:`read_batches`.
            own: more overrides that one rank alone has.
            faults: what goes wrong in its processes.
        """
        port = free_port()
        output = batches / f"output-{time.monotonic_ns()}.txt"
        pids = []
        for rank in range(num_processes):
            place = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0}
            sizes = {"WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
            master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            pid = self.fork(
                recipe,
                [*overrides, *(own or {}).get(rank, ())],
                {**place, **sizes, **master},
                batches,
                output,
                [fault for fault in faults if fault.rank == rank],
            )
            pids.append(pid)
        return Run(self, pids, output)

    def fork(
        self,
        recipe: Path,
        overrides: Sequence[str],
        environment: Mapping[str, object],
        batches: Path,
        output: Path,
        faults: Sequence[Fault] = (),
    ) -> int:
        """Start one process of a run, which its environment places among the others; its number."""
        job = {
            "recipe": str(recipe),
            "overrides": list(overrides),
            "faults": [asdict(fault) for fault in faults],
            "batches": str(batches),
            "output": str(output),
            "environment": {key: str(value) for key, value in environment.items()},
        }
        return int(self._ask(job))

    def prepare(self, recipe: Path, overrides: Sequence[str]) -> None:
        """Let the server do once what every launch of such a run does first: load what is compiled.

        Args:
            overrides: with a ``data.cache`` of its own.
        """
        assert self._ask({"prepare": str(recipe), "overrides": list(overrides)}) == "prepared"

    def exit_code(self, pid: int) -> int | None:
        """A run's exit code (negative: the signal that ended it), None while it is running."""
        answer = self._ask({"wait": pid})
        return None if answer == "running" else int(answer)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE_SECONDS)

    def _ask(self, question: dict[str, Any]) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Run:
    """The processes of one launch.

    Attributes:
        pids: by rank. Each leads a session and a process group, which its loader's processes share.
    """

    def __init__(self, launcher: Launcher, pids: list[int], output: Path) -> None:
        self.pids = pids
        self._launcher = launcher
        self._output = output

    @property
    def output(self) -> str:
        """What its processes have printed, in the order in which they did."""
        return self._output.read_text(errors="replace")

    def signal_when(self, due: Callable[[], bool], signum: int) -> int:
        """Send the first process a signal once ``due``; its exit code, 0 if it ended before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not due():
            code = self._launcher.exit_code(self.pids[0])
            if code is not None:
                assert code == 0, self.output
                return self.wait()
            assert time.monotonic() < deadline, self.output
            time.sleep(0.002)
        for pid in self.pids if signum == 9 else self.pids[:1]:
            os.kill(pid, signum)
        return self.wait()

    def wait(self) -> int:
        """The exit code that all processes agree on."""
        codes = self.wait_for_all(PATIENCE_SECONDS)
        assert len(set(codes)) == 1, (codes, self.output)
        assert codes[0] in (0, 75, -9), self.output
        assert codes[0] is not None
        return codes[0]

    def wait_for_all(self, seconds: float) -> list[int | None]:
        """The exit codes by rank; None for a process that has not ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while None in (codes := self.exit_codes()) and time.monotonic() < deadline:
            time.sleep(0.002)
        return codes

    def exit_codes(self) -> list[int | None]:
        """By rank; None for a process that is running."""
        return [self._launcher.exit_code(pid) for pid in self.pids]


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """What processes wrote for the updates that they began; the newest process's come last."""
    for file in sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns):
        for line in file.read_text().splitlines():
            # A kill may cut the last line off.
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def read_batches(folder: Path) -> dict[int, dict[int, set[str]]]:
    """All digests of each row that were ever trained on: ``[update][row of the global batch]``."""
    found: dict[int, dict[int, set[str]]] = {}
    for record in read_lines(folder):
        rows = found.setdefault(record["update"], {})
        for row, digest in record["rows"].items():
            rows.setdefault(int(row), set()).add(digest)
    return found


def _serve() -> None:
    # Everything that a run imports, once.
    from transformers import PreTrainedModel  # noqa: F401

    import main  # noqa: F401
    from flexbert.components import register_all
    from flexbert.train import trainer  # noqa: F401

    register_all()
    _make_orders_files()
    codes: dict[int, int] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            pid = question["wait"]
            if pid not in codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            print(codes.get(pid, "running"), flush=True)
            continue
        if "prepare" in question:
            _prepare(Path(question["prepare"]), question["overrides"])
            print("prepared", flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os._exit(_run(question))
        codes.pop(pid, None)  # of an earlier process that had the same number
        print(pid, flush=True)


def _make_orders_files() -> None:
    """Every epoch's order is a file, as it is for large corpora."""
    from flexbert.data.sampling import permutation
    from flexbert.files import node_arrays

    node_arrays.IN_MEMORY = permutation.IN_MEMORY = 16
    permutation.BIN_ITEMS = permutation._AT_ONCE = 64


def _prepare(recipe: Path, overrides: Sequence[str]) -> None:
    """Read a first row of the run's data; numba's kernels are then loaded, and inherited."""
    from flexbert.recipes import load_recipe
    from flexbert.schedule.stages import all_stages
    from flexbert.stage_checks import open_corpora
    from flexbert.train.stage_data import open_stage_data

    stage = all_stages(load_recipe(recipe, overrides).stages)[0]
    with contextlib.redirect_stdout(sys.stderr):
        data = open_stage_data(stage, open_corpora(stage.recipe), None)
        next(iter(data.stream.rows(data.start.packing_window, 0)))


def _run(job: dict[str, Any]) -> int:
    from flexbert.train.processes.together import run_together

    os.setsid()
    os.environ.update(job["environment"])
    with open(job["output"], "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    # Where it hangs, it can be asked.
    faulthandler.register(SHOW_STACKS)
    try:
        return run_together(lambda: _train(job))
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _train(job: dict[str, Any]) -> int:
    import torch
    from composer import Callback, Logger, State
    from composer.utils import dist

    from flexbert.recipes import load_recipe
    from flexbert.train.run import train
    from tests.integration.injected import Injected
    from tests.integration.recorded_runs import rows_of_batch

    class BatchWriter(Callback):
        def __init__(self, row_length: int) -> None:
            self.row_length = row_length
            self.file = Path(job["batches"], f"{os.getpid()}.jsonl").open("w")  # noqa: SIM115

        def batch_start(self, state: State, logger: Logger) -> None:
            rank, world_size = dist.get_global_rank(), dist.get_world_size()
            rows = {
                rank + index * world_size: hashlib.sha256(
                    ids.numpy().tobytes() + labels.numpy().tobytes()
                ).hexdigest()
                for index, (ids, labels) in enumerate(rows_of_batch(state.batch, self.row_length))
                if (labels != -100).any()
            }
            update = int(state.timestamp.batch.value)
            groups = [
                {key: value for key, value in group.items() if isinstance(value, int | float)}
                for optimizer in state.optimizers
                for group in optimizer.param_groups
            ]
            line = {"update": update, "rows": rows, "groups": groups}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()

    torch.set_num_threads(1)
    fsync = os.fsync

    def slow_fsync(file: int) -> None:
        fsync(file)
        time.sleep(FSYNC_SECONDS)

    os.fsync = slow_fsync
    loaded = load_recipe(Path(job["recipe"]), job["overrides"])
    callbacks = [
        BatchWriter(loaded.first.data.row_length),
        Injected([Fault(**fault) for fault in job["faults"]], Path(job["batches"])),
    ]
    return train(loaded, command=["test"], callbacks=callbacks)


if __name__ == "__main__":
    _serve()
