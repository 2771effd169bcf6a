"""How a run trains, evaluates, saves and logs: the sections of a recipe beside model and data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from flexbert.config.data import DataConfig
from flexbert.config.duration import Duration
from flexbert.config.registry import Component
from flexbert.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from flexbert.recipe.clock import StageClock


class OptimizerConfig(Component, ABC, family="optimizer"):
    """Every member has these two: a schedule scales the first, and both are set at each update."""

    lr: float
    weight_decay: float

    @abstractmethod
    def build(self, model: nn.Module) -> Optimizer:
        """An optimizer over the model's parameters, grouped by rule."""

    @abstractmethod
    def hyperparameters(self, group: dict[str, Any], multiplier: float) -> dict[str, Any]:
        """What a parameter group holds while the schedule stands at ``multiplier``.

        Set on the group before every update, so that values that come back with a checkpoint are
        never used.
        """


class ScheduleConfig(Component, ABC, family="schedule"):
    """The learning rate as a fraction of its base value, a pure function of the stage's clock."""

    @abstractmethod
    def check(self, duration: Duration) -> None:
        """Refuse a combination with the stage's length that has no meaning (ConfigError)."""

    @abstractmethod
    def multiplier(self, clock: StageClock) -> float:
        """The fraction of the base learning rate for the update that starts at ``clock``."""


class LossConfig(Component, ABC, family="loss"):
    @abstractmethod
    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over masked tokens of ``logits [M, V]`` against ``labels [M]``."""


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """
    Attributes:
        size: sequences of ``data.max_length`` tokens in one update, over all processes; so
            ``size * max_length / row_length`` packed rows.
        microbatch_rows: most packed rows in one forward pass of one process. It changes speed and
            memory, never the result.
    """

    size: int
    microbatch_rows: int = 1

    def __post_init__(self) -> None:
        for key in ("size", "microbatch_rows"):
            if getattr(self, key) <= 0:
                raise ConfigError(key, f"must be positive, got {getattr(self, key)}")

    def rows(self, data: DataConfig) -> int:
        """Packed rows in one update, over all processes.

        Raises:
            ConfigError: if that is no whole number.
        """
        rows, rest = divmod(self.size * data.max_length, data.row_length)
        if rest:
            nearest = max(1, round(self.size * data.max_length / data.row_length))
            raise ConfigError(
                "size",
                f"{self.size} sequences of {data.max_length} tokens are no whole number of rows of "
                f"{data.row_length}; nearest: {nearest * data.row_length / data.max_length:g}",
            )
        return rows


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Masked loss and accuracy on the validation split.

    Attributes:
        interval: length of training between two evaluations; one more comes at the end.
        mask_rate: share of tokens masked. Masks are fixed, so losses of different runs compare.
        rows: packed rows to evaluate on, from the start of the split; null means all of it.
        microbatch_rows: packed rows in one forward pass of one process.
    """

    interval: Duration
    mask_rate: float = 0.15
    rows: int | None = None
    microbatch_rows: int = 1

    def __post_init__(self) -> None:
        _check_interval("interval", self.interval)
        if not 0 < self.mask_rate <= 1:
            raise ConfigError("mask_rate", f"must be above 0 and at most 1, got {self.mask_rate}")
        for key in ("rows", "microbatch_rows"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ConfigError(key, f"must be positive, got {value}")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """
    Attributes:
        interval: length of training between two checkpoints; one more is saved at the end.
        keep: how many of the newest to keep; null keeps all.
    """

    interval: Duration
    keep: int | None = None

    def __post_init__(self) -> None:
        _check_interval("interval", self.interval)
        if self.keep is not None and self.keep <= 0:
            raise ConfigError("keep", f"must be positive or null, got {self.keep}")


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Weights & Biases; ``mode: offline`` writes to the run folder for a later ``wandb sync``."""

    project: str
    entity: str | None = None
    group: str | None = None
    mode: Literal["online", "offline"] = "online"


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """
    Attributes:
        interval: length of training between two lines on the console and in ``metrics.jsonl``.
        wandb: null turns Weights & Biases off.
        tensorboard: write event files to ``tensorboard/`` in the run folder.
    """

    interval: Duration = field(default_factory=lambda: Duration(10, "ba"))
    wandb: WandbConfig | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _check_interval("interval", self.interval)


def _check_interval(key: str, interval: Duration) -> None:
    if interval.value <= 0:
        raise ConfigError(key, f"must be positive, got {interval}")
