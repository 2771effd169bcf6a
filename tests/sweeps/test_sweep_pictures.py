"""Pictures of sweeps: what stands out, the front, labels, and the files of a sweep's folder."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from flexbert.pictures import COLORS, GREY, picture
from flexbert.sweeps import pareto_picture, sweep_report
from flexbert.sweeps.label_places import place_labels
from flexbert.sweeps.pareto_picture import SpeedAndScore, draw_pareto, pareto_front
from flexbert.sweeps.point_looks import point_looks
from flexbert.sweeps.run_groups import group_runs
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from flexbert.sweeps.sweep_report import groups_table, report_sweep
from tests.conftest import TINY_RECIPE
from tests.sweeps.recorded_runs import Recorded


def test_few_points_have_a_color_each_and_of_many_the_best_and_the_reference() -> None:
    few = point_looks(["a", "b", "c"], "b", "eval_loss")
    assert few.named == ("b", "a", "c")
    assert len(set(few.colors.values())) == 3
    assert GREY not in few.colors.values()
    assert few.caption == "black: the reference, b"
    labels = [f"point {number}" for number in range(20)]
    many = point_looks(labels, "point 15", "eval_loss")
    shown = {label for label, color in many.colors.items() if color != GREY}
    assert shown == {"point 15", *labels[: len(COLORS) - 1]} == {*many.named}
    assert len({many.colors[label] for label in shown}) == len(shown)
    assert many.caption.endswith("in color the best 7 by eval_loss, grey the other 12")


@pytest.mark.parametrize("upwards", [True, False])
def test_the_front_is_what_no_other_point_beats_in_both(upwards: bool) -> None:
    numbers = np.random.default_rng(3)
    for _ in range(50):
        # Few values, so that some are equal.
        speeds, scores = numbers.integers(0, 6, (2, 8)).astype(float)
        places = [
            SpeedAndScore(
                label=str(index), speed=speed, score=score, speed_spread=0, score_spread=0
            )
            for index, (speed, score) in enumerate(zip(speeds, scores, strict=True))
        ]
        sign = 1 if upwards else -1

        def beats(one: SpeedAndScore, other: SpeedAndScore, sign: int = sign) -> bool:
            sides = one.speed - other.speed, sign * (one.score - other.score)
            return min(sides) >= 0 and max(sides) > 0

        expected = {
            (place.speed, place.score)
            for place in places
            if not any(beats(other, place) for other in places)
        }
        found = pareto_front(places, upwards)
        assert {(place.speed, place.score) for place in found} == expected
        assert [place.speed for place in found] == sorted({s for s, _ in expected}, reverse=True)


@pytest.mark.parametrize("slower_is_better", [True, False])
def test_a_caption_explains_a_dashed_line_only_where_there_is_one(
    slower_is_better: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = []
    monkeypatch.setattr(pareto_picture, "head", lambda _, title, caption: captions.append(caption))
    folders = []
    for name, speed, floor in (("gelu", 40_000.0, 2.0), ("silu", 20_000.0, 1.5)):
        loss = floor if slower_is_better else 4 - floor
        run = Recorded(values={"kind": name}, seed=1, updates=40, speed=speed, floor=loss)
        folders.append(run.write(tmp_path / name))
    groups = group_runs(folders, ["eval_loss"])
    table, outcomes = groups_table(groups)
    drawn = sweep_report._drawn(table, groups.runs, outcomes)
    draw_pareto(table, drawn, tmp_path / "pareto.png")
    assert ["dashed" in caption for caption in captions] == [slower_is_better]


def test_labels_lie_on_no_other_and_on_nothing_that_is_drawn(tmp_path: Path) -> None:
    numbers = np.random.default_rng(4)
    dots = [(float(x), float(y)) for x, y in numbers.uniform(0, 1, (12, 2))]
    # Two that are nearly one.
    dots.append((dots[0][0] + 0.002, dots[0][1]))
    labels = [f"activation=name,lr=0.{number}" for number in range(len(dots))]
    with picture(tmp_path / "labels.png", width=9, height=5.6) as figure:
        axes = figure.subplots()
        axes.plot(*zip(*dots, strict=True), "o")
        axes.margins(0.12)
        place_labels(axes, dots, labels, ["black"] * len(dots), dots)
        # Of the words alone, without the line to their dot.
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        inside = axes.get_window_extent()
        assert [text.get_text() for text in axes.texts] == labels
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)
        for box in boxes:
            assert inside.x0 <= box.x0
            assert box.x1 <= inside.x1
            for dot in dots:
                assert not box.contains(*axes.transData.transform(dot))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    given = ["model.mlp.activation=gelu,silu,relu", "seed=1,2,3", "data.path=/some/corpus"]
    return read_sweep(TINY_RECIPE, given)


@pytest.fixture
def runs(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SweepRun]:
    """Two that are not finished, one of them without anything recorded; and one that diverged."""
    resolved = resolve_runs(sweep, tmp_path / "sweep")
    changes = {4: {"stops_at": 20}, 7: {"diverges_at": 25}}
    for index, run in enumerate(resolved[:-1]):
        recorded = Recorded(values=run.point.values, seed=run.seed, updates=40, evaluations=8)
        replace(recorded, **changes.get(index, {})).write(run.folder)
    unfinished = {resolved[4].name, resolved[-1].name}
    monkeypatch.setattr(sweep_report, "is_finished", lambda run: run.name not in unfinished)
    return resolved


def test_a_sweep_leaves_its_table_and_pictures_whatever_became_of_its_runs(
    sweep: Sweep, runs: list[SweepRun], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    table = report_sweep(sweep, runs, folder)
    assert (table.finished, table.total) == (7, 9)
    assert "activation=silu, seed 2: not finished, at update 20" in table.notes
    assert "activation=relu, seed 3: nothing recorded" in table.notes
    text = (folder / "table.md").read_text()
    assert "7 of 9 runs are finished" in text
    assert "is no finite number with seed 2" in text
    first = {name: (folder / name).read_bytes() for name in ("curves.png", "pareto.png")}
    assert all(content.startswith(b"\x89PNG") for content in first.values())
    # Again the same, byte for byte.
    report_sweep(sweep, runs, folder)
    assert first == {name: (folder / name).read_bytes() for name in first}


def test_a_sweep_that_has_not_begun_has_a_table_and_no_pictures(
    sweep: Sweep, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    table = report_sweep(sweep, resolve_runs(sweep, folder), folder)
    assert table.finished == 0
    assert not list(folder.glob("*.png"))
    assert "0 of 9 runs are finished" in (folder / "table.md").read_text()
