"""Rows of all tasks, made of small packages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from flexbert.tasks.offline import task_makers
from flexbert.tasks.offline.code_names import LABELS
from flexbert.tasks.offline.installed import GENERATOR_VERSION
from flexbert.tasks.offline.module_splits import SPLITS, split_of
from flexbert.tasks.offline.package_topic import masked_paragraph
from flexbert.tasks.offline.task_makers import TASKS, make_tasks
from tests.tasks.offline.small_packages import PACKAGES, modules_of, write_packages

Made = dict[str, dict[str, list[dict[str, Any]]]]
COLUMNS = {
    "code_names": {"tokens", "labels"},
    "docstring_choice": {"code", "choices", "label"},
    "docstring_match": {"docstring", "code", "label"},
    "package_topic": {"text", "label"},
    "relatedness": {"first", "second", "score"},
}
# Rows of the small packages; a change that gives others needs another GENERATOR_VERSION.
DIGEST = {1: "4a215661eb5ed602"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    write_packages(site)
    return site


@pytest.fixture(scope="module")
def made(site: Path) -> Made:
    return make_tasks([], [str(site)])


def texts_of(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        for column, value in row.items():
            if column in ("code", "docstring", "text", "first", "second"):
                yield value
            elif column == "choices":
                yield from value
            elif column == "tokens":
                yield " ".join(value)


def test_every_task_has_rows_of_its_columns_in_every_split(made: Made) -> None:
    assert set(made) == set(TASKS) == set(COLUMNS)
    for task, splits in made.items():
        assert tuple(splits) == SPLITS
        for rows in splits.values():
            assert rows
            assert all(set(row) == COLUMNS[task] for row in rows)
            lines = [json.dumps(row) for row in rows]
            assert len(set(lines)) == len(lines), task


def test_no_text_is_in_two_splits(made: Made) -> None:
    for splits in made.values():
        train, validation, test = (set(texts_of(rows)) for rows in splits.values())
        assert train.isdisjoint(validation | test)
        assert validation.isdisjoint(test)


def test_rows_are_the_same_every_time_and_change_only_with_the_generator(
    site: Path, made: Made
) -> None:
    assert make_tasks([], [str(site)]) == made
    digest = xxhash.xxh3_64_hexdigest(json.dumps(made, sort_keys=True))
    assert {GENERATOR_VERSION: digest} == DIGEST


def test_a_docstring_and_a_function_stand_once_in_a_row_of_either_label(
    site: Path, made: Made
) -> None:
    described = {
        one.code: (one.summary, module.name)
        for module in modules_of(site)
        for one in module.definitions
    }
    module_of_summary = dict(described.values())
    for split, rows in made["docstring_match"].items():
        labels = [row["label"] for row in rows]
        assert labels.count("yes") == labels.count("no")
        for column in ("docstring", "code"):
            counts = Counter((row[column], row["label"]) for row in rows)
            assert set(counts.values()) == {1}
            assert len(counts) == len(rows)
        for row in rows:
            summary, module = described[row["code"]]
            assert (row["docstring"] == summary) == (row["label"] == "yes")
            assert module_of_summary[row["docstring"]] == module
            assert split_of(module) == split


def test_one_of_four_choices_is_the_functions_own(site: Path, made: Made) -> None:
    described = {one.code: one.summary for m in modules_of(site) for one in m.definitions}
    module = {one.summary: m.name for m in modules_of(site) for one in m.definitions}
    for rows in made["docstring_choice"].values():
        labels = Counter(row["label"] for row in rows)
        assert max(labels.values()) - min(labels[index] for index in range(4)) <= 1
        right, wrong = Counter(), Counter()
        for row in rows:
            choices = row["choices"]
            assert len(set(choices)) == 4
            assert choices[row["label"]] == described[row["code"]]
            assert len({module[choice] for choice in choices}) == 1
            right[choices.pop(row["label"])] += 1
            wrong.update(choices)
        assert set(right.values()) == {1}
        assert wrong == Counter(dict.fromkeys(right, 3))


def test_topics_are_packages_equally_often_and_their_names_are_masked(made: Made) -> None:
    for rows in made["package_topic"].values():
        counts = Counter(row["label"] for row in rows)
        assert set(counts) == set(PACKAGES)
        assert len(set(counts.values())) == 1
    text = "With PyTorch's torch.nn, np and `pd`, sci-kit or scikit-learn: run_it(x) in Hugging."
    assert masked_paragraph(text) == (
        "With package's name, np and `package`, sci-kit or package: name in package."
    )
    assert masked_paragraph("Rich text, enriched, v2. A ThingOfTheirs, e.g.") == (
        "package text, enriched, name. A name, name."
    )


def test_names_have_known_labels(made: Made) -> None:
    for rows in made["code_names"].values():
        assert all(len(row["tokens"]) == len(row["labels"]) for row in rows)
        found = {label for row in rows for label in row["labels"]}
        assert found <= set(LABELS)
        assert {"parameter", "variable", "function", "module", "method", "O"} <= found


def test_scores_say_how_two_texts_belong_together(site: Path, made: Made) -> None:
    places = {
        one.summary: (module.package, module.name, one.name, one.see_also)
        for module in modules_of(site)
        for one in module.definitions
    }
    for rows in made["relatedness"].values():
        assert Counter(row["score"] for row in rows).keys() == {0.0, 0.5, 1.0}
        assert len(set(Counter(row["score"] for row in rows).values())) == 1
        for row in rows:
            first, second = places[row["first"]], places[row["second"]]
            named = second[2] in first[3] or first[2] in second[3]
            assert (row["score"] == 1.0) == (named and first[1] == second[1])
            assert (row["score"] == 0.5) == (not named and first[1] == second[1])
            assert (row["score"] == 0.0) == (first[0] != second[0])
    turned = [places[row["first"]][2] for row in made["relatedness"]["train"]]
    assert len(set(turned)) > 1


def test_rows_are_no_more_than_the_most(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_makers, "MOST_ROWS", {"train": 12, "validation": 8, "test": 4})
    for task, splits in make_tasks([], [str(site)]).items():
        assert [len(rows) for rows in splits.values()] in ([12, 8, 4], [12, 6, 3]), task


def test_few_packages_give_fewer_rows_and_none_gives_none(tmp_path: Path) -> None:
    write_packages(tmp_path, ["scipy"])
    made = make_tasks([], [str(tmp_path)])
    assert made["docstring_match"]["train"]
    # All of one package: nothing to tell apart.
    assert [len({r["label"] for r in rows}) for rows in made["package_topic"].values()] == [0, 0, 0]
    assert all(rows == [] for rows in made["relatedness"].values())
    assert all(
        rows == []
        for s in make_tasks([], [str(tmp_path / "empty")]).values()
        for rows in s.values()
    )
