"""Rows of every format, what is held out of them, and names of classes."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from flexbert.tasks.suite import load_suite
from flexbert.tasks.tables import Table, TaskRow, read_table
from flexbert.tasks.task_data import TaskExamples, held_out, read_task
from tests.tasks.cases import rows_of, write_jsonl, write_suite

ROWS = [
    {"text": 'of a "quoted", text\nof two lines', "label": 1, "score": 0.5},
    {"text": "naïve \u4e2d\u6587 \U0001f600", "label": 0, "score": 2.0},
    {"text": "", "label": 1, "score": 1.25},
    *({"text": f"number {n}", "label": n % 2, "score": n / 8} for n in range(30)),
]


def fingerprint_of(rows: list[TaskRow]) -> str:
    return Table(source="a", rows=rows).fingerprint


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Rows as a file of the format that its name says."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), plain)
    elif plain.suffix == ".jsonl":
        write_jsonl(plain, rows)
    else:
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), delimiter="\t" if ".tsv" in plain.name else ",")
        table.writeheader()
        table.writerows(rows)
        plain.write_text(text.getvalue(), newline="")
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def examples_of(folder: Path, source: Path | str, **kind: Any) -> TaskExamples:
    node = {
        "data": {"train": str(source)},
        "kind": {"name": "classification", **kind},
        "metrics": ["accuracy"],
    }
    return read_task(load_suite(write_suite(folder, {"task": node})).tasks["task"])


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.csv.gz", "a.jsonl.gz"])
def test_the_same_rows_give_the_same_examples_in_any_format(tmp_path: Path, name: str) -> None:
    expected = examples_of(tmp_path, write(tmp_path / "b.jsonl", ROWS))
    found = examples_of(tmp_path, write(tmp_path / name, ROWS))
    assert found.splits == expected.splits
    assert found.names == expected.names == ("0", "1")
    for split, data in expected.data.items():
        assert found.data[split].fingerprint == data.fingerprint


def test_the_same_rows_are_held_out_whatever_their_order(tmp_path: Path) -> None:
    rows = ROWS * 2

    def held(order: list[int]) -> tuple[set[str], set[str]]:
        table = Table(source="a", rows=[rows[i] for i in order])
        kept, out = held_out(table, 0.2)
        assert len(kept.rows) + len(out.rows) == len(rows)
        return {row["text"] for row in kept.rows}, {row["text"] for row in out.rows}

    order = list(range(len(rows)))
    kept, out = held(order)
    assert len(out) == round(0.2 * len(ROWS))
    assert not kept & out, "equal rows stay together"
    random.Random(0).shuffle(order)
    assert held(order) == (kept, out)


def test_a_fingerprint_is_of_the_rows_and_their_order() -> None:
    assert fingerprint_of(ROWS) != fingerprint_of(ROWS[::-1])
    assert fingerprint_of(ROWS) != fingerprint_of(ROWS[:-1])
    other = [{**ROWS[0], "label": 0}, *ROWS[1:]]
    assert fingerprint_of(ROWS) != fingerprint_of(other)
    turned = [dict(reversed(row.items())) for row in ROWS]
    assert fingerprint_of(ROWS) == fingerprint_of(turned), "columns have no order"


def test_a_class_whose_rows_are_all_held_out_is_known(tmp_path: Path) -> None:
    rows = rows_of("classification", 40)
    for index in range(40):
        rare = [*rows, {"text": f"w{index + 40}", "label": "rare"}]
        found = examples_of(tmp_path, write_jsonl(tmp_path / "a.jsonl", rare))
        assert "rare" in found.names
        if found.names.index("rare") in found.splits["validation"].labels:
            return
    raise AssertionError("the rare row was never held out")


def test_classes_of_a_dataset_go_by_their_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["zebra", "ant"]),
        }
    )
    rows = {"text": [f"text {n}" for n in range(20)], "label": [n % 2 for n in range(20)]}
    (tmp_path / "data").mkdir()
    dataset = datasets.Dataset.from_dict(rows, features=features)
    dataset.to_parquet(tmp_path / "data" / "train.parquet")
    found = read_table(f"hf:{tmp_path / 'data'}::train")
    assert [row["label"] for row in found.rows[:3]] == ["zebra", "ant", "zebra"]
    given = examples_of(tmp_path, f"hf:{tmp_path / 'data'}::train", labels=["zebra", "ant"])
    assert given.names == ("zebra", "ant")


def test_numbers_name_classes_by_their_value_and_texts_by_letter(tmp_path: Path) -> None:
    def names(labels: list[Any]) -> tuple[str, ...]:
        rows = [{"text": f"{n}", "label": label} for n, label in enumerate(labels * 4)]
        return examples_of(tmp_path, write_jsonl(tmp_path / "a.jsonl", rows)).names

    assert names([10, 9, -1]) == ("-1", "9", "10")
    assert names(["b", "10", "9"]) == ("10", "9", "b")
    assert names([True, False]) == ("False", "True")
    assert names(["--1", "1"]) == ("--1", "1")


def test_a_label_is_a_number_only_where_names_are_given(tmp_path: Path) -> None:
    rows = [{"text": f"{n}", "label": n % 2} for n in range(20)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = examples_of(tmp_path, path, labels=["no", "yes"])
    train = found.splits["train"]
    for text, label in zip(train.first, train.labels, strict=True):
        assert found.names[label] == ("no", "yes")[int(str(text)) % 2]
