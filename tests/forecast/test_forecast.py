"""``flexbert forecast`` and ``flexbert plan --forecast``, over folders of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flexbert.commands import main
from flexbert.forecast.forecast_file import fit_ladder, read_forecast
from flexbert.forecast.rungs import read_ladder
from flexbert.forecast.target import forecast, target_of_run
from tests.conftest import TINY_RECIPE
from tests.forecast.conftest import IN_TOKENS, MakeRun, law_of

TARGET = (
    "model.hidden_size=128",
    "model.mlp.intermediate_size=128",
    "duration=1_000_000tok",
    *IN_TOKENS,
)


@pytest.fixture
def file(ladder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "forecast.json"
    assert main(["forecast", str(ladder), "--out", str(path)]) == 0
    assert "left out    not finished, or no loss: unfinished" in capsys.readouterr().out
    return path


def test_a_run_that_was_held_back_is_forecast(
    ladder: Path, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("held-back", 128, 1_000_000)
    found = forecast(
        fit_ladder(read_ladder([ladder / "runs" / f"rung-{i}" for i in range(9)])),
        target_of_run(run),
    )
    assert found.holds
    assert found.measured == law_of(target_of_run(run).scale.parameters, 1_000_000)
    assert found.loss == pytest.approx(found.measured, rel=0.01)
    assert found.tokens == pytest.approx(2.5)
    assert found.differences == {}
    picture = tmp_path / "forecast.png"
    # The run lies next to its rungs, and a target is no rung.
    rungs = [str(ladder / "runs" / f"rung-{index}") for index in range(9)]
    assert main(["forecast", *rungs, "--target", str(run), "--picture", str(picture)]) == 0
    assert "inside the interval" in capsys.readouterr().out
    assert picture.stat().st_size > 10_000


def test_the_file_gives_the_forecast_that_wrote_it(
    file: Path, ladder: Path, make_run: MakeRun
) -> None:
    fitted = fit_ladder(read_ladder([ladder]))
    target = target_of_run(make_run("held-back", 128, 1_000_000))
    assert forecast(read_forecast(file), target) == forecast(fitted, target)


def test_plan_says_what_a_recipe_may_come_to_and_what_no_law_knows_of(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(TINY_RECIPE), *TARGET, "--forecast", str(file)]
    assert main([*arguments, "data.mask_rate=0.2", "model.num_layers=6", "seed=7"]) == 0
    printed = capsys.readouterr().out
    assert "95 of 100 times between" in printed
    assert "times the FLOPs of the ladder's largest rung" in printed
    assert "what data.mask_rate does: 0.3 in the ladder, 0.2 here" in printed
    assert "what model.num_layers does: 4 in the ladder, 6 here" in printed
    # What the ladder varies, and the seed, are no differences; nor is a corpus that is not named.
    differing = [line for line in printed.splitlines() if "not known   what" in line]
    assert len(differing) == 2
    assert "whether its corpus is the ladder's is not known" in printed


def test_plan_says_that_the_corpus_is_another(
    file: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(TINY_RECIPE), *TARGET, "--forecast", str(file)]
    assert main([*arguments, f"data.path={corpus}"]) == 0
    printed = capsys.readouterr().out
    assert "tokenizer does" in printed
    assert "times over, and tokens that are read more than 4 times" in printed


def test_the_same_rung_with_several_seeds_tells_what_seeds_do(
    ladder: Path, make_run: MakeRun
) -> None:
    for index in range(3):
        make_run(f"again-{index}", 32 + 16 * index, 100_000, ["seed=6"], factor=1.002)
    found = fit_ladder(read_ladder([ladder]))
    assert found.fitted.noise.between_seeds == pytest.approx(0.001, rel=0.6)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "not what flexbert forecast --out writes"),
        ('{"format": 2, "rungs": []}', "this version reads 1"),
        ('{"format": 1, "rungs": [{"name": "a", "scale": {}, "loss": -1}]}', "not what"),
    ],
)
def test_a_file_that_is_no_forecast_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expected: str
) -> None:
    path = tmp_path / "forecast.json"
    path.write_text(content)
    assert main(["plan", str(TINY_RECIPE), "--forecast", str(path)]) == 2
    assert expected in capsys.readouterr().err


def test_too_few_rungs_are_refused(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make_run(f"rung-{index}", 32, 100_000 * 2**index)) for index in range(3)]
    assert main(["forecast", *runs]) == 2
    assert "3 runs are 3 rungs, and a forecast takes four" in capsys.readouterr().err
    assert main(["forecast", *runs, runs[0]]) == 2
    assert "a run is given twice" in capsys.readouterr().err


def test_a_run_that_goes_on_from_trained_weights_is_no_rung(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("more", 32, 100_000, ["init_from.checkpoint=/some/checkpoint.pt"])
    assert main(["forecast", str(run)]) == 2
    assert "goes on from trained weights" in capsys.readouterr().err


def test_rates_are_read_from_the_runs_of_a_sweep(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for width in (32, 64, 128):
        for index, rate in enumerate((1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)):
            off = 1 + 0.02 * (index - 2) ** 2 + 0.001 * (-1) ** index
            folder = make_run(
                f"{width}-{rate}", width, 100_000, [f"optimizer.lr={rate}"], factor=off
            )
    sweep = folder.parent.parent
    assert main(["forecast", str(sweep), "--rates", "--json"]) == 0
    (rule,) = json.loads(capsys.readouterr().out)["rules"]
    assert [each["rate"] for each in rule["best"]] == pytest.approx([4e-3] * 3, rel=0.05)
    assert rule["rules"] == ["the same rate at every width"]
    assert main(["forecast", str(sweep), "--rates", "--out", "x.json"]) == 2
    assert "--out: goes with a forecast" in capsys.readouterr().err


def test_what_is_no_finished_run_is_no_target(
    ladder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = ladder / "runs" / "unfinished"
    assert main(["forecast", str(ladder), "--target", str(unfinished)]) == 2
    assert "not finished, or no loss" in capsys.readouterr().err
    assert main(["forecast", str(ladder), "--target", str(tmp_path)]) == 2
    assert "no run; give runs/NAME" in capsys.readouterr().err
    assert main(["forecast", str(tmp_path / "nothing")]) == 2
    assert "no run; give runs/NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--target", "{}/nosuch.yaml"], "nosuch.yaml: no such"),
        (["--out", "{}/file/forecast.json"], "/file: cannot be made: "),
        (["--out", "{}/folder"], "/folder: is a folder; give a file"),
        (["--picture", "{}/forecast.doc"], "forecast.doc: not a kind of picture; give .png"),
        (["--picture", "{}/file/forecast.png"], "/file: cannot be made: "),
        (["--rates", "--picture", "{}/rates.doc"], "rates.doc: not a kind of picture"),
        (["--rates", "--target", "{}/file"], "--target: goes with a forecast"),
    ],
)
def test_an_option_is_refused_before_any_rung_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    given = [option.format(tmp_path) for option in options]
    # What is given for a ladder would be refused too, and is not reached.
    assert main(["forecast", str(tmp_path / "nothing"), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ladder.yaml", "is a recipe, or a sweep's file; give the folder of its runs"),
        ("forecast.json", "is a file; give the folder of its runs, such as sweeps/NAME"),
    ],
)
def test_a_file_is_no_rung(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    (tmp_path / name).write_text("base: base.yaml\n")
    assert main(["forecast", str(tmp_path / name)]) == 2
    assert f"{name}: {expected}" in capsys.readouterr().err
