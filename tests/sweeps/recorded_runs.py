"""Runs of sweeps as training leaves them, of the kinds that tables and pictures have to serve.

To look at them: ``python -m tests.sweeps.recorded_runs FOLDER`` writes every table and picture
there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flexbert.config.tree import expand_dotted, merge
from flexbert.manifest_file import Launch, Manifest
from flexbert.sweeps.outcomes import read_outcome, unfinished_state
from flexbert.sweeps.run_groups import group_runs
from flexbert.sweeps.sweep_report import write_table
from flexbert.sweeps.sweep_table import sweep_table
from flexbert.sweeps.sweep_text import sweep_table_text
from tests.report.situations import write_lines

BASE: dict[str, Any] = {
    "precision": "fp32",
    "model": {"hidden_size": 64, "mlp": {"name": "glu", "activation": "gelu", "bias": False}},
    "optimizer": {"name": "stable_adamw", "lr": 0.001},
}
TFLOPS = 0.25


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A run to be written.

    Attributes:
        values: of its recipe, by dotted key, besides the base's.
        floor: what its loss comes down to.
        speed: tokens a second.
        diverges_at: the update from which its losses are no numbers.
        stops_at: the update after which it has recorded nothing.
        resumed_at: the update with which a second launch began, on two processes.
    """

    values: Mapping[str, Any]
    seed: int
    floor: float = 2.0
    speed: float = 40_000.0
    updates: int = 400
    evaluations: int = 20
    diverges_at: int | None = None
    stops_at: int | None = None
    resumed_at: int | None = None

    def write(self, folder: Path) -> Path:
        """Write the run's folder."""
        folder.mkdir(parents=True)
        launches = [_launch(0, 1)]
        if self.resumed_at is not None:
            launches.append(_launch(self.resumed_at, 2))
        manifest = Manifest(
            run_name=folder.name, parameters=4_000_000, stages={}, launches=tuple(launches)
        )
        manifest.write(folder)
        own = {"run_name": folder.name, "runs_folder": str(folder.parent), "seed": self.seed}
        recipe = merge(BASE, {**expand_dotted(self.values), **own})
        (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
        write_lines(folder / "metrics.jsonl", list(self.lines()))
        return folder

    def lines(self) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(self.seed)
        # Some of what a seed does it does to all points.
        own = np.random.default_rng([self.seed, *str(self.values).encode()])
        offset = float(random.normal(0, 0.012)) + float(own.normal(0, 0.006))
        every = self.updates // self.evaluations
        for step in range(1, (self.stops_at or self.updates) + 1):
            is_bad = self.diverges_at is not None and step >= self.diverges_at
            header = {
                **{"stage": "only", "step": step, "tokens": step * 8192},
                **{"stage_tokens": step * 8192, "seconds": step * 8192 / self.speed},
            }
            loss = self.floor + offset + 7.0 * (1 + step / 20) ** -1.1
            if step % 10 == 0:
                yield {
                    **{"event": "train", **header},
                    "loss": None if is_bad else loss + float(random.normal(0, 0.03)),
                    "tokens_per_second": self.speed * float(own.normal(1, 0.02)),
                    # Of one process: two do half of the work each.
                    "tflops": TFLOPS / (2 if step > (self.resumed_at or math.inf) else 1),
                    "peak_memory": 10**9 + step,
                }
            if step % every == 0:
                yield {"event": "eval", **header, "eval_loss": None if is_bad else loss}


def _launch(after_step: int, processes: int) -> Launch:
    return Launch(
        command=("main.py",),
        time="2026-01-01T00:00:00+00:00",
        after_step=after_step,
        processes=processes,
        device="cpu",
        platform="Linux",
        python="3.11",
        flexbert="0.1.0",
        packages={},
    )


def _grid(count: int, seeds: Sequence[int]) -> list[Recorded]:
    """Points over activations, learning rates and head sizes, the larger ones slower."""
    names = ["gelu", "silu", "relu", "tanh"]
    runs = []
    for index in range(count):
        values = {
            "model.mlp.activation": names[index % len(names)],
            "optimizer.lr": 4e-4 * 2 ** (index // len(names)),
        }
        floor = 2.0 + 0.03 * (index % 4) + 0.02 * abs(index // 4 - 2)
        speed = 40_000 - 1_500 * (index % 4) - 300 * (index // 4)
        runs += [Recorded(values=values, seed=seed, floor=floor, speed=speed) for seed in seeds]
    return runs


def _long_names() -> list[Recorded]:
    kinds = ("local_only_with_wide_windows", "global_everywhere", "three_local_one_global")
    return [
        Recorded(
            values={
                "model.attention.windows_of_all_layers": kind,
                "model.embedding.normalization_before_the_first_block": norm,
                "optimizer.weight_decay_of_matrices": 1e-5,
            },
            seed=seed,
            floor=2 + 0.02 * place + 0.05 * norm,
            speed=30_000 + 4_000 * place,
        )
        for place, kind in enumerate(kinds)
        for norm in (False, True)
        for seed in (1, 2, 3)
    ]


def _changed(runs: Sequence[Recorded], changes: Mapping[int, Mapping[str, Any]]) -> list[Recorded]:
    return [replace(run, **changes.get(index, {})) for index, run in enumerate(runs)]


SITUATIONS: dict[str, list[Recorded]] = {
    "two-points": _grid(2, (1, 2, 3)),
    "two-equal-points": [replace(run, floor=2.0) for run in _grid(2, (1, 2, 3, 4, 5))],
    "twelve-points": _grid(12, (1, 2, 3)),
    "twenty-points": _grid(20, (1,)),
    "one-failed": _changed(_grid(3, (1, 2, 3)), {5: {"stops_at": 140}}),
    "one-diverged": _changed(_grid(3, (1, 2, 3)), {5: {"diverges_at": 220}}),
    "resumed": [replace(run, resumed_at=200) for run in _grid(2, (1, 2, 3))],
    "long-names": _long_names(),
}


def main(folder: Path) -> None:
    for name, recorded in SITUATIONS.items():
        runs = [run.write(folder / name / f"run-{index}") for index, run in enumerate(recorded)]
        groups = group_runs(runs, ["eval_loss", "tokens_per_second"])
        finished = [
            run for run, each in zip(groups.runs, recorded, strict=True) if each.stops_at is None
        ]
        outcomes = [read_outcome(run, groups.measures) for run in finished]
        unfinished = {
            (run.point.label, run.seed): unfinished_state(run)
            for run in groups.runs
            if run not in finished
        }
        table = sweep_table(groups, outcomes, unfinished)
        write_table(table, groups.runs, outcomes, folder / name)
        print(sweep_table_text(table), *groups.notes, "", "=" * 100, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
