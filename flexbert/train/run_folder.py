"""The folder of a run: what is in it, and what it may be continued with."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.checkpoint.file_hash import file_digest
from flexbert.config.by_metric import is_own_metric
from flexbert.config.fields import OPERATIONAL, ORDER, Role
from flexbert.config.keys import role_of
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import decode_resolved
from flexbert.config.stage_overrides import STAGES, encode_stages
from flexbert.config.tree import changed_keys, flatten
from flexbert.errors import ConfigError, UserError
from flexbert.files.durable import (
    make_folder,
    sync_folder,
    write_durably,
    write_errors,
    write_text,
)
from flexbert.files.set_aside import make_way, set_aside, tell_set_aside
from flexbert.manifest_file import MANIFEST
from flexbert.mask_examples_file import MASK_EXAMPLES
from flexbert.metrics_file import METRICS, MetricsWriter, Record, drop_lines_after, read_metrics
from flexbert.report.reports import PAGE, PICTURE
from flexbert.task_metrics_file import TASKS, drop_after

_ANOTHER_RUN = (
    "Give the old values, or another run_name; start_from=CHECKPOINT begins it at one of this "
    "run's, see docs/longer.md"
)


class RunFolder:
    """Paths of ``runs/RUN_NAME/`` and the rules for writing to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / MANIFEST
        self.metrics = path / METRICS
        self.tasks = path / TASKS
        self.checkpoints = path / "checkpoints"
        self.mask_examples = path / MASK_EXAMPLES
        self.report = path / PICTURE
        self.page = path / PAGE
        self.tensorboard = path / "tensorboard"
        self.traces = path / "traces"
        self.orders = path / "orders"
        self._metrics_writer = MetricsWriter(self.metrics)
        self._examples_writer = MetricsWriter(self.mask_examples)
        self._results: list[Record] | None = None

    def begin(self, resolved: Mapping[str, Any], after_step: int) -> None:
        """Make the folder ready for a launch that continues after update ``after_step``.

        What stands there and is not what its name says is set aside.

        Raises:
            WriteError: if the folder cannot be written.
        """
        make_folder(self.path)
        self._results = None
        recorded = (self.metrics, self.mask_examples)
        made = (self.config, self.manifest, *recorded, self.tasks, self.report, self.page)
        for file in made:
            tell_set_aside(file, make_way(file))
        write_text(self.config, yaml.safe_dump(dict(resolved), sort_keys=False))
        for file in recorded:
            drop_lines_after(file, after_step)
        drop_after(self.path, after_step)
        if self.checkpoints.is_dir():
            # Of a launch that was killed while it saved: as large as a checkpoint.
            with write_errors(self.checkpoint(after_step)):
                for half in self.checkpoints.glob(".*.pt.tmp"):
                    half.unlink()

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of this update of the run is."""
        return self.checkpoints / checkpoint_name(step)

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a record to ``metrics.jsonl``; a disk that does not take it ends nothing."""
        self._metrics_writer.append(record)
        if self._results is not None and record["event"] != "train":
            self._results.append(Record.read(record))

    def results(self) -> list[Record]:
        """All records so far but those of training, oldest first, those that wait for the disk too.

        They are read from the file once, and on the first process alone.
        """
        if self._results is None:
            self.flush_metrics()
            try:
                self._results = [r for r in read_metrics(self.path) if r.event != "train"]
            except UserError:  # nothing is recorded yet
                self._results = []
        return list(self._results)

    def append_mask_examples(self, evaluation: Mapping[str, Any]) -> None:
        """Add an evaluation to ``mask_examples.jsonl``, as :meth:`append_metrics` does."""
        self._examples_writer.append(evaluation)

    def flush_metrics(self) -> None:
        """Wait until the records are on the disk: a checkpoint must not outlive what led to it."""
        self._metrics_writer.flush()
        self._examples_writer.flush()

    def wandb_id(self) -> str:
        """What Weights & Biases knows the run by, in all its launches and stages."""
        file = self.path / "wandb_id"
        if os.path.lexists(file):
            if known := _wandb_id(file):
                return known
            tell_set_aside(file, set_aside(file))
        new = secrets.token_hex(8)
        write_text(file, new)
        return new


def _wandb_id(file: Path) -> str | None:
    """The id in a file; None where there is none."""
    try:
        text = file.read_text().strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch(r"[\w-]{1,128}", text, re.ASCII) else None


# What file systems answer that know no second names, or not for this file.
_NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
}


def name_stage_end(checkpoints: Path, stage: str, step: int) -> None:
    """Give the checkpoint that a stage ended with the stage's name, ``checkpoints/STAGE.pt``.

    It is a second name of the same file, and stays when only the newest steps are kept; where the
    file system knows no second names it is a copy. Nothing is done where the checkpoint is another
    run's.

    Raises:
        WriteError: if the disk refuses it.
    """
    saved = checkpoints / checkpoint_name(step)
    if not saved.exists():
        return
    named, temporary = checkpoints / f"{stage}.pt", checkpoints / f".{stage}.pt.tmp"
    tell_set_aside(named, make_way(named))
    try:
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(saved)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            with write_errors(named):
                raise
        _copy_once(saved, named)
        return
    with write_errors(named):
        temporary.replace(named)
        # Where both were one file already, the system has left both names.
        temporary.unlink(missing_ok=True)
    sync_folder(checkpoints)


def _copy_once(saved: Path, named: Path) -> None:
    """Copy a checkpoint durably, unless that was done before."""
    if named.exists() and file_digest(named) == file_digest(saved) is not None:
        return
    with write_durably(named, needed=saved.stat().st_size) as copy, saved.open("rb") as original:
        shutil.copyfileobj(original, copy, 1 << 24)


# By what is measured where, early stopping decides what a run computes.
_DECIDING = (
    *("evaluation.interval", "evaluation.at_start", "evaluation.mask_rate"),
    *("evaluation.masking", "evaluation.rows", "checkpoints.interval"),
)
_SUITE = "evaluation.suite"


def refuse_changed_recipe(
    run_folder: Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    accept_changed_order: bool = False,
    remedy: str = _ANOTHER_RUN,
) -> None:
    """A run resumes with the recipe it began with.

    Args:
        old, new: resolved recipes, of all stages.
        remedy: what to do, as a sentence without its end.
        accept_changed_order: whether keys that decide the data's order may change too.

    Raises:
        UserError: naming every key that changed and may not, with both values.
    """
    accepted = {OPERATIONAL, ORDER} if accept_changed_order else {OPERATIONAL}
    old = _with_new_defaults(old)
    stopping = {key: value for key, value in flatten(old).items() if ".early_stopping." in key}
    decides = bool(stopping)
    by_task = any(
        key.endswith(".metric") and not is_own_metric(str(value)) for key, value in stopping.items()
    )
    changed = {
        key: values
        for key, values in sorted(changed_keys(old, new).items())
        if role_of_resolved(key) not in accepted
        or (decides and key.endswith(_DECIDING))
        or (by_task and f".{_SUITE}." in f".{key}.")
    }
    if changed:
        listed = ", ".join(
            f"{key} ({_show(before)} -> {_show(after)})" for key, (before, after) in changed.items()
        )
        accept = ""
        if all(role_of_resolved(key) is ORDER for key in changed):
            accept = "; to go on with a new order of the data: data.accept_changed_order=true"
        raise UserError(
            f"{run_folder} was begun with another recipe; changed: {listed}. {remedy}{accept}"
        )


def _with_new_defaults(resolved: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recipe that was resolved before some keys were there, with their defaults."""
    try:
        return encode_stages(decode_resolved(resolved))
    except ConfigError:
        return resolved


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def role_of_resolved(key: str) -> Role:
    """The role of a key of a resolved recipe: a stage's has that of the recipe's own."""
    parts = key.split(".")
    return role_of(Recipe, ".".join(parts[2:] if parts[0] == STAGES else parts))
