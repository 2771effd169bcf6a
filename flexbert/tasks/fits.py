"""One fit of a search: what tells it from others, and making it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import read_checkpoint, write_checkpoint
from flexbert.checkpoint.weights import filled_model, model_config
from flexbert.config.encode import encode
from flexbert.config.plugins import plugins_of
from flexbert.devices.device_names import device_name
from flexbert.doctor import package_version
from flexbert.files.durable import make_folder
from flexbert.files.file_lock import file_lock
from flexbert.pretrained.architecture_head import architecture_head
from flexbert.pretrained.load_model import ReadModel
from flexbert.tasks.fine_tuning import FitStart, Fitted, fine_tune, head_of, predict
from flexbert.tasks.models import TaskModel
from flexbert.tasks.predictions_file import FitPredictions, write_predictions
from flexbert.tasks.probing import probe
from flexbert.tasks.results import (
    VALIDATION,
    FitEvaluation,
    FitRecord,
    Mode,
    fingerprint_of,
    predictions_path,
)
from flexbert.tasks.scoring import score
from flexbert.tasks.suite import Point, Task, TaskConfig
from flexbert.tasks.task_data import TRAIN, EncodedTask, TaskExamples, encode_task

# Raised whenever a fit with the same settings comes to something else.
FORMAT = 2
WEIGHTS = "weights"
PACKAGES = ("flexbert", "torch", "transformers", "tokenizers", "numpy", "flash-attn")
# What a fit does not depend on, or by something else than the key itself.
NOT_OF_A_FIT = ("data", "metrics", "from", "seeds", "microbatch_tokens")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fit to be made.

    Attributes:
        examples: of its task.
        budget: the share of the updates that are made.
        start: the fit whose best weights its encoder is from; None takes the model's own.
    """

    suite: str
    task: Task
    examples: TaskExamples
    model: TaskModel
    mode: Mode
    point: Point
    seed: int
    budget: float = 1.0
    start: Fit | None = None

    @property
    def settings(self) -> TaskConfig:
        return self.point.settings

    @functools.cached_property
    def id(self) -> str:
        """The same for the same fit, in any process and on any machine."""
        made_of = {
            "format": FORMAT,
            "task": self.task.name,
            "mode": self.mode,
            "model": self.model.fingerprint,
            "settings": fit_settings(self.settings, self.mode),
            "data": {name: data.fingerprint for name, data in self.examples.data.items()},
            "seed": self.seed,
            "budget": self.budget,
            "start": None if self.start is None else self.start.id,
        }
        return fingerprint_of(made_of)


def fit_settings(settings: TaskConfig, mode: Mode) -> dict[str, Any]:
    """What a fit's outcome depends on of its task's settings, and the metric it is chosen by."""
    return {**of_a_fit(settings.written, mode), "metric": settings.metric}


def of_a_fit(settings: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
    """Of a task's settings, as they are written, what a fit of a mode depends on."""
    if mode == "frozen":
        kept = ("kind", "max_length", "precision", "probe")
        return {key: value for key, value in settings.items() if key in kept}
    return {
        key: value for key, value in settings.items() if key not in (*NOT_OF_A_FIT, "probe", "grid")
    }


@dataclass
class FitMaker:
    """Makes fits on a device, and keeps what several of them have in common.

    Args:
        folder: of the results.
        beat: is called before each batch; what it raises ends the fit.
    """

    folder: Path
    device: torch.device
    beat: Callable[[], None] = lambda: None
    _encoded: dict[tuple[Any, ...], EncodedTask] = field(default_factory=dict)

    def make(self, fit: Fit, *, keep_weights: bool) -> FitRecord:
        """Make a fit; its predictions, and its weights where they are to be kept, are on the disk.

        Raises:
            UserError: if the model does not go with the task.
        """
        begun = time.perf_counter()
        task = self._encode(fit)
        if fit.mode == "frozen":
            return self._probed(fit, task, begun)
        fitted = self._fitted(fit, task)
        scores = {VALIDATION: fitted.scores}
        if tests := _tests(task):
            model = filled_model(fitted.config, fitted.weights).to(self.device)
            for name in tests:
                scores[name], _ = predict(
                    model, task.splits[name], fit.settings, self.device, self.beat
                )
        if keep_weights:
            self._write_weights(fit, fitted)
        return self._record(
            fit,
            task,
            scores,
            begun,
            updates=fitted.updates,
            epochs_run=fitted.epochs_run,
            train_tokens=fitted.train_tokens,
            evaluations=tuple(
                FitEvaluation(
                    update=each.update, epoch=each.epoch, loss=each.loss, metrics=each.metrics
                )
                for each in fitted.evaluations
            ),
        )

    def weights_of(self, fit: Fit) -> Path:
        """The checkpoint of a fit's best weights; made again if it was not kept."""
        path = weights_path(self.folder, fit.id)
        if not path.exists():
            make_folder(path.parent)
            # Of processes that need it one makes it, and the others wait.
            with file_lock(path.with_suffix(".lock")):
                if not path.exists():
                    self._write_weights(fit, self._fitted(fit, self._encode(fit)))
        return path

    def _fitted(self, fit: Fit, task: EncodedTask) -> Fitted:
        return fine_tune(
            replace(self._start(fit), head=model_head(fit.model.read(), fit.settings, task.names)),
            task,
            fit.settings,
            seed=fit.seed,
            device=self.device,
            budget=fit.budget,
            beat=self.beat,
        )

    def _start(self, fit: Fit) -> FitStart:
        read = fit.model.read()
        if fit.start is not None:
            checkpoint = read_checkpoint(self.weights_of(fit.start))
            return FitStart(config=model_config(checkpoint), weights=checkpoint.model)
        weights = None if fit.model.untrained else read.weights
        return FitStart(config=read.config, weights=weights)

    def _encode(self, fit: Fit) -> EncodedTask:
        """The task in the model's tokens: the last one is kept, as fits of a task come together."""
        read, length = fit.model.read(), fit.settings.max_length
        # Of models with one tokenizer, a run's checkpoints say, the tokens are the same.
        has_types = getattr(read.config.embedding, "token_types", 0)
        key = (fit.task.name, tuple(sorted(read.tokenizer.items())), has_types, length)
        if key not in self._encoded:
            self._encoded.clear()
            self._encoded[key] = encode_task(
                fit.examples, read.config, read.tokenizer, length, fit.model.label
            )
        return self._encoded[key]

    def _probed(self, fit: Fit, task: EncodedTask, begun: float) -> FitRecord:
        start = self._start(fit)
        found = probe(
            start,
            task,
            fit.settings,
            examples=fit.examples,
            tokenizer=fit.model.read().tokenizer,
            seed=fit.seed,
            device=self.device,
            beat=self.beat,
        )
        return self._record(
            fit,
            task,
            found.scores,
            begun,
            updates=0,
            epochs_run=0.0,
            train_tokens=found.train_tokens,
            evaluations=(),
        )

    def _write_weights(self, fit: Fit, fitted: Fitted) -> None:
        read = fit.model.read()
        recipe: dict[str, Any] = {
            "model": encode(fitted.config),
            "data": {"max_length": fit.settings.max_length},
        }
        if plugins := plugins_of(fitted.config):
            recipe["plugins"] = encode(plugins)
        path = weights_path(self.folder, fit.id)
        make_folder(path.parent)
        write_checkpoint(
            path, Checkpoint(recipe=recipe, tokenizer=dict(read.tokenizer), model=fitted.weights)
        )

    def _record(
        self,
        fit: Fit,
        task: EncodedTask,
        scores: Mapping[str, list[np.ndarray]],
        begun: float,
        **course: Any,
    ) -> FitRecord:
        found = {name: task.predictions(name, each) for name, each in scores.items()}
        path = predictions_path(self.folder, fit.id)
        write_predictions(path, FitPredictions(label_names=task.names, splits=found))
        metrics = {
            name: score(fit.settings.metrics, task.kind.name, split, task.names)
            for name, split in found.items()
        }
        validation = metrics.pop(VALIDATION)
        return FitRecord(
            fit=fit.id,
            suite=fit.suite,
            task=fit.task.name,
            model=fit.model.label,
            model_path=str(fit.model.path),
            model_fingerprint=fit.model.fingerprint,
            mode=fit.mode,
            seed=fit.seed,
            point=fit.point.values if fit.mode == "fine_tune" else {},
            settings=fit.settings.written,
            budget=fit.budget,
            start=None if fit.start is None else fit.start.id,
            metric=fit.settings.metric,
            value=validation[fit.settings.metric],
            metrics=validation,
            tests=metrics,
            examples={name: len(split) for name, split in task.splits.items()},
            cut={name: split.cut for name, split in task.splits.items()},
            data=fit.examples.data,
            versions={name: package_version(name) for name in PACKAGES},
            device=device_name(self.device),
            seconds=round(time.perf_counter() - begun, 3),
            predictions=str(path.relative_to(self.folder)),
            **course,
        )


def model_head(read: ReadModel, settings: TaskConfig, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a task's head that a model's architecture has."""
    return architecture_head(read.config, read.tokenizer, head_of(settings, names, {}))


def weights_path(folder: Path, fit: str) -> Path:
    """Where a fit's best weights are kept, a checkpoint, in the folder of the results."""
    return folder / WEIGHTS / f"{fit}.pt"


def _tests(task: EncodedTask) -> list[str]:
    return [name for name in task.splits if name not in (TRAIN, VALIDATION)]
