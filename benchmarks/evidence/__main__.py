"""Which of the ModernBERT paper's claims show in miniature?

    python -m benchmarks.evidence [SWEEP ...] [--at-once N] [--page FILE]

Without names all claims are tried, in about an hour and a half on two cores. Runs lie in
sweeps/evidence; a command that was stopped goes on from there, and several share the work.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence.claims import CLAIMS
from benchmarks.evidence.corpora import make_corpora
from benchmarks.evidence.page import page, section
from benchmarks.evidence.trials import tried
from benchmarks.measuring import print_environment
from flexbert.errors import UserError, did_you_mean, positive, run_command
from flexbert.files.durable import write_durably
from flexbert.sweeps.launches import Launched

FOLDER = Path("sweeps") / "evidence"
INTRODUCTION = """
What the ModernBERT paper (arXiv 2412.13663) claims, or takes over from others, each tried on a
miniature of its base model: 1.9 million parameters, 600,000 tokens of the quickstart's text, three
seeds. `make evidence` trains all of it and writes this page, in about an hour and a half on two
cores, by the sum of its launches.

Each row is a difference between two recipes, paired by seed, with its 95 percent t interval. A
claim *agrees* where the whole interval lies where the claim expects it, *disagrees* where all of it
lies elsewhere, and is *not decided* otherwise: three seeds have wide intervals. What is claimed to
be as good, or no worse, may be off by what nobody would choose by, 0.02 nats or 0.01 of a score. A
sweep that measures no speed takes runs of the same recipe from another one. What a miniature shows
need not hold at full size, and what it does not show may.
"""


def _tell(launched: Launched) -> None:
    said = f"ended with {launched.code}" if launched.code else "finished"
    print(f"{launched.run.name}: {said} ({launched.seconds:.0f}s)", file=sys.stderr, flush=True)


def _environment() -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        print_environment()
    return printed.getvalue().strip()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="of yamls/ablations")
    parser.add_argument("--at-once", type=positive, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--page", type=Path, help="where to write the page, if all are tried")
    arguments = parser.parse_args(argv)
    by_sweep = {claim.sweep: claim for claim in CLAIMS}
    for name in arguments.sweeps:
        if name not in by_sweep:
            raise UserError(f"{name}: no claim's sweep; {did_you_mean(name, by_sweep)}")
    if arguments.page is not None and arguments.sweeps:
        raise UserError("--page is of all claims; leave out the names")
    make_corpora()
    trials, failed = [], []
    for name in arguments.sweeps or by_sweep:
        try:
            trials.append(tried(by_sweep[name], FOLDER, arguments.at_once, _tell))
        except UserError as error:
            # The others are worth their hours all the same.
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed.append(name)
        else:
            print(*section(trials[-1]), "", sep="\n", flush=True)
    if failed:
        raise UserError(f"not tried to the end: {', '.join(failed)}; the same command goes on")
    if arguments.page is not None:
        with write_durably(arguments.page) as file:
            file.write(page(trials, _environment(), INTRODUCTION).encode())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
