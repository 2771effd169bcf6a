"""What a plan says a search comes to, against the search itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flexbert.commands import main
from flexbert.tasks.results import read_results
from tests.tasks.cases import task_node, write_suite, write_tiny


@pytest.mark.parametrize(
    "options", [[], ["--frozen"], ["--design", "one-seed"], ["--design", "halving"]]
)
def test_a_plan_counts_the_fits_and_tokens_of_its_search(
    tmp_path: Path,
    pair_tokenizer: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    nodes = {"one": task_node(tmp_path, "classification", train=24, validation=8)}
    grid = {"optimizer.lr": [1e-4, 1e-3, 3e-3]}
    # Updates that a ninth of is a whole number: 9 of 24 rows in 8s, 3 epochs.
    suite = write_suite(tmp_path, nodes, seeds=[1, 2], grid=grid, epochs=3)
    model = write_tiny(tmp_path / "model.pt", pair_tokenizer)
    command = ["evaluate", str(suite), str(model), "--device", "cpu", "--out", str(tmp_path / "r")]
    command += [*options, "--json"]

    assert main([*command, "--plan"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert main(command) == 0
    fits = json.loads(capsys.readouterr().out)
    records = [record for record in read_results(tmp_path / "r") if record.mode != "floor"]
    (cost,) = plan["costs"].values()
    assert len(fits) == len(records) == cost["fits"] * plan["models"]
    if options == ["--frozen"]:
        assert cost["updates"] is None
    else:
        assert cost["updates"] == [max(record.updates for record in records)] * 2
    exact = sum(record.train_tokens for record in records)
    # A share of an epoch has as many tokens as an epoch has on average.
    assert cost["tokens"] == pytest.approx(exact, rel=0.05)

    assert main([*command, "--plan"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == len(records)
    before = (tmp_path / "r" / "results.jsonl").read_bytes()
    assert main(command) == 0
    assert (tmp_path / "r" / "results.jsonl").read_bytes() == before, "nothing was left to do"


def test_a_plan_tells_of_fits_with_few_updates(
    tmp_path: Path, pair_tokenizer: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {"one": task_node(tmp_path, "classification", train=40, validation=8)}
    model = write_tiny(tmp_path / "model.pt", pair_tokenizer)
    suite = write_suite(tmp_path, nodes, grid={"epochs": [20, 40]})
    command = ["evaluate", str(suite), str(model), "--device", "cpu", "--plan"]
    assert main([*command, "defaults.batch_size=8"]) == 0
    assert "100 to 200" in (plan := capsys.readouterr().out)
    assert "are few" not in plan
    assert main([*command, "defaults.batch_size=10"]) == 0
    assert "note: 80 updates are few to learn one from" in capsys.readouterr().out
