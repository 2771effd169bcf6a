"""Going back to a checkpoint, and past the rows that were read since."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from flexbert.checkpoint.checkpoint_file import read_checkpoint, training_of, write_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step, list_checkpoints
from flexbert.data.packing.position import Position
from flexbert.train.processes.run_errors import NumbersError


@dataclass(frozen=True, kw_only=True)
class RolledBack:
    """
    Attributes:
        step: updates of the run in the checkpoint that training goes on from.
        first_row, end_row: of the stage's stream, that are passed over.
    """

    step: int
    first_row: int
    end_row: int


def roll_back(
    checkpoints: Path, stage: str, step: int, position: Position, max_roll_backs: int
) -> RolledBack:
    """Change the last checkpoint before a spike so that training goes on behind the rows of it.

    The last that was due: where the run was stopped since must not change what is skipped.

    A run that is killed at any moment either meets the same spike again, or finds the changed
    checkpoint: the decision is made from what checkpoints hold.

    Args:
        step: updates of the run with the one that jumped.
        position: in the stage's data, behind that update.
        max_roll_backs: how often one checkpoint is gone back to.

    Raises:
        NumbersError: if it was gone back to as often already, or the stage has none.
    """
    saved = list_checkpoints(checkpoints)
    before = [path for path in saved if checkpoint_step(path) < step]
    if not before:
        raise NumbersError(f"step {step}: the loss jumps, and {checkpoints} has nothing before it")
    due = checkpoint_name(training_of(read_checkpoint(before[-1], verify=False)).due_step)
    path = next((path for path in before if path.name == due), before[-1])
    checkpoint = read_checkpoint(path)
    training = training_of(checkpoint)
    if training.data.stage != stage:
        raise NumbersError(f"step {step}: the loss jumps, and {path} is of another stage")
    if training.health.roll_backs >= max_roll_backs:
        raise NumbersError(
            f"step {step}: the loss jumps again after {max_roll_backs} roll-backs to "
            f"{path} (health.spikes.max_roll_backs); a lower optimizer.lr may help"
        )
    old = training.data.position
    first, end = (p.packing_window.row + p.row for p in (old, position))
    data = replace(
        training.data,
        position=replace(old, packing_window=position.packing_window, row=position.row),
        skipped_rows=training.data.skipped_rows + end - first,
    )
    health = replace(training.health, roll_backs=training.health.roll_backs + 1)
    # Newer ones first: they would be gone on from.
    for newer in reversed(saved[saved.index(path) + 1 :]):
        newer.unlink()
    write_checkpoint(
        path,
        replace(checkpoint, training=replace(training, data=data, health=health), path=None),
    )
    return RolledBack(step=checkpoint_step(path), first_row=first, end_row=end)
