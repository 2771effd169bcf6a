"""How a run trains, evaluates, saves and logs: sections of a recipe."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flexbert.config.by_metric import EarlyStoppingConfig, KeepBestConfig
from flexbert.config.clock import StageClock
from flexbert.config.data import DataConfig
from flexbert.config.duration import Duration
from flexbert.config.fields import COMPUTATION, OPERATIONAL, RUN, Node, key
from flexbert.config.masking_choice import SINGLE_TOKENS, MaskingConfig
from flexbert.config.optimizer import OptimizerConfig as OptimizerConfig
from flexbert.config.profiler import ProfilerConfig
from flexbert.config.registry import Component
from flexbert.errors import ConfigError, config_errors_under


class ScheduleConfig(Component, ABC, family="schedule"):
    """A fraction of a base value, the learning rate's say: a pure function of the stage's clock."""

    @abstractmethod
    def check(self, duration: Duration) -> None:
        """Refuse a combination with the stage's length that has no meaning (ConfigError)."""

    @abstractmethod
    def multiplier(self, clock: StageClock) -> float:
        """The fraction of the base value, in [0, 1], for the update that starts at ``clock``."""


# The label of what is not to be predicted, as torch and transformers have it.
IGNORE = -100


class LossConfig(Component, ABC, family="loss"):
    """What training minimises. Members are :class:`~flexbert.nn.loss.Loss`, which computes it."""

    def working_bytes(self, count: int, vocab_size: int, width: int, itemsize: int) -> int:
        """Bytes on a GPU that computing it takes for a while, besides what is kept for backward.

        Unless overridden: all logits' gradients, in float32 and in the logits' dtype.

        Args:
            count, vocab_size: of the logits ``[M, V]``,
            width: and E of the matrix ``[V, E]`` they are a product with.
            itemsize: bytes of a logit.
        """
        return count * vocab_size * (4 + itemsize)


MOST_SIZES = 10_000  # of a batch's warmup


@dataclass(frozen=True, kw_only=True)
class BatchWarmupConfig(Node):
    """Smaller batches at the beginning of a stage, each size for the same number of updates.

    Sizes run from ``start`` upwards and stop below ``batch.size`` (ModernBERT, arXiv 2412.13663,
    section 2.2.2).

    Attributes:
        start: sequences in the first updates.
        duration: length of all these sizes together; tokens are counted as if rows were full.
        increment: by how much a size is larger than the one before; null is ``start``.
    """

    start: int = key(COMPUTATION, above=0, unit="sequences")
    duration: Duration = key(COMPUTATION)
    increment: int | None = key(COMPUTATION, default=None, above=0, unit="sequences")

    def sizes(self, full: int) -> tuple[int, ...]:
        """All sizes below ``full``, ascending.

        Raises:
            ConfigError: if there are more than any warmup has.
        """
        sizes = range(self.start, full, self.increment or self.start)
        if len(sizes) > MOST_SIZES:
            raise ConfigError("increment", f"makes more than {MOST_SIZES} sizes below {full}")
        return tuple(sizes)

    def updates_each(self, full: int, max_length: int, stage: Duration) -> int:
        """The number n of updates for which ``n * sum(sizes) * max_length`` is nearest to the
        warmup's tokens; or n times the number of sizes to its updates.

        Args:
            stage: the stage's length.

        Raises:
            ConfigError: if that is none.
        """
        sizes, span = self.sizes(full), self.duration.of(stage)
        each = len(sizes) if span.unit == "ba" else sum(sizes) * max_length
        if updates := round(span.value / each):
            return updates
        raise ConfigError(
            "duration",
            f"{self.duration} is too short: one update of each of {len(sizes)} sizes takes "
            f"{each}{span.unit}",
        )


@dataclass(frozen=True, kw_only=True)
class BatchConfig(Node):
    """How much one update reads.

    Attributes:
        size: sequences of ``data.max_length`` tokens in one update, over all processes; so
            ``size * max_length / row_length`` packed rows.
        warmup: smaller batches at the beginning of the stage.
        microbatch_rows: most packed rows in one forward pass of one process; null takes as many as
            suit the device. It changes speed and memory, never the result.
    """

    size: int = key(COMPUTATION, above=0, unit="sequences")
    warmup: BatchWarmupConfig | None = key(COMPUTATION, default=None)
    microbatch_rows: int | None = key(OPERATIONAL, default=None, above=0, unit="rows")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup is None:
            return
        with config_errors_under("warmup"):
            if not self.warmup.sizes(self.size):
                raise ConfigError(
                    "start", f"must be below size {self.size}, got {self.warmup.start}"
                )

    def check(self, data: DataConfig, duration: Duration) -> None:
        """Refuse sizes that are no whole rows, and a warmup that a stage has no room for.

        Raises:
            ConfigError: naming the key.
        """
        if self.size * data.max_length % data.row_length:
            raise ConfigError("size", _no_whole_rows(self.size, data))
        if self.warmup is None:
            return
        for size in self.warmup.sizes(self.size):
            if size * data.max_length % data.row_length:
                name = "start" if size == self.warmup.start else "increment"
                raise ConfigError(f"warmup.{name}", _no_whole_rows(size, data))
        length = self.warmup.duration
        if length.unit == duration.unit and length.value > duration.value:
            raise ConfigError("warmup.duration", f"{length} is longer than the stage's {duration}")
        with config_errors_under("warmup"):
            self.warmup.updates_each(self.size, data.max_length, duration)


def _no_whole_rows(size: int, data: DataConfig) -> str:
    # The fewest sequences that fill whole rows, and all sizes are multiples of them.
    step = data.row_length // math.gcd(data.row_length, data.max_length)
    below = size // step * step
    sizes = [str(number) for number in (below, below + step) if number]
    return (
        f"{size} sequences of {data.max_length} tokens are no whole number of rows of "
        f"{data.row_length}; nearest: {' or '.join(sizes)}"
    )


@dataclass(frozen=True, kw_only=True)
class MovingAverageConfig(Node):
    """An exponential moving average of the weights, kept in memory and in checkpoints.

    Attributes:
        decay: share of the average that an update of it keeps.
        every: updates of the weights for one of the average.
    """

    decay: float = key(COMPUTATION, above=0, below=1)
    every: int = key(COMPUTATION, default=1, above=0, unit="updates")


@dataclass(frozen=True, kw_only=True)
class SuiteEvaluationConfig(Node):
    """Tasks that checkpoints are tried on while training goes on, which they change nothing of.

    Processes share the fits, and training waits for them. ``flexbert watch`` does the same next to
    a training.

    Attributes:
        file: the suite, ``yamls/suites/offline.yaml`` for instance.
        tasks: of the suite; null is all of them.
        mode: ``frozen`` is a linear probe, ``fine_tune`` the suite's whole search.
        interval: length of training between two tried checkpoints; null tries every one that
            ``checkpoints.interval`` makes due, and the last of a stage is always tried.
        overrides: ``key=value`` of the suite: ``tasks.mnli.seeds=[17]``.
    """

    file: Path = key(OPERATIONAL)
    tasks: tuple[str, ...] | None = key(OPERATIONAL, default=None)
    mode: Literal["frozen", "fine_tune"] = key(OPERATIONAL, default="frozen")
    interval: Duration | None = key(OPERATIONAL, default=None, above=0)
    overrides: tuple[str, ...] = key(OPERATIONAL, default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interval is not None and self.interval.unit == "dur":
            raise ConfigError("interval", "is counted over the whole run: give tokens or batches")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Node):
    """Masked loss and accuracy on the validation split.

    Attributes:
        interval: length of training between two evaluations; one more comes at the end.
        at_start: evaluate before the first update of the run too.
        mask_rate: share of tokens masked. Masks are fixed, so losses of different runs compare.
        masking: ``token`` selects single tokens, whatever training does, so that losses compare;
            ``training`` selects them as ``data.masking`` does.
        rows: packed rows to evaluate on, from the start of the split; null means all of it.
        microbatch_rows: packed rows in one forward pass of one process; null means as many as in
            training.
        examples: masked texts of each source to record with the model's predictions at every
            evaluation, in ``mask_examples.jsonl``; 0 records none.
        suite: tasks to try checkpoints on, the results in ``tasks.jsonl``; null tries none.
        early_stopping: when a stage ends before its duration; null never ends it.
    """

    interval: Duration = key(OPERATIONAL, above=0)
    at_start: bool = key(OPERATIONAL, default=False)
    mask_rate: float = key(OPERATIONAL, above=0, at_most=1)
    masking: Literal["token", "training"] = key(OPERATIONAL, default="token")
    rows: int | None = key(OPERATIONAL, default=None, above=0, unit="rows")
    microbatch_rows: int | None = key(OPERATIONAL, default=None, above=0, unit="rows")
    examples: int = key(OPERATIONAL, default=3, at_least=0, at_most=100, unit="examples")
    suite: SuiteEvaluationConfig | None = key(OPERATIONAL, default=None, scope=RUN)
    early_stopping: EarlyStoppingConfig | None = key(COMPUTATION, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.early_stopping is not None:
            with config_errors_under("early_stopping"):
                self.early_stopping.check(has_suite=self.suite is not None)

    @property
    def restores_best(self) -> bool:
        """Whether a stage ends with the weights of its best evaluation."""
        return self.early_stopping is not None and self.early_stopping.restore == "best"

    def rows_of(self, share: float) -> int | None:
        """The rows of a source with this share of the tokens; None means all of its split."""
        return None if self.rows is None else max(1, round(self.rows * share))

    def masking_of(self, data: DataConfig) -> MaskingConfig:
        """Which tokens evaluation selects together."""
        return data.masking if self.masking == "training" else SINGLE_TOKENS


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Node):
    """What is kept of a run to resume from.

    Attributes:
        interval: length of training between two checkpoints; one more is saved at the end.
        keep: how many of the newest to keep; null keeps all.
        keep_best: which others stay for what a metric says of them; null lets none stay.
    """

    interval: Duration = key(OPERATIONAL, above=0)
    keep: int | None = key(OPERATIONAL, default=None, above=0, unit="checkpoints")
    keep_best: KeepBestConfig | None = key(OPERATIONAL, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep is None and self.keep_best is not None:
            raise ConfigError(
                "keep_best",
                "changes nothing, because keep is null and all checkpoints stay; give keep, for "
                "instance 2",
            )


@dataclass(frozen=True, kw_only=True)
class WandbConfig(Node):
    """Weights & Biases. What is null its own environment says: ``WANDB_MODE``, ``WANDB_PROJECT``,
    ``WANDB_ENTITY``, ``WANDB_RUN_GROUP``.

    Attributes:
        project: that the run is listed in; ``flexbert`` where the environment is silent too.
        entity: user or team that the project belongs to; your default one where the environment is
            silent too.
        group: runs of one group are shown together.
        mode: ``offline`` writes to the run folder for a later ``wandb sync``. ``online`` does not
            begin without a key or a network, ``online_or_offline`` then writes offline. ``online``
            where the environment is silent too.
    """

    project: str | None = key(OPERATIONAL, default=None)
    entity: str | None = key(OPERATIONAL, default=None)
    group: str | None = key(OPERATIONAL, default=None)
    mode: Literal["online", "offline", "online_or_offline"] | None = key(OPERATIONAL, default=None)


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(Node):
    """What is recorded of a run, and where.

    Attributes:
        interval: length of training between two lines on the console and in ``metrics.jsonl``.
        wandb: null turns Weights & Biases off.
        tensorboard: write event files to ``tensorboard/`` in the run folder.
        peak_tflops: what one device does at best, 10^12 operations a second, for the MFU (989 is an
            H100's or H200's in dense bfloat16); null measures it in plain matrix products.
        profiler: null records no traces.
    """

    interval: Duration = key(OPERATIONAL, default=Duration(10, "ba"), above=0)
    wandb: WandbConfig | None = key(OPERATIONAL, default=None, scope=RUN)
    tensorboard: bool = key(OPERATIONAL, default=False, scope=RUN)
    peak_tflops: float | None = key(OPERATIONAL, default=None, above=0, unit="TFLOP/s")
    profiler: ProfilerConfig | None = key(OPERATIONAL, default=None)
