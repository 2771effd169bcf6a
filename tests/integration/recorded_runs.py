"""Runs the tiny recipe once per list of overrides, and saves the batches that each process used.

    composer -n 2 tests/integration/recorded_runs.py FOLDER '[["run_name=a"], ["run_name=b"]]'

One process pays for several runs: importing Composer takes longer than training them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist

from flexbert.recipes import load_recipe
from flexbert.train.run import train

TINY_RECIPE = Path(__file__).parent / "tiny.yaml"


Row = tuple[torch.Tensor, torch.Tensor]


def rows_of_batch(batch: dict[str, Any], row_length: int) -> list[Row]:
    """The rows of a device batch as (input ids, labels), -100 where nothing is predicted."""
    rows: list[Row] = []
    for microbatch in batch["microbatches"]:
        ids, count = microbatch["input_ids"], microbatch["num_masked"]
        labels = torch.full_like(ids, -100)
        labels[microbatch["masked_positions"][:count]] = microbatch["labels"][:count]
        rows += zip(ids.split(row_length), labels.split(row_length), strict=True)
    return rows


class BatchRecorder(Callback):
    """Keeps the rows of every batch as (input ids, labels), in the order they are trained on."""

    def __init__(self, row_length: int) -> None:
        self.row_length = row_length
        self.updates: list[list[Row]] = []

    def batch_start(self, state: State, logger: Logger) -> None:
        self.updates.append(rows_of_batch(state.batch, self.row_length))


def main(folder: Path, runs: list[list[str]]) -> None:
    for overrides in runs:
        loaded = load_recipe(TINY_RECIPE, overrides)
        recorder = BatchRecorder(loaded.first.data.row_length)
        assert train(loaded, command=sys.argv, callbacks=[recorder]) == 0
        name = f"{loaded.first.run_name}-{dist.get_world_size()}-{dist.get_global_rank()}.pt"
        torch.save(recorder.updates, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
