"""``flexbert watch``: a run's checkpoints on tasks, next to the training or after it."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.errors import UserError
from flexbert.task_metrics_file import TaskMetrics
from flexbert.tasks.checkpoint_tasks import CheckpointTasks, TriedCheckpoint, digest_of

_LOOK_SECONDS = 5.0


def watch_run(
    tasks: CheckpointTasks,
    *,
    follow: bool,
    tell: Callable[[TriedCheckpoint, Sequence[TaskMetrics]], None],
) -> tuple[int, int]:
    """Try every checkpoint of a run that is due and was not tried, oldest first.

    Several may watch one run: they share the fits of each checkpoint.

    Args:
        follow: go on with new checkpoints until the run is finished, and not only what is there.
        tell: is called with what each checkpoint came to, by the process that has recorded it.

    Returns:
        How many checkpoints were tried here, or next to others; and how many had been before.

    Raises:
        UserError: if there is no such run, or a checkpoint does not go with a task.
    """
    require_run(tasks.run, may_begin=follow)
    num_tried = num_known = 0
    seen: set[TriedCheckpoint] = set()
    while True:
        is_finished = not follow or run_is_finished(tasks.run)
        for checkpoint in due_checkpoints(tasks.run):
            # Reading again what is known of old ones would take longer the longer the run is.
            if checkpoint not in seen:
                num_known += tasks.is_tried(checkpoint)
                num_tried += _try(tasks, checkpoint, tell)
                seen.add(checkpoint)
        if is_finished:
            return num_tried, num_known
        time.sleep(_LOOK_SECONDS)


def due_checkpoints(run: Path) -> Iterator[TriedCheckpoint]:
    """The checkpoints of a run that its recipe made due, oldest first.

    Those that a run was stopped with and has gone on from are of no interest. One that is deleted
    meanwhile is passed over.

    Raises:
        UserError: if one cannot be read.
    """
    folder = run / "checkpoints"
    for path in list_checkpoints(folder) if folder.is_dir() else ():
        digest = digest_of(path)
        try:
            place = _place(path, digest)
        except UserError:
            if path.exists():
                raise
            continue
        ends_stage = digest is not None and digest == digest_of(folder / f"{place.stage}.pt")
        if place.is_due or ends_stage:
            yield TriedCheckpoint(
                path=path,
                stage=place.stage,
                step=place.step,
                tokens=place.tokens,
                ends_stage=ends_stage,
                digest=digest,
            )


def run_is_finished(run: Path) -> bool:
    """Whether the last stage of a run has ended."""
    folder = run / "checkpoints"
    paths = list_checkpoints(folder) if folder.is_dir() else []
    if not paths:
        return False
    last = paths[-1]
    digest = digest_of(last)
    try:
        place = _place(last, digest)
    except UserError:
        if last.exists():
            raise
        return False
    return digest is not None and digest == digest_of(folder / f"{place.last_stage}.pt")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What a checkpoint says of where its run was.

    Attributes:
        last_stage: of the run.
        is_due: whether the interval or the stage's end made it due.
    """

    stage: str
    last_stage: str
    step: int
    tokens: int
    is_due: bool


@functools.cache
def _place(path: Path, digest: str | None) -> _Place:
    """Read once of each file, which ``digest`` tells from another one of its name."""
    # Whoever tries it compares it with its hash.
    training = read_checkpoint(path, verify=False).training
    if training is None:
        raise UserError(f"{path}: holds weights alone, and is no checkpoint of a run")
    # A recipe may ask for one of its stages alone.
    last_stage = training.run.get("stage") or [*training.run["stages"]][-1]
    return _Place(
        stage=training.data.stage,
        last_stage=last_stage,
        step=training.clock.updates,
        tokens=training.clock.tokens,
        is_due=training.due_step == training.clock.updates,
    )


def require_run(run: Path, *, may_begin: bool) -> None:
    """Refuse what is no run's folder.

    Args:
        may_begin: whether its first checkpoint may be still to come.

    Raises:
        UserError: if it is none.
    """
    if (run / "checkpoints").is_dir() or (may_begin and (run / "config.yaml").is_file()):
        return
    raise UserError(f"{run}: no checkpoints there; give the folder of a run, runs/NAME")


def _try(
    tasks: CheckpointTasks,
    checkpoint: TriedCheckpoint,
    tell: Callable[[TriedCheckpoint, Sequence[TaskMetrics]], None],
) -> bool:
    """Try a checkpoint if that is due; whether it was tried."""
    if not tasks.is_due(checkpoint):
        return False
    try:
        tasks.try_checkpoint(checkpoint)
        measured = tasks.record(checkpoint)
    except UserError as error:
        if digest_of(checkpoint.path) == checkpoint.digest:
            raise
        print(f"note: {checkpoint.path} was deleted meanwhile ({error})", file=sys.stderr)
        return False
    if measured:
        tell(checkpoint, measured)
    return True
