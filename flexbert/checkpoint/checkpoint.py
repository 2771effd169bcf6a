"""What a checkpoint holds, typed: every room speaks of these fields and of no key in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from flexbert.data.packing.position import DataState

Weights: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class RunClock:
    """How far a run is: everything counted over the whole run, all processes together.

    Attributes:
        updates: optimizer steps.
        rows: packed rows.
        tokens: real tokens, padding never included.
        seconds: wall-clock time spent training.
    """

    updates: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class OptimizerState:
    """What an optimizer remembers of each parameter; hyperparameters are the recipe's.

    Attributes:
        name: the optimizer's name in a recipe. Another optimizer can make nothing of it.
        parameters: parameter name to what is kept of it: tensors, and numbers such as a count.
        updates: where an optimizer counts its updates for all parameters together; else None.
    """

    name: str
    parameters: Mapping[str, Mapping[str, Tensor | float]]
    updates: int | None = None


@dataclass(frozen=True, kw_only=True)
class HealthState:
    """What watching a run's numbers remembers.

    Attributes:
        skipped: updates of the run whose numbers were not finite.
        skipped_in_a_row: those of them that were the last.
        losses, grad_norms: of the updates that the next ones are compared with, oldest first.
        roll_backs: how often this checkpoint was gone back to.
    """

    skipped: int = 0
    skipped_in_a_row: int = 0
    losses: tuple[float, ...] = ()
    grad_norms: tuple[float, ...] = ()
    roll_backs: int = 0


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingState:
    """What early stopping remembers of a stage.

    Attributes:
        seen_step: updates of the run at the last evaluation that counted; 0 before the first.
        without_improvement: how many of the last evaluations in a row were none.
        bar: what the next one must be better than; None before the first.
        best: the best value, whether it was an improvement or not.
        best_step: updates of the run at its evaluation; 0 where there is none.
        has_ended: whether this checkpoint is the stage's end, whatever the stage's clock says, and
            holds what the stage is to end with.
    """

    seen_step: int = 0
    without_improvement: int = 0
    bar: float | None = None
    best: float | None = None
    best_step: int = 0
    has_ended: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a run needs to go on, apart from its weights.

    Attributes:
        run: the resolved recipe of the whole run, all stages.
        moving_average: of the weights, by parameter name, where the recipe keeps one.
        callbacks: what those of the recipe remember, by their names in it.
        evaluation_due: whether the run was stopped in an evaluation, which is to be done again.
        due_step: updates of the run in its last checkpoint that ``checkpoints.interval`` or a
            stage's end made due; later ones were saved because the run was asked to stop.
        is_overdue: whether one is due that is not saved yet.
        early_stopping: of the stage; as at its beginning where the recipe has none.
    """

    run: Mapping[str, Any]
    clock: RunClock
    data: DataState
    optimizer: OptimizerState
    moving_average: Weights | None = None
    callbacks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    health: HealthState = HealthState()
    evaluation_due: bool = False
    due_step: int = 0
    is_overdue: bool = False
    early_stopping: EarlyStoppingState = EarlyStoppingState()


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """What the weights of an averaged checkpoint are the mean of.

    Attributes:
        shares: one for each checkpoint, 1 together; empty for a moving average.
    """

    checkpoints: tuple[str, ...]
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model with what it takes to use it, and to go on training it.

    Attributes:
        recipe: the resolved recipe of the stage, plain containers; one that was imported or saved
            by ``save_model`` has the model's section, and perhaps ``data.max_length``.
        tokenizer: file name to text: what a Hugging Face tokenizer folder holds.
        model: parameter name to value, without prefixes of any wrapper.
        training: None where there are weights alone (import, average, save_model).
        averaged: what ``flexbert average`` made it of.
        path: the file it was read from. Its tensors are then mapped: they take memory when they are
            used, and not for as long as the checkpoint is held.
    """

    recipe: Mapping[str, Any]
    tokenizer: Mapping[str, str]
    model: Weights
    training: TrainingState | None = None
    averaged: Averaged | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """What an error message calls it."""
        return str(self.path) if self.path is not None else "the checkpoint"

    @property
    def max_length(self) -> int | None:
        """The longest sequence it was trained on, in tokens; None where nothing tells."""
        data = self.recipe.get("data")
        length = data.get("max_length") if isinstance(data, Mapping) else None
        return length if isinstance(length, int) and length > 0 else None
