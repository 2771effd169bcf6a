"""Parts of a sweep are all of it, each run once, and cost about the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flexbert.errors import UserError
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from flexbert.sweeps.sweep_parts import SweepPart, runs_of_part
from tests.conftest import TINY_RECIPE


def runs_of(folder: Path, corpus: str, **tree: object) -> list[SweepRun]:
    path = folder / "ablation.yaml"
    overrides = {"data.path": corpus}
    path.write_text(yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": overrides, **tree}))
    return resolve_runs(read_sweep(path), folder / "sweep")


def test_parts_are_the_sweep_and_balanced(tmp_path: Path) -> None:
    durations = [f"{count}ba" for count in (90, 10, 70, 30, 50, 21, 60, 19)]
    runs = runs_of(tmp_path, "/some/corpus", list=[{"duration": n} for n in durations])
    parts = [runs_of_part(runs, SweepPart(number, 3)) for number in (1, 2, 3)]
    assert sorted(run.name for part in parts for run in part) == sorted(run.name for run in runs)
    updates = [sum(run.recipe.first.duration.value for run in part) for part in parts]
    # Graham's bound is 11/9 of the best; here it is reached but for one run of 10.
    assert sum(updates) == 350
    assert max(updates) - min(updates) <= 10


def test_runs_that_cost_the_same_are_dealt_out(tmp_path: Path) -> None:
    grid = {"model.mlp.activation": ["gelu", "silu"]}
    runs = runs_of(tmp_path, "/some/corpus", grid=grid, seeds=[1, 2, 3])
    assert runs_of_part(runs, SweepPart(2, 4)) == [runs[1], runs[5]]
    # A task a run.
    assert [runs_of_part(runs, SweepPart(number, 6)) for number in range(1, 7)] == [
        [run] for run in runs
    ]
    assert runs_of_part(runs, SweepPart(7, 7)) == []


def test_all_machines_divide_in_the_same_way_whatever_they_have(
    tmp_path: Path, corpus: Path
) -> None:
    listed = [{"model.num_layers": count} for count in (1, 4, 2, 3)]
    here, elsewhere = (
        [run.name for run in runs_of_part(runs_of(tmp_path, path, list=listed), SweepPart(1, 2))]
        for path in (str(corpus), "/not/there")
    )
    assert here == elsewhere == ["num_layers-1", "num_layers-4"]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", ""])
def test_what_is_no_part_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"--shard .*: expected which of how many"):
        SweepPart.parse(text)
