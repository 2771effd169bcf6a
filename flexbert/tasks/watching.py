"""``flexbert watch``: a run's checkpoints on tasks, next to the training or after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.checkpoint.file_hash import file_digest
from flexbert.errors import UserError
from flexbert.files.file_lock import file_lock
from flexbert.task_metrics_file import TaskMetrics
from flexbert.tasks.checkpoint_tasks import CheckpointTasks, TriedCheckpoint

_LOOK_SECONDS = 5.0


def watch_run(tasks: CheckpointTasks, *, follow: bool, tell: Callable[[TaskMetrics], None]) -> None:
    """Try every checkpoint of a run that is due and was not tried, oldest first.

    Several may watch one run: they share the fits of each checkpoint.

    Args:
        follow: go on with new checkpoints until the run is finished, and not only what is there.
        tell: is called with what each checkpoint came to at each task.

    Raises:
        UserError: if there is no such run, or a checkpoint does not go with a task.
    """
    while True:
        is_finished = not follow or run_is_finished(tasks.run)
        for checkpoint in tried_checkpoints(tasks.run):
            _try(tasks, checkpoint, tell)
        if is_finished:
            return
        time.sleep(_LOOK_SECONDS)


def tried_checkpoints(run: Path) -> Iterator[TriedCheckpoint]:
    """The checkpoints of a run that were due, oldest first.

    Those that a run was stopped with and has gone on from are of no interest. One that is deleted
    meanwhile is passed over.

    Raises:
        UserError: if the run's folder has no checkpoints, or one cannot be read.
    """
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{run}: no checkpoints there; give the folder of a run, runs/NAME")
    for path in list_checkpoints(folder):
        try:
            training = read_checkpoint(path).training
        except UserError:
            if path.exists():
                raise
            continue
        if training is None or training.due_step != training.clock.updates:
            continue
        stage = training.data.stage
        yield TriedCheckpoint(
            path=path,
            stage=stage,
            step=training.clock.updates,
            tokens=training.clock.tokens,
            ends_stage=_is_same_file(folder / f"{stage}.pt", path),
        )


def run_is_finished(run: Path) -> bool:
    """Whether the last stage of a run has ended."""
    paths = list_checkpoints(run / "checkpoints")
    if not paths:
        return False
    training = read_checkpoint(paths[-1]).training
    assert training is not None, "a run's own checkpoint"
    *_, last = training.run["stages"]
    return _is_same_file(run / "checkpoints" / f"{last}.pt", paths[-1])


def _try(
    tasks: CheckpointTasks, checkpoint: TriedCheckpoint, tell: Callable[[TaskMetrics], None]
) -> None:
    if not tasks.is_due(checkpoint):
        return
    try:
        tasks.try_checkpoint(checkpoint)
        # Whoever comes first records; the others find it done.
        with file_lock(tasks.folder / f".{checkpoint.path.name}.lock"):
            measured = tasks.record(checkpoint) if tasks.is_due(checkpoint) else []
    except UserError as error:
        if checkpoint.path.exists():
            raise
        print(f"note: {checkpoint.path} was deleted meanwhile ({error})", file=sys.stderr)
        return
    for each in measured:
        tell(each)


def _is_same_file(named: Path, path: Path) -> bool:
    """Whether a stage's end is this checkpoint: a second name of it, or a copy."""
    try:
        return file_digest(named) == file_digest(path) is not None
    except OSError:
        return False
