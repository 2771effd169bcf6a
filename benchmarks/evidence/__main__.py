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
What the ModernBERT paper (arXiv 2412.13663) says, each claim tried on a miniature of its base
model: 1.9 million parameters, 600,000 tokens of the quickstart's text, three seeds. `make evidence`
trains all of it and writes this page. What its launches took, summed and divided by the two that
went on at once, is about an hour and a half on two cores.

Each row is a difference between two recipes. It is paired by seed, and its interval is the 95
percent t interval of these differences. What is *expected* follows from the paper's sentence. The
miniature *agrees* where the whole interval lies in what is expected, *disagrees* where all of it
lies outside, and decides nothing otherwise: three seeds have wide intervals. Where the paper found
no difference, one that nobody would choose by is allowed: 0.02 nats, 0.01 of a score, 5 percent of
a speed. The sentences were held against the paper's text once more after the runs, and eight of
them (rotary positions, LayerNorm, sequential blocks, alternating attention, decay, trapezoid,
StableAdamW, starting large from small) were corrected then, with what is expected. Probes were
added to five.

How far this carries:

- A loss is in nats a masked token. Knowing the frequencies of single tokens alone gives
  {entropy:.2f} here, and the miniature reaches {loss:.2f}: it is at the beginning of what a model
  learns. Sections name those that have hardly learned. What a miniature shows need not hold at full
  size, and what it does not show may.
- The paper speaks of downstream tasks. `code_names` (macro F1) and `package_topic` (accuracy) are
  probes of [the offline suite](tasks.md#the-offline-suite) on the frozen model.
- All losses are over the same masked tokens, and all recipes have the learning rate of the
  miniature, 3e-3, which is the quickstart's in proportion to width and square root of the batch.
- Each interval stands for itself. Of twenty rows, one would miss by chance.
- Speeds are medians over a run. Two runs train at once, on a core each; those of a seed are not
  always next to each other.
- A sweep that compares no speeds takes finished runs of the same recipe from another sweep.
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
