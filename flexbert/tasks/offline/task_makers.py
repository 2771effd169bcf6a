"""From installed packages to the rows of all offline tasks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flexbert.tasks.offline.code_names import code_names_rows
from flexbert.tasks.offline.definitions import Module, read_module
from flexbert.tasks.offline.docstring_choice import docstring_choice_rows
from flexbert.tasks.offline.docstring_match import docstring_match_rows
from flexbert.tasks.offline.installed import installed_versions, source_files
from flexbert.tasks.offline.module_splits import split_modules
from flexbert.tasks.offline.package_topic import package_topic_rows
from flexbert.tasks.offline.relatedness import relatedness_rows

# Enough to learn from in minutes; 2,000 rows tell accuracies apart that differ by some 2 percent.
MOST_ROWS = {"train": 12_000, "validation": 2_000, "test": 2_000}

Rows = list[dict[str, Any]]
_MAKERS: Mapping[str, Callable[[Sequence[Module], int], Rows]] = {
    "docstring_choice": docstring_choice_rows,
    "docstring_match": docstring_match_rows,
    "relatedness": relatedness_rows,
}
TASKS = ("code_names", *sorted(_MAKERS), "package_topic")


def make_tasks(
    corpus: Iterable[str], search: Sequence[str] | None = None
) -> dict[str, dict[str, Rows]]:
    """The rows of each task and split; 20 s on one core, most of it parsing.

    Args:
        corpus: texts whose functions and paragraphs are left out: what models are pretrained on.
        search: folders in which packages are looked for; where Python looks for them by default.
    """
    with _without_collector():
        modules = list(_modules(search))
        splits = split_modules(modules, corpus)
        made = {
            task: {split: make(own, MOST_ROWS[split]) for split, own in splits.items()}
            for task, make in _MAKERS.items()
        }
        made["code_names"] = code_names_rows(splits, MOST_ROWS)
        made["package_topic"] = package_topic_rows(splits, MOST_ROWS)
    return made


def _modules(search: Sequence[str] | None) -> Iterator[Module]:
    for package in installed_versions(search):
        for file in source_files(package, search):
            module = read_module(file)
            if module is not None:
                yield module


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of small objects are made, none of them in a circle; looking for any takes long."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
