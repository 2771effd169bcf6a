"""Which checkpoints are published, under which names, and what is refused before."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from flexbert.commands import main
from flexbert.config.duration import Duration
from flexbert.errors import UserError
from flexbert.publish.published_recipe import published_recipe
from flexbert.publish.run_checkpoints import (
    RunCheckpoint,
    chosen,
    run_checkpoints,
    stage_and_step,
    tokens_text,
)
from tests.publish.loopback_hub import LoopbackHub
from tests.publish.written_runs import STAGES, STEPS, WrittenRun, revision, write_run

NAME = "our-team/tiny"
# What git refuses in the name of a branch, and a few characters that it does not.
NOT_IN_A_BRANCH = re.compile(r"[\s~^:?*\[\\]|\.\.|@\{|//|\.lock$|^[-/.]|[/.]$")


@pytest.fixture(scope="module")
def checkpoints(written: WrittenRun) -> list[RunCheckpoint]:
    return run_checkpoints(written.folder, STAGES)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (4_719_000_000, "4.7B"),
        (47_190_000_000, "47B"),
        (1_719_000_000_000, "1.7T"),
    ],
)
def test_tokens_are_short_in_names(count: int, text: str) -> None:
    assert tokens_text(count) == text


def test_names_are_branches_and_tell_stage_and_step(checkpoints: list[RunCheckpoint]) -> None:
    names = [checkpoint.revision for checkpoint in checkpoints]
    assert names == [revision(step) for step in STEPS]
    for name, checkpoint in zip(names, checkpoints, strict=True):
        assert not NOT_IN_A_BRANCH.search(name)
        assert stage_and_step(name) == (checkpoint.stage, checkpoint.step)
    assert stage_and_step("main") is None


@pytest.mark.parametrize(
    ("every", "stages", "steps"),
    [
        (None, [], [3, 6, 9, 12, 15]),
        ("6ba", [], [6, 12]),
        # No checkpoint stands at 5 and 10: those after them stand for them.
        ("5ba", [], [6, 12, 15]),
        ("7_000_000tok", [], [9, 15]),
        ("1ba", ["pretrain"], [3, 6, 9]),
        (None, ["decay"], [12, 15]),
        ("100ba", [], []),
    ],
)
def test_an_interval_and_a_stage_choose(
    checkpoints: list[RunCheckpoint], every: str | None, stages: list[str], steps: list[int]
) -> None:
    interval = None if every is None else Duration.parse(every)
    assert [checkpoint.step for checkpoint in chosen(checkpoints, interval, stages)] == steps


def test_the_end_of_a_stage_is_there_when_its_step_is_gone(run: WrittenRun) -> None:
    folder = run.folder / "checkpoints"
    shutil.copy(run.checkpoint(9), folder / "pretrain.pt")
    shutil.copy(run.checkpoint(15), folder / "decay.pt")
    for step in (3, 6, 9):
        run.checkpoint(step).unlink()
    found = run_checkpoints(run.folder, STAGES)
    assert [checkpoint.path.name for checkpoint in found] == [
        "pretrain.pt",
        "step-00000012.pt",
        "step-00000015.pt",
    ]


def test_a_fraction_and_an_unknown_stage_are_refused(checkpoints: list[RunCheckpoint]) -> None:
    with pytest.raises(UserError, match=r"--every 0\.1dur: give updates or tokens"):
        chosen(checkpoints, Duration.parse("0.1dur"), [])
    with pytest.raises(UserError, match="did you mean 'decay'"):
        chosen(checkpoints, None, ["decai"])


def test_what_cannot_be_published_is_one_line_and_nothing_is_asked_for(
    hub: LoopbackHub,
    run: WrittenRun,
    tmp_path: Path,
    word_tokenizer: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(run.folder)
    empty = tmp_path / "empty"
    shutil.copytree(run.folder, empty)
    shutil.rmtree(empty / "checkpoints")
    alibi = write_run(
        tmp_path / "alibi",
        word_tokenizer,
        [3],
        ["model.attention.alibi=true", "model.attention.rope=null"],
    )
    other = write_run(tmp_path / "other", word_tokenizer, [3], ["run_name=other"])
    cut = run.checkpoint(12)
    for arguments, words in (
        (["nowhere", NAME], "nowhere: no such run"),
        ([str(empty), NAME], "no checkpoint in it"),
        ([folder, "tiny"], "give OWNER/NAME"),
        ([folder, "our team/tiny"], "give OWNER/NAME"),
        ([folder, "our-team/tiny..git"], "no repository's name"),
        ([folder, NAME, "--every", "often"], "expected a duration"),
        ([folder, NAME, "--main", str(other.checkpoint(3))], "is of the run other, not of tiny"),
        ([folder, NAME, "--card-alone"], "--card-alone goes with --card"),
        ([str(alibi.folder), NAME], "no Hugging Face architecture of transformers"),
    ):
        assert main(["publish", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert main(["publish", folder, NAME]) == 2
    assert "step-00000012.pt: not a readable checkpoint" in capsys.readouterr().err
    assert hub.requests == []


def test_secrets_that_stand_in_a_recipe_are_left_out(written: WrittenRun) -> None:
    checkpoint = torch.load(written.checkpoint(3), weights_only=True)
    recipe = checkpoint["training"]["run"]
    recipe["data"] |= {"path": None, "remote": "s3://key:hunter2@host/bucket"}
    recipe["data"]["sources"] = {
        "web": {"path": "${oc.env:HOME_OF_DATA}/web", "weight": 2.0},
        "code": {"path": "relative/code", "weight": 1.0},
    }
    recipe["callbacks"] = {"mail": {"name": "mail", "token": "hunter2", "every": 3}}
    recipe["init_from"] = {"checkpoint": "/home/somebody/base.pt"}
    recipe["stages"]["decay"]["data"] = {"sources": {"web": {"path": "/home/somebody/web"}}}
    text = published_recipe(recipe).text
    for hidden in ("hunter2", "HOME_OF_DATA", "relative/code", "somebody", "s3:", "our-entity"):
        assert hidden not in text
    for kept in ("weight: 2.0", "every: 3", "name: mail"):
        assert kept in text
