"""``results.jsonl``: what is written is read, and what is damaged loses itself alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexbert.config.encode import encode
from flexbert.errors import UserError
from flexbert.tasks.predictions_file import (
    FitPredictions,
    SplitPredictions,
    read_predictions,
    write_predictions,
)
from flexbert.tasks.results import RESULTS, FitRecord, append_result, predictions_path, read_results
from tests.conftest import REPOSITORY
from tests.tasks.fits import FULL, fit


def numbered(seed: int) -> FitRecord:
    return fit(0.5, seed=seed)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    append_result(tmp_path / "glue", FULL)
    assert read_results(tmp_path / "glue") == [FULL]
    assert read_results(tmp_path / "glue" / RESULTS) == [FULL]


def test_a_line_is_the_contract(tmp_path: Path) -> None:
    append_result(tmp_path, FULL)
    plain = json.loads((tmp_path / RESULTS).read_text())
    assert list(plain) == [field.name for field in dataclasses.fields(FitRecord)]
    assert plain["point"] == {"optimizer.lr": 1e-5, "epochs": 2}
    assert plain["data"] == {"train": {"source": "hf:glue", "fingerprint": "abc"}}
    assert plain["evaluations"] == [
        {"update": 6, "epoch": 0.75, "loss": 0.5, "metrics": {"accuracy": 0.7}}
    ]


def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path: Path) -> None:
    append_result(tmp_path, fit(math.nan))
    assert '"value": null' in (tmp_path / RESULTS).read_text()
    assert math.isnan(read_results(tmp_path)[0].value)


def test_a_half_last_line_is_passed_over_silently_and_spoils_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_result(tmp_path, numbered(1))
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"fit": "01')
    assert read_results(tmp_path) == [numbered(1)]
    assert capsys.readouterr().err == ""
    append_result(tmp_path, numbered(2))
    assert read_results(tmp_path) == [numbered(1), numbered(2)]
    assert "1 lines are no fits, and are passed over (line 2: " in capsys.readouterr().err


def test_a_whole_last_line_without_its_end_counts(tmp_path: Path) -> None:
    append_result(tmp_path, numbered(1))
    file = tmp_path / RESULTS
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    assert read_results(tmp_path) == [numbered(1)]
    append_result(tmp_path, numbered(2))
    assert read_results(tmp_path) == [numbered(1), numbered(2)]


def test_of_two_lines_of_one_fit_the_last_counts(tmp_path: Path) -> None:
    for value in (0.1, 0.2):
        append_result(tmp_path, fit(value))
    assert [record.value for record in read_results(tmp_path)] == [0.2]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fit": "12"}, "fit: not 16 hex digits"),
        ({"mode": "tuned"}, "mode: none of fine_tune, frozen, floor"),
        ({"seed": 1.5}, "seed: no whole number"),
        ({"value": "high"}, "value: no number"),
        ({"metric": "mcc"}, "metric: no mcc among its metrics"),
        ({"tests": {"other": 3}}, "other: no mapping by names"),
        ({"evaluations": 3}, "evaluations: no list"),
        ({"data": {"train": {"source": "a"}}}, "'fingerprint' is missing"),
        ({"updates": None}, "updates: no whole number"),
    ],
)
def test_a_value_that_is_none_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    (tmp_path / RESULTS).write_text(json.dumps({**encode(FULL), **changes}) + "\n")
    with pytest.raises(UserError, match=f"no fit in it .line 1: {problem}"):
        read_results(tmp_path)


def test_a_key_of_a_later_version_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(json.dumps({**encode(FULL), "later": 1}) + "\n")
    assert read_results(tmp_path) == [FULL]


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results.jsonl there; give the folder"):
        read_results(tmp_path)
    (tmp_path / RESULTS).write_text("")
    with pytest.raises(UserError, match="no fit in it yet"):
        read_results(tmp_path)


def _append(folder: Path, begin: int) -> None:
    for seed in range(begin, begin + 30):
        append_result(folder, numbered(seed))


def test_two_processes_that_add_at_once_lose_no_fit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(tmp_path, begin)) for begin in (0, 30)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(record.seed for record in read_results(tmp_path)) == list(range(60))


def test_a_fit_that_was_said_to_be_written_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import dataclasses, pathlib, sys\n"
        "from flexbert.tasks.results import append_result\n"
        "from tests.tasks.fits import fit\n"
        "for seed in range(10**6):\n"
        "    append_result(pathlib.Path(sys.argv[1]), fit(0.5, seed=seed))\n"
        "    print(seed, flush=True)\n"
    )
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        said += map(int, process.stdout.read().split())
        process.wait()
        assert set(said) <= {record.seed for record in read_results(tmp_path)}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(FitRecord)])
def test_any_value_in_any_place_is_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    oddities: list[Any] = [None, True, -1, 1e308, 10**400, "", "x", [], [1], {}, {"a": 1}, [[]]]
    for value in oddities:
        (tmp_path / RESULTS).write_text(json.dumps({**encode(FULL), name: value}))
        with contextlib.suppress(UserError):
            (record,) = read_results(tmp_path)
            append_result(tmp_path / "again", record)
    without = {key: value for key, value in encode(FULL).items() if key != name}
    (tmp_path / RESULTS).write_text(json.dumps(without) + "\n")
    with pytest.raises(UserError, match=f"line 1: '{name}' is missing"):
        read_results(tmp_path)


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = predictions_path(tmp_path, FULL.fit)
    assert path == tmp_path / str(FULL.predictions)
    tokens = SplitPredictions(
        predictions=np.array([0, 1, 1]),
        labels=np.array([0, 1, 0]),
        lengths=np.array([1, 2]),
        scores=np.eye(3, 2, dtype=np.float32),
    )
    texts = SplitPredictions(predictions=np.array(["a", ""]), labels=np.array(["b", "é"]))
    written = FitPredictions(label_names=("no", "yes"), splits={"validation": tokens, "a.b": texts})
    write_predictions(path, written)
    found = read_predictions(path)
    assert found.label_names == ("no", "yes")
    assert list(found.splits) == ["validation", "a.b"]
    for name, split in written.splits.items():
        for part in ("predictions", "labels", "lengths", "scores"):
            np.testing.assert_equal(getattr(found.splits[name], part), getattr(split, part))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_what_is_no_file_of_predictions_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.npz"
    with pytest.raises(UserError, match=r"damaged.npz: not there; the fit's predictions were not"):
        read_predictions(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.npz: no predictions of a fit"):
        read_predictions(path)


def test_a_damaged_file_of_predictions_is_read_right_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "fit.npz"
    split = SplitPredictions(predictions=np.arange(300), labels=np.arange(300))
    write_predictions(path, FitPredictions(label_names=("a", "b"), splits={"test": split}))
    sound = path.read_bytes()
    refused = 0
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            found = read_predictions(path)
        except UserError:
            refused += 1
            continue
        # Names of arrays and dates are under no checksum.
        for kept in found.splits.values():
            np.testing.assert_array_equal(kept.labels, split.labels)
    assert refused > len(sound) / 7 / 2


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"predictions": [1, 2], "labels": [1]}, "2 predictions do not go with 1 labels"),
        ({"predictions": [[1]], "labels": [1]}, "predictions and labels are no lists"),
        ({"predictions": [1], "labels": [1], "lengths": [2]}, "lengths are not those of 1 labels"),
        ({"predictions": [1], "labels": [1], "lengths": [1.0]}, "lengths are no counts"),
        ({"predictions": [1]}, "labels"),
        ({"predictions": [1], "labels": [1], "logits": [1]}, "test.logits is no array"),
    ],
)
def test_arrays_that_do_not_go_together_are_one_line(
    tmp_path: Path, arrays: dict[str, list[Any]], problem: str
) -> None:
    path = tmp_path / "fit.npz"
    np.savez(path, **{f"test.{name}": np.array(array) for name, array in arrays.items()})
    with pytest.raises(UserError, match=f"fit.npz: no predictions of a fit .*{problem}"):
        read_predictions(path)
