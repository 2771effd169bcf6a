"""Tasks of several machines, merges and kills: the corpus is the same, byte for byte."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.build_corpus import TASK_FILE
from data_prep.cli import main
from data_prep.corpus_manifest import MANIFEST_FILE
from tests.conftest import REPOSITORY, run_data_prep

TASKS = 3
LABELS = ("good", "fair", None)
OPTIONS = ("--part-size", "50kb", "--shard-size", "32kb", "--validation", "0.1", "--quiet")
OPTIONS = (*OPTIONS, "--label-field", "quality", "--deduplicate")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of many lengths; every seventh repeats one that may be another machine's."""
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    numbers = [n if n % 7 or n < 700 else n - 700 for n in range(1500)]
    texts = [f"{n} " + "some words to tokenize " * (n % 50) for n in numbers]
    lines = [{"text": t, "quality": LABELS[n % 3]} for n, t in enumerate(texts)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{oops\n")
    return file


@pytest.fixture(scope="module")
def whole(rows: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = tmp_path_factory.mktemp("whole") / "corpus"
    run_data_prep(*corpus_command(rows, tokenizer, corpus))
    return corpus


@pytest.fixture(scope="module")
def tasks(rows: Path, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tasks")
    made = [folder / f"{number}" for number in range(TASKS)]
    for number, task in enumerate(made):
        command = corpus_command(rows, tokenizer, task)
        run_data_prep(*command, "--task", f"{number}/{TASKS}", "--workers", number + 1)
    return made


def corpus_command(rows: Path, tokenizer: Path, out: Path) -> list[str]:
    return ["corpus", "--tokenizer", str(tokenizer), "--out", str(out), *OPTIONS, str(rows)]


def merge_command(tasks: list[Path], out: Path) -> list[str]:
    return ["merge", "--out", str(out), "--quiet", *map(str, tasks)]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def kill_at(stage: Path, command: list[str]) -> None:
    """Run a command and kill it as soon as ``stage`` is there."""
    with subprocess.Popen(
        [sys.executable, "-m", "data_prep", *command], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not stage.exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, f"ended before {stage}"


def test_merged_tasks_are_the_corpus_of_one_machine(
    tasks: list[Path], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((whole / "report.json").read_text())
    assert report["duplicates"]["removed"]
    assert report["duplicates"]["documents"] == 100
    assert len(list((whole / "train").glob("*.mds"))) > 3
    before = [files(task) for task in tasks]
    merged = tmp_path / "merged"
    run_data_prep(*merge_command(tasks[::-1], merged))
    assert files(merged) == files(whole)
    assert [files(task) for task in tasks] == before
    capsys.readouterr()
    run_data_prep(*merge_command(tasks, merged))
    assert "is complete" in capsys.readouterr().out


@pytest.mark.slow
def test_a_corpus_killed_at_any_stage_ends_as_the_uninterrupted_one(
    rows: Path, tokenizer: Path, whole: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "corpus"
    command = corpus_command(rows, tokenizer, killed)
    for stage in ("parts/part-000001", ".work", "train/shard.00003.mds", "report.json"):
        kill_at(killed / stage, command)
    run_data_prep(*command)
    assert files(killed) == files(whole)


@pytest.mark.slow
def test_tasks_and_a_merge_killed_end_as_the_uninterrupted_ones(
    rows: Path, tokenizer: Path, tasks: list[Path], whole: Path, tmp_path: Path
) -> None:
    killed, merged = tmp_path / "task", tmp_path / "merged"
    command = [*corpus_command(rows, tokenizer, killed), "--task", f"1/{TASKS}"]
    kill_at(killed / "parts" / "part-000001", command)
    run_data_prep(*command)
    assert files(killed) == files(tasks[1])
    command = merge_command([tasks[0], killed, tasks[2]], merged)
    for stage in ("train/shard.00001.mds", "validation/index.json"):
        kill_at(merged / stage, command)
    run_data_prep(*command)
    assert files(merged) == files(whole)


def test_shards_that_are_there_are_kept_and_cut_off_ones_are_written_again(
    rows: Path, tokenizer: Path, tasks: list[Path], whole: Path, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(whole, merged)
    kept, cut = merged / "train" / "shard.00000.mds", merged / "train" / "shard.00001.mds"
    cut.write_bytes(cut.read_bytes()[:-1])
    (merged / "train" / ".shard.00002.mds.tmp").write_bytes(b"x")
    (merged / "corpus.json").unlink()
    written = kept.stat().st_mtime_ns
    run_data_prep(*merge_command(tasks, merged))
    assert files(merged) == files(whole)
    assert kept.stat().st_mtime_ns == written


def test_a_part_that_a_crash_left_incomplete_is_made_again(
    rows: Path, tokenizer: Path, tasks: list[Path], tmp_path: Path
) -> None:
    task = tmp_path / "task"
    shutil.copytree(tasks[0], task)
    (task / TASK_FILE).unlink()
    parts = sorted((task / "parts").glob("part-*"))
    (parts[0] / "tokens.bin").write_bytes(b"")
    (parts[1] / "counts.json").write_bytes(b"")
    run_data_prep(*corpus_command(rows, tokenizer, task), "--task", f"0/{TASKS}")
    assert files(task) == files(tasks[0])


def test_a_finished_task_says_so_and_is_no_other(
    rows: Path, tokenizer: Path, tasks: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = corpus_command(rows, tokenizer, tasks[0])
    run_data_prep(*command, "--task", f"0/{TASKS}")
    assert "is complete" in capsys.readouterr().out
    assert main([*command, "--task", f"1/{TASKS}"]) == 2
    assert "task was '0/3', now '1/3'" in capsys.readouterr().err


def change_manifest(task: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((task / MANIFEST_FILE).read_text())
    change(manifest)
    (task / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_copies_of_the_inputs_may_have_other_times(
    tasks: list[Path], whole: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    shutil.copytree(tasks[2], later)
    change_manifest(later, lambda manifest: manifest["files"][0].update(modified=1))
    run_data_prep(*merge_command([*tasks[:2], later], tmp_path / "merged"))
    assert files(tmp_path / "merged") == files(whole)


# What becomes of the last task, and words of the message.
MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "is no task of a corpus"),
    "unfinished": (lambda task: (task / TASK_FILE).unlink(), "task 2/3 is not finished"),
    "other settings": (
        lambda task: change_manifest(task, lambda m: m.update(validation=0.2)),
        "validation was 0.1, now 0.2",
    ),
    "other inputs": (
        lambda task: change_manifest(task, lambda m: m["files"][0].update(size=1)),
        "input a.jsonl has changed (size was",
    ),
    "of another number": (
        lambda task: change_manifest(task, lambda m: m.update(task="2/4")),
        "one of 3 tasks, now one of 4",
    ),
    "the same again": (
        lambda task: change_manifest(task, lambda m: m.update(task="1/3")),
        "are both task 1/3",
    ),
    "a whole corpus": (
        lambda task: change_manifest(task, lambda m: m.update(task="0/1")),
        "is a whole corpus",
    ),
    "part gone": (
        lambda task: shutil.rmtree(task / "parts" / "part-000002"),
        "part-000002: missing or damaged",
    ),
    "part cut off": (
        lambda task: (task / "parts" / "part-000002" / "tokens.bin").write_bytes(b""),
        "part-000002: a file is missing or cut off",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_merge_of_tasks_that_do_not_fit_is_refused(
    tasks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    damage, words = MISTAKES[what]
    last = tmp_path / "last"
    shutil.copytree(tasks[2], last)
    damage(last)
    assert main(merge_command([*tasks[:2], last], tmp_path / "merged")) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "merged" / "corpus.json").exists()


@pytest.mark.slow
def test_there_may_be_more_machines_than_parts(rows: Path, tokenizer: Path, tmp_path: Path) -> None:
    options = ("--tokenizer", tokenizer, "--quiet")
    run_data_prep("corpus", *options, "--out", tmp_path / "whole", rows)
    folders = [tmp_path / f"{number}" for number in range(3)]
    for number, folder in enumerate(folders):
        run_data_prep("corpus", *options, "--out", folder, "--task", f"{number}/3", rows)
    run_data_prep(*merge_command(folders, tmp_path / "merged"))
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_a_merge_names_the_missing_shards(
    tasks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(merge_command(tasks[1:2], tmp_path / "merged")) == 2
    assert "of 3 tasks, 0/3, 2/3 are not among the folders" in capsys.readouterr().err
