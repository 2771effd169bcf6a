"""How long do commands take to start?

``flexbert plan`` from the command to its end, and ``main.py`` to the end of its first update: the
best of ``--rounds``, because what the disk's cache does not hold yet is another question.

    python -m benchmarks.starting [RECIPE] [key=value ...] [--rounds N]

The recipe, the quickstart's unless told, needs its corpus; its run goes to a folder of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measuring import print_environment, print_header, print_row

REPOSITORY = Path(__file__).parent.parent


def plan(recipe: list[str]) -> float:
    """Seconds of the whole command."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "flexbert.commands", "plan", *recipe]
    subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def first_update(recipe: list[str]) -> float:
    """Seconds until a run tells of its first update.

    Raises:
        RuntimeError: if it ends without one.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = f"runs_folder={folder}", "run_name=starting", "logging.interval=1ba"
        begin = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-u", "main.py", *recipe, *own],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as run:
            assert run.stdout is not None
            said = []
            for line in run.stdout:
                said.append(line)
                if " loss " in line and " tok/s " in line:
                    took = time.perf_counter() - begin
                    run.kill()
                    return took
        raise RuntimeError("".join(said))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="yamls/quickstart.yaml")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    recipe = [arguments.recipe, *arguments.overrides]
    print_header("from the command to", ["seconds"])
    ways: dict[str, Callable[[list[str]], float]] = {
        "a plan's end": plan,
        "the end of the first update": first_update,
    }
    for name, way in ways.items():
        print_row(name, [f"{min(way(recipe) for _ in range(arguments.rounds)):.1f}"])
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(main())
