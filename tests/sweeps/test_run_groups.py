"""Any runs become points and seeds by their recorded recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flexbert.commands import main
from flexbert.errors import UserError
from flexbert.sweeps.run_groups import RunGroups, group_runs
from tests.sweeps.recorded_runs import Recorded

Output = pytest.CaptureFixture[str]
ACTIVATION = "model.mlp.activation"


def written(folder: Path, values: dict[str, Any], seed: int, **more: Any) -> Path:
    run = Recorded(values=values, seed=seed, updates=40, evaluations=4, **more)
    return run.write(folder / f"run-{len(list(folder.iterdir()))}")


def grouped(folder: Path, *recipes: tuple[dict[str, Any], int]) -> RunGroups:
    runs = [written(folder, values, seed) for values, seed in recipes]
    return group_runs(runs, ["eval_loss"])


def seeds_of(groups: RunGroups) -> dict[str, list[int]]:
    return {
        point.label: [run.seed for run in groups.runs if run.point == point]
        for point in groups.points
    }


def test_runs_that_differ_in_their_seed_alone_are_one_point(tmp_path: Path) -> None:
    groups = grouped(
        tmp_path,
        *(({ACTIVATION: "gelu", "optimizer.lr": 1e-3}, seed) for seed in (1, 2)),
        # Neither what is recorded and kept, nor a name, makes it another point.
        ({ACTIVATION: "gelu", "optimizer.lr": 1e-3, "logging": {"interval": "5ba"}}, 3),
        *(({ACTIVATION: "silu", "optimizer.lr": 1e-3}, seed) for seed in (1, 3)),
        ({ACTIVATION: "silu", "optimizer.lr": 2e-3}, 1),
    )
    assert seeds_of(groups) == {
        "activation=gelu,lr=0.001": [1, 2, 3],
        "activation=silu,lr=0.001": [1, 3],
        "activation=silu,lr=0.002": [1],
    }
    assert groups.seeds == (1, 2, 3)
    assert groups.reference.label == "activation=gelu,lr=0.001"
    assert groups.notes == ()


def test_keys_that_another_component_brings_are_no_difference_of_their_own(
    tmp_path: Path,
) -> None:
    one = {"optimizer": {"name": "adamw", "lr": 1e-3, "clip_norm": 1.0, "eps": 1e-8}}
    other = {"optimizer": {"name": "lion", "lr": 1e-3, "momentum": 0.9}}
    assert [*seeds_of(grouped(tmp_path, (one, 1), (other, 1)))] == ["name=adamw", "name=lion"]
    # But what differs within one component is.
    slow = {"optimizer": {"name": "lion", "lr": 1e-3, "momentum": 0.99}}
    (tmp_path / "more").mkdir()
    labels = seeds_of(grouped(tmp_path / "more", (one, 1), (other, 1), (slow, 1)))
    assert [*labels] == ["name=adamw", "name=lion,momentum=0.9", "name=lion,momentum=0.99"]


def test_points_that_differ_in_much_have_their_runs_names_and_a_list_of_it(tmp_path: Path) -> None:
    one = {f"model.part_{number}.value_of_something_long": number for number in range(4)}
    other = {key: value + 1 for key, value in one.items()}
    groups = grouped(tmp_path, (one, 1), (one, 2), (other, 1))
    assert seeds_of(groups) == {"run-0 and 1 more": [1, 2], "run-2": [1]}
    assert groups.notes[0] == (
        "model.part_0.value_of_something_long: 0 (run-0 and 1 more); 1 (run-2)"
    )
    assert len(groups.notes) == 4


def test_a_reference_is_a_point_a_run_or_its_folder(tmp_path: Path) -> None:
    runs = [written(tmp_path, {ACTIVATION: name}, 1) for name in ("gelu", "silu")]
    for given in ("activation=silu", "run-1", str(runs[1])):
        assert group_runs(runs, ["eval_loss"], given).reference.label == "activation=silu"
    with pytest.raises(UserError, match="--reference run-2: no such point or run; did you mean"):
        group_runs(runs, ["eval_loss"], "run-2")


def test_runs_that_do_not_compare_are_one_line(tmp_path: Path) -> None:
    one = written(tmp_path, {ACTIVATION: "gelu"}, 1)
    with pytest.raises(UserError, match="differ in nothing but their seeds"):
        group_runs([one, written(tmp_path, {ACTIVATION: "gelu"}, 2)], ["eval_loss"])
    again = written(tmp_path, {ACTIVATION: "gelu"}, 1)
    with pytest.raises(UserError, match="have one recipe and one seed; give one of them"):
        group_runs([one, again], ["eval_loss"])
    (again / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"no config\.yaml with a seed can be read there"):
        group_runs([one, again], ["eval_loss"])


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    (tmp_path / "runs").mkdir()
    return [
        str(written(tmp_path / "runs", {ACTIVATION: name}, seed, floor=floor))
        for name, floor in (("gelu", 2.0), ("silu", 1.5))
        for seed in (1, 2, 3)
    ]


def test_the_command_prints_a_table_of_runs_and_writes_all_forms(
    runs: list[str], tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "out"
    files = ["--markdown", str(tmp_path / "t.md"), "--latex", str(tmp_path / "t.tex")]
    measures = ["--measure", "eval_loss", "--measure", "tokens_per_second"]
    assert main(["compare", *runs, *measures, "--out", str(out), *files]) == 0
    text = capsys.readouterr().out
    assert text.startswith("6 runs: mean over seeds +- standard deviation\n")
    row = next(
        line
        for line in text.split("eval_loss: differences to activation=gelu")[1].splitlines()
        if line.startswith("activation=silu")
    )
    assert row.endswith("better")
    assert {path.name for path in out.iterdir()} == {
        *("table.md", "table.json", "curves.png", "pareto.png")
    }
    assert (out / "table.md").read_text() == (tmp_path / "t.md").read_text()
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    plain = json.loads((out / "table.json").read_text())
    assert main(["compare", *runs, *measures, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == plain
    assert plain["cells"]["activation=silu"]["eval_loss"]["verdict"] == "better"


def test_json_has_no_number_that_is_none(runs: list[str], tmp_path: Path, capsys: Output) -> None:
    lost = Recorded(values={ACTIVATION: "relu"}, seed=1, updates=40, evaluations=4, diverges_at=9)
    lost.write(tmp_path / "lost")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert main(["compare", *runs, str(tmp_path / "lost"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    cell = found["cells"]["activation=relu"]["eval_loss"]
    assert (cell["mean"], cell["diverged"], cell["verdict"]) == (None, [1], "not known")


def test_runs_of_other_lengths_are_told_apart(
    runs: list[str], tmp_path: Path, capsys: Output
) -> None:
    short = Recorded(values={ACTIVATION: "relu"}, seed=1, updates=40, evaluations=4, stops_at=20)
    short.write(tmp_path / "short")
    assert main(["compare", *runs, str(tmp_path / "short")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "runs were trained on 163,840 to 327,680 tokens, activation=relu with seed 1" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tests"], "--tests is of results, and these are runs"),
        (["--metric", "a=b"], "--metric is of results, and these are runs"),
        (["--png", "x.png"], "--png is of results, and these are runs"),
        (["--measure", "eval_lss"], "measure eval_lss: "),
        (["nowhere"], "nowhere: no run, while others are"),
    ],
)
def test_a_mistake_in_comparing_runs_is_one_line(
    options: list[str], message: str, runs: list[str], capsys: Output
) -> None:
    assert main(["compare", *runs, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_what_is_of_runs_alone_is_refused_for_results(tmp_path: Path, capsys: Output) -> None:
    assert main(["compare", str(tmp_path), "--out", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: --out is of runs, and these are results")
