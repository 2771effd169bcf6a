"""A run's metrics and manifest as their readers get them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flexbert.config.plugins import Plugin
from flexbert.errors import UserError
from flexbert.manifest_file import CorpusRecord, Launch, Manifest, StageRecord
from flexbert.metrics_file import Record, read_metrics
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.report.reports import draw_runs, write_page

LAUNCH = Launch(
    command=("main.py", "recipe.yaml"),
    time="2025-01-01T00:00:00+00:00",
    after_step=0,
    processes=2,
    device="cpu",
    platform="Linux",
    python="3.11",
    flexbert="0.1.0",
    plugins=(Plugin("./mine.py", "sha256:1"),),
    packages={"torch": "2.11.0", "wandb": None},
)
CORPUS = CorpusRecord(path="corpus", tokenizer_sha256="ab", splits={"train": "cd"})
MANIFEST = Manifest(
    run_name="one",
    parameters=100,
    stages={"pretrain": StageRecord(corpora={"web": CORPUS})},
    unigram_entropy=6.5,
    launches=(LAUNCH, replace(LAUNCH, after_step=10)),
)
HEADER = {"event": "eval", "stage": "pretrain", "step": 3, "tokens": 90, "stage_tokens": 60}


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST
    plain = json.loads((tmp_path / "manifest.json").read_text())
    assert plain["stages"]["pretrain"]["corpora"]["web"]["splits"] == {"train": "cd"}
    assert plain["launches"][1]["command"] == ["main.py", "recipe.yaml"]


def test_a_manifest_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    plain = json.loads((tmp_path / "manifest.json").read_text())
    launches = [{**launch, "mood": "good"} for launch in plain["launches"]]
    del launches[0]["plugins"]
    change_json(tmp_path / "manifest.json", launches=launches, color="blue")
    first, second = MANIFEST.launches
    assert Manifest.read(tmp_path) == replace(
        MANIFEST, launches=(replace(first, plugins=()), second)
    )


@pytest.mark.parametrize("changes", [{"launches": [{}]}, {"stages": {"one": 1}}, {"launches": 1}])
def test_what_is_no_manifest_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json there"):
        Manifest.read(tmp_path)
    MANIFEST.write(tmp_path)
    change_json(tmp_path / "manifest.json", **changes)
    with pytest.raises(UserError, match=r"manifest\.json: not the manifest of a run"):
        Manifest.read(tmp_path)


def test_a_record_has_its_place_and_every_number_by_a_dotted_name(tmp_path: Path) -> None:
    losses = {"web": 2.0, "books": 3.0}
    lines = [
        {**HEADER, "event": "train", "loss": 5},
        {**HEADER, "eval_loss": 2.5, "eval_losses": losses, "comment": "fine"},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    train, evaluated = read_metrics(tmp_path)
    assert train == Record(**{**HEADER, "event": "train"}, numbers={"loss": 5})
    numbers = {"eval_loss": 2.5, "eval_losses.web": 2.0, "eval_losses.books": 3.0}
    assert evaluated == Record(**HEADER, numbers=numbers)
    assert read_metrics(tmp_path, "eval") == [evaluated]


def test_a_number_that_was_none_is_nan_and_bad_lines_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.dumps({**HEADER, "eval_loss": None, "eval_accuracy": 0.5, "huge": 10**400})
    bad = ["{", json.dumps([HEADER]), json.dumps({**HEADER, "tokens": "9"}), "\x00"]
    (tmp_path / "metrics.jsonl").write_text("\n".join([bad[0], good, *bad[1:], good, '{"event']))
    first, second = read_metrics(tmp_path)
    assert first.numbers["eval_accuracy"] == second.numbers["eval_accuracy"] == 0.5
    assert math.isnan(first.numbers["eval_loss"])
    assert math.isnan(first.numbers["huge"])
    warning = capsys.readouterr().err
    assert "4 lines are no records" in warning
    assert warning.count("\n") == 1


def test_a_picture_is_drawn_of_numbers_that_are_none(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    lines = [
        {**HEADER, "event": event, "tokens": tokens, "stage": "a$b", name: None, "lr": None}
        for tokens in (90, 180)
        for event, name in (("train", "loss"), ("eval", "eval_loss"), ("train", "mfu"))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert draw_runs([tmp_path]).read_bytes().startswith(b"\x89PNG")
    assert write_page([tmp_path]).read_text().startswith("<!DOCTYPE html>")


def test_a_segment_that_is_lost_is_missed_and_not_made_up_for(tmp_path: Path) -> None:
    log = OrderLog(tmp_path)
    segment = RunSegment(
        number=0,
        stage="pretrain",
        generation=0,
        first_step=0,
        first_update=0,
        first_tokens=0,
        first_row=0,
        recipe={},
        order={"seed": 1},
    )
    first = log.resume(0, segment)
    second = log.resume(10, replace(segment, generation=1, first_step=10))
    assert log.segments() == [first, second]
    file = tmp_path / "00001-pretrain.json"
    file.write_text("{")
    with pytest.raises(UserError, match=r"00001-pretrain\.json: not a run segment"):
        log.segments()
    third = log.resume(20, replace(segment, generation=1, first_step=20))
    assert third.number == 2
    assert (tmp_path / "00001-pretrain.json.damaged").is_file()
    # Which updates the first one ended with is known to nobody.
    with pytest.raises(UserError, match="run segment 1 is missing"):
        log.segments()
    # A run that begins again has lost nothing.
    assert log.resume(0, segment).number == 0
    assert len(log.segments()) == 1
