"""Checkpoints of a run become revisions that transformers loads, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

import flexbert
from flexbert.checkpoint.checkpoint_file import read_checkpoint, write_checkpoint
from flexbert.commands import main
from tests.conftest import REPOSITORY
from tests.publish.conftest import speak_to
from tests.publish.loopback_hub import TOKEN, Fault, LoopbackHub
from tests.publish.written_runs import STEPS, WrittenRun, revision

NAME = "our-team/tiny"
Output = pytest.CaptureFixture[str]
REVISIONS = [revision(step) for step in STEPS]
COMMIT, BRANCH, LARGE = r"/commit/", r"/branch/", r"^/large/"


def publish(run: WrittenRun, *more: str, name: str = NAME, code: int = 0) -> None:
    assert main(["publish", str(run.folder), name, *more]) == code


def published_logits(revision: str, cache: Path, ids: Tensor, name: str = NAME) -> Tensor:
    """What transformers computes with a revision, loaded as anybody would."""
    where = {"revision": revision, "cache_dir": cache}
    model = transformers.AutoModelForMaskedLM.from_pretrained(name, **where)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
    assert tokenizer("w11 w12")["input_ids"] == [5, 11, 12, 7]
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=ids).logits
    return logits


def assert_revisions_give_our_logits(run: WrittenRun, cache: Path) -> None:
    ids = torch.randint(10, 100, (2, 30), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for name, step in [*zip(REVISIONS, STEPS, strict=True), ("main", STEPS[-1])]:
        ours = flexbert.load_model(run.checkpoint(step))
        with torch.no_grad():
            expected = ours(ids, mask)
        torch.testing.assert_close(
            published_logits(name, cache / name, ids), expected, rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_every_checkpoint_is_a_revision_that_loads_in_transformers(
    hub: LoopbackHub, run: WrittenRun, tmp_path: Path, capsys: Output
) -> None:
    publish(run)
    repository = hub.repositories[NAME]
    assert set(repository.branches) == {"main", *REVISIONS}
    # Each lies upon the empty beginning alone, and main is the newest commit of all.
    assert all(len(repository.history(name)) == 2 for name in repository.branches)
    assert list(repository.commits)[-1] == repository.branches["main"]
    assert_revisions_give_our_logits(run, tmp_path)
    # main has the weights of the last revision, which are uploaded once.
    assert len(hub.uploads) == len(set(hub.uploads)) == len(STEPS)
    output = capsys.readouterr()
    assert hub.endpoint in output.out
    assert TOKEN not in output.out + output.err
    assert not (run.folder / "publish").exists()


def test_what_is_there_is_skipped(hub: LoopbackHub, run: WrittenRun, capsys: Output) -> None:
    publish(run, "--stage", "decay")
    before = dict(hub.repositories[NAME].branches)
    hub.requests.clear()
    capsys.readouterr()
    publish(run, "--stage", "decay")
    assert hub.repositories[NAME].branches == before
    assert hub.writes() == ["/api/repos/create"]
    assert capsys.readouterr().out.count("is there") == len(before)


def test_a_run_that_went_on_is_published_on_and_earlier_revisions_stay(
    hub: LoopbackHub, run: WrittenRun, capsys: Output
) -> None:
    later = run.checkpoint(15).rename(run.folder / "later")
    publish(run, "--stage", "decay")
    assert "has not reached its end" in capsys.readouterr().out
    repository = hub.repositories[NAME]
    before = dict(repository.branches)
    assert set(before) == {"main", revision(12)}
    later.rename(run.checkpoint(15))
    publish(run, "--stage", "decay")
    assert "has not reached its end" not in capsys.readouterr().out
    assert repository.branches[revision(12)] == before[revision(12)]
    # It begins where the first one began: nothing of main is in it.
    assert len(repository.history(revision(15))) == 2
    assert json.loads(repository.files("main")["flexbert.json"])["step"] == 15
    assert repository.history("main")[1] == before["main"]
    assert revision(12) in repository.files("main")["README.md"].decode()


# At which request a process is killed: before the Hub does what it asks, or when it has done it.
MOMENTS: dict[str, Fault] = {
    "before the first branch": Fault("POST", BRANCH),
    "between a branch and its commit": Fault("POST", BRANCH, is_done=True, skip=1),
    "in an upload": Fault("PUT", LARGE, skip=1),
    "before a commit": Fault("POST", COMMIT, skip=1),
    "after a commit": Fault("POST", COMMIT, is_done=True),
    "before main": Fault("POST", r"/commit/main"),
    "after main": Fault("POST", r"/commit/main", is_done=True),
}


def _publish_in_child(endpoint: str, cache: Path, arguments: Sequence[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        speak_to(endpoint, TOKEN, cache, patch)
        torch.set_num_threads(1)
        raise SystemExit(main(["publish", *arguments]))


def start(hub: LoopbackHub, cache: Path, run: WrittenRun) -> BaseProcess:
    """Start the command as a process of its own, which has imported everything before."""
    arguments = (hub.endpoint, cache, [str(run.folder), NAME])
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_publish_in_child, args=arguments)
    process.start()
    return process


@pytest.mark.slow
def test_killed_at_every_kind_of_moment_the_same_command_goes_on(
    hub: LoopbackHub, run: WrittenRun, tmp_path: Path
) -> None:
    for moment, fault in MOMENTS.items():
        process: list[BaseProcess] = []

        def kill(process: list[BaseProcess] = process) -> None:
            pid = process[0].pid or 0
            os.kill(pid, signal.SIGKILL)
            # Until it is gone; whoever started it still learns how.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        fault.action = kill
        hub.faults = [fault]
        process.append(start(hub, tmp_path / "cache", run))
        process[0].join(120)
        assert process[0].exitcode == -signal.SIGKILL, moment
        if moment != "after main":
            assert list(hub.repositories[NAME].files("main")) == [".gitattributes"]
    hub.faults = []
    last = start(hub, tmp_path / "cache", run)
    last.join(120)
    assert last.exitcode == 0
    repository = hub.repositories[NAME]
    assert set(repository.branches) == {"main", *REVISIONS}
    assert all(len(repository.history(name)) == 2 for name in repository.branches)
    assert_revisions_give_our_logits(run, tmp_path / "models")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", r"/refs$", status=503),
        Fault("POST", r"/api/repos/create", status=500),
        Fault("POST", BRANCH, status=500),
        Fault("POST", BRANCH, is_done=True),
        Fault("POST", r"/preupload/"),
        Fault("POST", r"/objects/batch", status=429),
        Fault("POST", COMMIT, status=502),
        Fault("POST", COMMIT),
        Fault("POST", COMMIT, is_done=True),
    ],
    ids=lambda fault: f"{fault.path} {fault.status or 'dropped'} {fault.is_done}",
)
def test_a_hub_that_fails_once_is_asked_again(
    hub: LoopbackHub, run: WrittenRun, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    fault.times = 1
    hub.faults = [fault]
    publish(run, "--every", "15ba")
    assert fault.times == 0
    repository = hub.repositories[NAME]
    assert set(repository.branches) == {"main", revision(15)}
    assert all(len(repository.history(name)) == 2 for name in repository.branches)


def one_line_error(capsys: Output) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("POST", COMMIT, times=-1, status=500, message="out of order"), "500: out of order"),
        (Fault("POST", COMMIT, times=-1), "no connection to the Hub"),
        (Fault("POST", COMMIT, times=-1, status=403, message="too full"), "403): too full"),
        (Fault("PUT", LARGE, times=-1, status=403, message="?X-Amz-Signature=signed"), "403"),
    ],
    ids=["fails", "dropped", "refused", "upload"],
)
def test_a_hub_that_goes_on_failing_is_one_line(
    hub: LoopbackHub, run: WrittenRun, capsys: Output, fault: Fault, words: str
) -> None:
    hub.faults = [fault]
    publish(run, "--every", "15ba", code=2)
    error = one_line_error(capsys)
    assert words in error
    assert TOKEN not in error
    assert not (run.folder / "publish").exists()
    hub.faults = []
    publish(run, "--every", "15ba")
    assert len(hub.repositories[NAME].history(revision(15))) == 2


@pytest.mark.parametrize(
    ("token", "words"),
    [("hf_unknown", "does not know the token (401)"), ("hf_reader", "may not write there (403)")],
)
def test_a_token_that_does_not_do_is_one_line(
    hub: LoopbackHub,
    run: WrittenRun,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    words: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    publish(run, code=2)
    error = one_line_error(capsys)
    assert words in error
    assert token not in error
    assert not hub.repositories


def test_without_a_token_nothing_is_begun(
    hub: LoopbackHub, run: WrittenRun, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(run.folder / "none"))
    publish(run, code=2)
    assert "no token to write with" in one_line_error(capsys)
    assert hub.requests == []


def test_nobody_there_is_one_line(
    hub: LoopbackHub, run: WrittenRun, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    publish(run, code=2)
    assert "no connection to the Hub" in one_line_error(capsys)


def test_a_dry_run_changes_nothing_and_says_what_would_be_uploaded(
    hub: LoopbackHub, run: WrittenRun, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run, "--dry-run")
    output = capsys.readouterr().out
    assert hub.writes() == []
    for name, step in zip(REVISIONS, STEPS, strict=True):
        (line,) = [line for line in output.splitlines() if line.strip().startswith(f"{name} ")]
        assert f"step-{step:08d}.pt, step {step}, {step},000,000 tokens" in line
        assert "is to be uploaded" in line
    assert "## Limits" in output
    publish(run, "--stage", "decay")
    capsys.readouterr()
    publish(run, "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert sum("is there" in line for line in lines) == 3
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    publish(run, "--dry-run")
    assert "note: what is there already is not known" in capsys.readouterr().out
    assert not (run.folder / "publish").exists()


@pytest.mark.slow
def test_a_revision_that_is_taken_is_not_written_over(
    hub: LoopbackHub, run: WrittenRun, capsys: Output
) -> None:
    hub.create(NAME)
    hub.add(NAME, revision(6), {"config.json": b"{}"})
    publish(run, code=2)
    error = one_line_error(capsys)
    assert revision(6) in error
    assert "config.json" in error
    assert set(hub.repositories[NAME].branches) == {"main", revision(6)}
    publish(run, "--replace")
    assert set(hub.repositories[NAME].branches) == {"main", *REVISIONS}
    assert "vocab_size" in hub.repositories[NAME].files(revision(6))["config.json"].decode()


@pytest.mark.slow
def test_another_checkpoint_of_the_same_name_is_not_written_over(
    hub: LoopbackHub, run: WrittenRun, capsys: Output
) -> None:
    publish(run, "--stage", "decay")
    # The run was made again, with other weights.
    checkpoint = read_checkpoint(run.checkpoint(12))
    name = next(iter(checkpoint.model))
    changed = {**checkpoint.model, name: checkpoint.model[name] + 1}
    write_checkpoint(run.checkpoint(12), replace(checkpoint, model=changed))
    publish(run, "--stage", "decay", code=2)
    assert "another checkpoint of this run, after update 12" in one_line_error(capsys)
    publish(run, "--stage", "decay", "--replace")
    record = json.loads(hub.repositories[NAME].files(revision(12))["flexbert.json"])
    assert record["checkpoint"] != ""
    assert len(hub.repositories[NAME].history(revision(12))) == 3


@pytest.mark.slow
def test_a_card_that_was_changed_there_is_kept(
    hub: LoopbackHub, run: WrittenRun, capsys: Output
) -> None:
    publish(run, "--every", "15ba")
    hub.add(NAME, "main", {"README.md": b"my own words", "LICENSE": b"free"})
    publish(run, "--every", "15ba", "--license", "mit")
    assert "note: main: its README.md was changed there, and is kept" in capsys.readouterr().out
    files = hub.repositories[NAME].files("main")
    assert (files["README.md"], files["LICENSE"]) == (b"my own words", b"free")
    # That of the revision is ours, and is written again without the weights.
    assert b"license: mit" in hub.repositories[NAME].files(revision(15))["README.md"]
    assert len(hub.uploads) == 1
    publish(run, "--every", "15ba", "--license", "mit", "--replace")
    assert b"license: mit" in hub.repositories[NAME].files("main")["README.md"]


def test_a_private_repository_stays_private_and_a_public_one_is_not_taken_for_it(
    hub: LoopbackHub, run: WrittenRun, capsys: Output
) -> None:
    publish(run, "--every", "15ba", "--private")
    assert hub.repositories[NAME].private
    del hub.repositories[NAME]
    hub.create(NAME)
    publish(run, "--every", "15ba", "--private", code=2)
    assert "is public" in one_line_error(capsys)
    assert set(hub.repositories[NAME].branches) == {"main"}


def test_main_may_be_an_average_of_the_run(
    hub: LoopbackHub, run: WrittenRun, tmp_path: Path, capsys: Output
) -> None:
    average = tmp_path / "average.pt"
    paths = [str(run.checkpoint(step)) for step in (12, 15)]
    assert main(["average", *paths, "--out", str(average)]) == 0
    # A process remembers which commit main is, and this is another hub.
    name = "our-team/average"
    publish(run, "--every", "15ba", "--main", str(average), name=name)
    ids = torch.arange(10, 40)[None]
    ours = flexbert.load_model(average)
    torch.testing.assert_close(
        published_logits("main", tmp_path / "models", ids, name),
        ours(ids, torch.ones_like(ids)).detach(),
        rtol=1e-4,
        atol=1e-4,
    )
    card = hub.repositories[name].files("main")["README.md"].decode()
    assert "an average of checkpoints of the run `tiny`: `step-00000012.pt`" in card
    assert str(run.folder) not in card


def test_two_commands_do_not_publish_one_run_at_once(
    hub: LoopbackHub, run: WrittenRun, capsys: Output
) -> None:
    codes: list[int] = []
    fault = Fault("POST", COMMIT, is_done=True, status=500)
    fault.action = lambda: codes.append(main(["publish", str(run.folder), NAME]))
    hub.faults = [fault]
    publish(run, "--every", "15ba")
    assert codes == [2]
    assert "another process is publishing it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_is_one_line(
    hub: LoopbackHub, run: WrittenRun, small_disk: Path, capsys: Output
) -> None:
    folder = small_disk / "tiny"
    shutil.copytree(run.folder, folder)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(free - 100_000))
    publish(WrittenRun(folder=folder, weights={}), code=2)
    assert "No space left" in one_line_error(capsys)
    (small_disk / "filler").unlink()
    publish(WrittenRun(folder=folder, weights={}))
    assert set(hub.repositories[NAME].branches) == {"main", *REVISIONS}


@pytest.mark.slow
def test_the_endpoint_and_the_token_are_the_environments(run: WrittenRun, tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        command = [sys.executable, "-m", "flexbert.commands", "publish", run.folder, NAME]
        done = subprocess.run(
            [*command, "--every", "15ba"],
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    assert set(hub.repositories[NAME].branches) == {"main", revision(15)}
    assert done.stdout.splitlines()[-1] == f"{hub.endpoint}/{NAME}"
    assert TOKEN not in done.stdout + done.stderr
