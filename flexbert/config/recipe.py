"""The recipe: every key that a YAML file or an override may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flexbert.config.callback import CallbackConfig
from flexbert.config.data import DataConfig
from flexbert.config.duration import Duration
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import MASKED_LM, ModelConfig
from flexbert.config.plugins import Plugin
from flexbert.config.training import (
    BatchConfig,
    CheckpointConfig,
    EvaluationConfig,
    LoggingConfig,
    LossConfig,
    MovingAverageConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from flexbert.errors import ConfigError, config_errors_under

Precision = Literal["amp_bf16", "fp32"]
Compile = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One stage of a run, with what belongs to the run.

    Attributes:
        run_name: the run's folder is ``runs_folder/run_name``.
        seed: what weights, data order, masks and dropout are drawn from.
        precision: ``amp_bf16`` runs matrix products in bfloat16 by autocast, on any device.
        compile: torch.compile. ``auto`` compiles on GPUs what can be compiled and says what cannot;
            ``always`` does on any device and refuses to train where a part cannot.
        deterministic: only operations that give the same bits every time; slower on GPUs.
        plugins: files, modules and entry points to import for their components. A file's path is
            relative to the YAML file that names it.
        accept_changed_plugins: continue a run though one of its plugins has changed.
        stage: run this stage alone.
        init_from: take a new model's weights from another one's; nothing else is carried over.
        start_from: checkpoints to go on from with this recipe: weights, the optimizer's state,
            clocks and, unless ``stage`` names a stage to begin, the place in the data. Several are
            as many runs, one after the other.
        schedule: of the learning rate.
        weight_decay_schedule: of the weight decay, beside what the optimizer's own formula takes
            from the learning rate; none keeps it.
        mask_rate_schedule: of ``data.mask_rate``; none keeps it.
        duration: length of the stage, in real tokens (padding never counts) or in updates.
        moving_average: keep an exponential moving average of the weights beside them.
        callbacks: Composer callbacks, which run after FlexBERT's own, each under a name of its own.
    """

    run_name: str
    runs_folder: Path = Path("runs")
    seed: int
    precision: Precision = "amp_bf16"
    compile: Compile = "auto"
    deterministic: bool = False
    plugins: tuple[Plugin, ...] = ()
    accept_changed_plugins: bool = False
    stage: str | None = None
    init_from: InitFromConfig | None = None
    start_from: tuple[Path, ...] = ()
    model: ModelConfig
    data: DataConfig
    loss: LossConfig
    batch: BatchConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    weight_decay_schedule: ScheduleConfig | None = None
    mask_rate_schedule: ScheduleConfig | None = None
    duration: Duration
    moving_average: MovingAverageConfig | None = None
    evaluation: EvaluationConfig
    checkpoints: CheckpointConfig
    logging: LoggingConfig = LoggingConfig()
    callbacks: dict[str, CallbackConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.run_name):
            raise ConfigError(
                "run_name",
                f"names a folder: letters, digits, '.', '_' and '-' only, got {self.run_name!r}",
            )
        if self.seed < 0:
            raise ConfigError("seed", f"must not be negative, got {self.seed}")
        if self.duration.unit == "dur" or self.duration.value <= 0:
            raise ConfigError(
                "duration", f"must be a positive number of tok or ba, got {self.duration}"
            )
        for section, interval in (
            ("evaluation", self.evaluation.interval),
            ("checkpoints", self.checkpoints.interval),
            ("logging", self.logging.interval),
        ):
            if interval.unit == "dur" and interval.value < 1e-6:
                raise ConfigError(f"{section}.interval", f"{interval} is shorter than any update")
        if self.model.head.task != MASKED_LM:
            raise ConfigError(
                "model.head.name", f"a run trains a masked-LM head, not {self.model.head.name}"
            )
        longest = self.model.embedding.max_length
        if longest is not None and self.data.max_length > longest:
            raise ConfigError(
                "data.max_length",
                f"{self.data.max_length} is more than the {longest} positions of model.embedding",
            )
        with config_errors_under("batch"):
            self.batch.check(self.data, self.duration)
        for key in ("schedule", "weight_decay_schedule", "mask_rate_schedule"):
            if (schedule := getattr(self, key)) is not None:
                with config_errors_under(key):
                    schedule.check(self.duration)

    @property
    def run_folder(self) -> Path:
        return self.runs_folder / self.run_name
