"""The rows of the offline tasks: what a source ``offline:TASK:SPLIT`` names."""

from __future__ import annotations

from typing import Any

from data_prep.demo import demo_documents
from flexbert.errors import UserError, did_you_mean
from flexbert.files.progress_bar import ProgressBar
from flexbert.tasks.offline.installed import installed_versions, made_of
from flexbert.tasks.offline.module_splits import SPLITS
from flexbert.tasks.offline.rows_cache import MadeRows, cached_rows, user_cache
from flexbert.tasks.offline.task_makers import TASKS, make_tasks


def offline_rows(task: str, split: str) -> list[dict[str, Any]]:
    """The rows of a task's split, the same in every environment of the same packages.

    The first call makes those of all tasks, in about 20 s on one core, and keeps them under the
    user's cache folder.

    Args:
        task: one of ``TASKS``; its file says which columns rows have.
        split: train, validation or test.

    Raises:
        UserError: for an unknown task or split, where the packages that are installed have too
            little text for it, or if the cache folder cannot be written.
    """
    for kind, given, known in (("task", task, TASKS), ("split", split, SPLITS)):
        if given not in known:
            asked = f"offline:{task}:{split}"
            raise UserError(f"{asked}: no {kind} {given!r}; {did_you_mean(given, known)}")
    versions = installed_versions()
    rows = cached_rows(user_cache() / "offline" / made_of(versions), task, split, _make)
    if not rows:
        raise UserError(
            f"offline:{task}:{split}: too little text in the packages that are installed "
            f"({', '.join(versions) or 'none'}); install the locked requirements"
        )
    return rows


def offline_fingerprint() -> str:
    """16 hex digits that stand for all that the rows were made of: packages, Python, this code."""
    return made_of(installed_versions())


def _make() -> MadeRows:
    ProgressBar.announce("making the rows of the offline tasks from installed packages")
    return make_tasks(text for _, text in demo_documents())
