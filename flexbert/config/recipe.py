"""The recipe: every key that a YAML file or an override may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flexbert.config.by_metric import EarlyStoppingConfig, KeepBestConfig, source_of
from flexbert.config.callback import CallbackConfig
from flexbert.config.data import DataConfig
from flexbert.config.duration import Duration
from flexbert.config.fields import (
    COMPUTATION,
    FUNCTION,
    OPERATIONAL,
    ORDER,
    RUN,
    Node,
    key,
)
from flexbert.config.health import HealthConfig
from flexbert.config.init_from import InitFromConfig
from flexbert.config.model import MASKED_LM, ModelConfig
from flexbert.config.plugins import Plugin
from flexbert.config.timeouts import TimeoutsConfig
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
from flexbert.errors import ConfigError, config_errors_under, did_you_mean

Precision = Literal["amp_bf16", "fp32"]
Compile = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Recipe(Node):
    """One stage of a run, with what belongs to the run.

    Attributes:
        run_name: the run's folder is ``runs_folder/run_name``.
        seed: what weights, data order, masks and dropout are drawn from.
        precision: ``amp_bf16`` runs matrix products in bfloat16 by autocast, on any device.
        compile: torch.compile. ``auto`` compiles on GPUs what can be compiled and says what cannot;
            ``always`` does on any device and refuses to train where a part cannot.
        deterministic: only operations that give the same bits every time; slower on GPUs.
        runs_folder: where all runs' folders lie.
        plugins: files, modules and entry points to import for their components. A file's path is
            relative to the YAML file that names it.
        accept_changed_plugins: continue a run though one of its plugins has changed.
        stage: run this stage alone; null runs all.
        init_from: take a new model's weights from another one's; nothing else is carried over.
        start_from: checkpoints to go on from with this recipe: weights, the optimizer's state,
            clocks and, unless ``stage`` names a stage to begin, the place in the data. Several are
            as many runs, one after the other; a single one needs no list around it.
        model: what is trained.
        data: what it is trained on.
        loss: what training minimises.
        batch: how much one update reads.
        optimizer: how an update changes the weights.
        schedule: how the learning rate changes.
        weight_decay_schedule: how the weight decay changes, apart from what the optimizer's own
            formula takes from the learning rate; null keeps it.
        mask_rate_schedule: how ``data.mask_rate`` changes; null keeps it.
        duration: length of the stage, in real tokens (padding never counts) or in updates.
        moving_average: keep an exponential moving average of the weights too; null keeps none.
        evaluation: masked loss and accuracy on the validation split.
        checkpoints: what is kept to resume from.
        health: what is done about numbers that go bad.
        timeouts: how long processes wait for each other.
        logging: what is recorded, and where.
        callbacks: Composer callbacks, which run after FlexBERT's own, each under a name of its own.
    """

    run_name: str = key(OPERATIONAL, scope=RUN, by_value=True)  # the folder tells it anyway
    runs_folder: Path = key(OPERATIONAL, default=Path("runs"), scope=RUN)
    seed: int = key(ORDER, at_least=0, scope=RUN)
    precision: Precision = key(COMPUTATION, default="amp_bf16")
    compile: Compile = key(OPERATIONAL, default="auto")
    deterministic: bool = key(COMPUTATION, default=False, scope=RUN)
    plugins: tuple[Plugin, ...] = key(OPERATIONAL, default=(), scope=RUN)  # by their versions
    accept_changed_plugins: bool = key(OPERATIONAL, default=False, scope=RUN)
    stage: str | None = key(COMPUTATION, default=None, scope=RUN)
    init_from: InitFromConfig | None = key(COMPUTATION, default=None, scope=RUN)
    start_from: tuple[Path, ...] = key(COMPUTATION, default=(), scope=RUN)
    model: ModelConfig = key(FUNCTION)
    data: DataConfig = key(ORDER)
    loss: LossConfig = key(COMPUTATION)
    batch: BatchConfig = key(COMPUTATION)
    optimizer: OptimizerConfig = key(COMPUTATION)
    schedule: ScheduleConfig = key(COMPUTATION)
    weight_decay_schedule: ScheduleConfig | None = key(COMPUTATION, default=None)
    mask_rate_schedule: ScheduleConfig | None = key(COMPUTATION, default=None)
    duration: Duration = key(COMPUTATION, above=0)
    moving_average: MovingAverageConfig | None = key(COMPUTATION, default=None)
    evaluation: EvaluationConfig = key(OPERATIONAL)
    checkpoints: CheckpointConfig = key(OPERATIONAL)
    health: HealthConfig = key(COMPUTATION, default=HealthConfig())
    timeouts: TimeoutsConfig = key(OPERATIONAL, default=TimeoutsConfig(), scope=RUN)
    logging: LoggingConfig = key(OPERATIONAL, default=LoggingConfig())
    callbacks: dict[str, CallbackConfig] = key(COMPUTATION, default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.run_name):
            raise ConfigError(
                "run_name",
                f"names a folder: letters, digits, '.', '_' and '-' only, got {self.run_name!r}",
            )
        if self.duration.unit == "dur":
            raise ConfigError("duration", f"must be a number of tok or ba, got {self.duration}")
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
        self._check_metric("checkpoints.keep_best", self.checkpoints.keep_best)
        self._check_metric("evaluation.early_stopping", self.evaluation.early_stopping)
        for name in ("schedule", "weight_decay_schedule", "mask_rate_schedule"):
            if (schedule := getattr(self, name)) is not None:
                with config_errors_under(name):
                    schedule.check(self.duration)

    def _check_metric(self, path: str, node: KeepBestConfig | EarlyStoppingConfig | None) -> None:
        """Refuse a metric of a source that is none: it would never be measured."""
        if node is None or (source := source_of(node.metric)) is None:
            return
        if len(self.data.all_sources) < 2:
            whole = "eval_loss" if node.metric.startswith("eval_losses.") else "eval_accuracy"
            problem = f"{node.metric!r} is of a mixture, and the recipe has one corpus: {whole}"
            raise ConfigError(f"{path}.metric", problem)
        if source not in self.data.sources:
            problem = f"no source {source!r}; {did_you_mean(source, self.data.sources)}"
            raise ConfigError(f"{path}.metric", problem)

    @property
    def run_folder(self) -> Path:
        return self.runs_folder / self.run_name
