"""How far ahead is a larger model that starts from a smaller one's weights?

For each seed a base model is trained, then large ones, all on the same batches: from random
weights, and from the base's by every method of ``init_from``. The two have the proportions of
ModernBERT-base and -large at half the depth and a sixteenth of the width; the window is an eighth
of the sequence, as in their pretraining. The learning rate stays where the warmup has brought it.

    python -m benchmarks.tiling FOLDER [--smoke] [--picture FILE]

FOLDER keeps the quickstart's text as a corpus, and the runs; a command that was killed goes on from
there. One thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import print_environment, print_header, print_row
from benchmarks.miniatures import make_corpus, trained, write_some_documents
from data_prep.demo import write_demo
from flexbert.errors import run_command
from flexbert.manifest_file import Manifest
from flexbert.metrics_file import read_metrics
from flexbert.pictures import picture as drawn

RECIPE = Path(__file__).parent.parent / "yamls" / "quickstart.yaml"
VOCAB_SIZE = 8192
SEEDS = (1, 2, 3)
LARGE_SEED = 1000
COMMON = (
    "precision=fp32",
    "model.attention.windows.repeat=[global,16,16]",
    "data={max_length: 128, row_length: 1024, num_workers: 0}",
    "batch={size: 8, microbatch_rows: 1}",
    "optimizer.lr=4e-3",
    "schedule={warmup: 20ba, decay: 0ba}",
    "evaluation={interval: 25ba, rows: 16, microbatch_rows: 4}",
    "checkpoints.interval=1dur",
    "logging.interval=${evaluation.interval}",
)
# In both, heads have 16 channels and the init's std is hidden_size^-0.5, as in the quickstart.
BASE = (
    "run_name=base",
    "model={num_layers: 11, hidden_size: 48, attention.num_heads: 3}",
    "model.mlp.intermediate_size=72",
    "model.init.std=0.144",
    "duration=400ba",
)
LARGE = (
    "model={num_layers: 14, hidden_size: 64, attention.num_heads: 4}",
    "model.mlp.intermediate_size=164",
    "model.init.std=0.125",
    "duration=300ba",
)
SMOKE = (
    "data.row_length=128",
    "batch.size=1",
    "duration=12ba",
    "schedule.warmup=2ba",
    "evaluation={interval: 1ba, rows: 1}",
)
RANDOM = "random weights"
STARTS = {
    RANDOM: None,
    "tile_center, scaled": "{method: tile_center}",
    "tile_center, same_kind": "{method: tile_center, depth: same_kind}",
    "tile_edge, scaled": "{method: tile_edge}",
    "center_random, scaled": "{method: center_random}",
}
# Of the evaluations: the first, and at each quarter of the training.
SHOWN = (0, 2, 5, 8, 11)

# Losses [seeds, evaluations] of each start.
Losses = Mapping[str, np.ndarray]


def losses_of(run_folders: Sequence[Path], event: str, key: str) -> np.ndarray:
    """What the runs of all seeds recorded ``[seeds, records]``."""
    return np.array(
        [[r.numbers[key] for r in read_metrics(folder, event)] for folder in run_folders]
    )


def spread(values: np.ndarray) -> str:
    """Mean over the seeds, and how far the lowest and the highest lie apart, halved."""
    return f"{values.mean():.2f} ± {np.ptp(values) / 2:.2f}"


def print_table(title: str, steps: Sequence[int], rows: Mapping[str, Sequence[str]]) -> None:
    print()
    print_header(title, [f"update {steps[i]}" for i in SHOWN])
    for name, cells in rows.items():
        print_row(name, cells)


def ahead_text(random: np.ndarray, losses: np.ndarray, steps: Sequence[int]) -> str:
    ahead = list(takewhile(bool, (losses < random).all(axis=0)))
    return f"up to update {steps[len(ahead) - 1]} of {steps[-1]}" if ahead else "at no evaluation"


def draw(losses: Losses, steps: Sequence[int], file: Path) -> None:
    """Validation losses: the mean over the seeds, and the range in which all of them lie."""
    with drawn(file, width=8, height=4.5) as figure:
        axes = figure.subplots()
        for name, values in losses.items():
            axes.plot(steps, values.mean(axis=0), label=name)
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.2)
        axes.set_xlabel("updates of the large model")
        axes.set_ylabel("validation loss, nats per masked token")
        axes.legend(frameon=False)


def compare(
    folder: Path, corpus: Path, seeds: Sequence[int], picture: Path | None, more: Sequence[str] = ()
) -> None:
    """Train what is not trained yet and print the tables; ``more`` overrides every run's recipe."""
    bases: list[Path] = []
    runs: dict[str, list[Path]] = {name: [] for name in STARTS}
    for seed in seeds:
        common = [*COMMON, f"data.path={corpus}", f"runs_folder={folder / f'seed-{seed}'}"]
        bases.append(trained(RECIPE, [*common, *BASE, f"seed={seed}", *more]))
        checkpoint = bases[-1] / "checkpoints" / "pretrain.pt"
        for name, init_from in STARTS.items():
            # Another seed than the base's: another order of the data, and other masks.
            large = [*common, *LARGE, f"seed={seed + LARGE_SEED}"]
            large.append(f"run_name={name.replace(', ', '-').replace(' ', '-')}")
            if init_from is not None:
                large += [f"init_from={init_from}", f"init_from.checkpoint={checkpoint}"]
            runs[name].append(trained(RECIPE, [*large, *more]))

    steps = [record.step for record in read_metrics(runs[RANDOM][0], "eval")]
    losses = {name: losses_of(folders, "eval", "eval_loss") for name, folders in runs.items()}
    training = {name: losses_of(folders, "train", "loss") for name, folders in runs.items()}
    random = losses[RANDOM]

    entropy = Manifest.read(bases[0]).unigram_entropy
    base = spread(losses_of(bases, "eval", "eval_loss")[:, -1])
    print(f"\nbase: validation loss {base}; unigram entropy {entropy:.2f}")
    for title, of_starts in (("validation loss", losses), ("training loss", training)):
        rows = {name: [spread(v[:, i]) for i in SHOWN] for name, v in of_starts.items()}
        print_table(title, steps, rows)
    tiled = {name: values for name, values in losses.items() if name != RANDOM}
    print("\nahead of random weights with every seed:")
    for name, values in tiled.items():
        print(f"{name}: {ahead_text(random, values, steps)}")
    if picture is not None:
        draw(losses, steps, picture)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--smoke", action="store_true", help="one seed, one short row an update")
    parser.add_argument("--picture", type=Path, help="where to draw the validation losses")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder, picture = arguments.folder, arguments.picture
    if arguments.smoke:
        corpus = make_corpus(folder, VOCAB_SIZE, write_some_documents)
        compare(folder, corpus, SEEDS[:1], picture, SMOKE)
    else:
        corpus = make_corpus(folder, VOCAB_SIZE, write_demo)
        compare(folder, corpus, SEEDS, picture)
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
