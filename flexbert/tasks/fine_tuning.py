"""One fit: a trained encoder, a new head, a task's examples laid end to end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flexbert.checkpoint.checkpoint import Weights
from flexbert.config.clock import StageClock
from flexbert.config.duration import Duration
from flexbert.config.model import ModelConfig
from flexbert.config.optimizer import Multipliers
from flexbert.nn.build import build_model
from flexbert.pretrained.load_model import with_head
from flexbert.tasks.choosing import is_better
from flexbert.tasks.encoded_split import EncodedSplit, TaskBatch
from flexbert.tasks.results import VALIDATION
from flexbert.tasks.suite import TaskConfig
from flexbert.tasks.task_data import EncodedTask

# Of the validation rows: nothing is kept for a backward pass.
TOKENS_PER_FORWARD = 1 << 15


@dataclass(frozen=True, kw_only=True)
class FitStart:
    """What a fit starts from.

    Attributes:
        weights: None draws all of them anew, by the fit's seed.
        head: fields that a head has under this encoder in transformers:
            :func:`~flexbert.pretrained.architecture_head.architecture_head`.
    """

    config: ModelConfig
    weights: Weights | None
    head: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Of the validation rows, after an update.

    Attributes:
        epoch: how often the training rows have been gone through.
        loss: of the validation rows, a mean.
        train_loss: of the training rows since the evaluation before, a mean over updates.
    """

    update: int
    epoch: float
    loss: float
    train_loss: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a fit came to.

    Attributes:
        config, weights: of the model at its best evaluation, on the CPU.
        best: that evaluation.
        scores: each validation example's logits at it.
        diverged: whether the fit was ended because its loss was no number any more.
        train_tokens: that were trained on, special tokens included.
    """

    config: ModelConfig
    weights: Weights
    best: Evaluation
    scores: list[np.ndarray]
    evaluations: list[Evaluation]
    updates: int
    epochs_run: float
    train_tokens: int
    diverged: bool


def fine_tune(
    start: FitStart,
    task: EncodedTask,
    settings: TaskConfig,
    *,
    seed: int,
    device: torch.device,
    budget: float = 1.0,
    losses: list[float] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Fitted:
    """Fit a model to a task's training rows, and keep it as it was when it was best.

    Everything random is drawn from the seed, and torch's own random state is left as it was.

    Args:
        budget: the share of the updates that are made, the schedule with them.
        losses: takes the loss of each update.
        beat: is called before each batch; what it raises ends the fit.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        config, model = new_start(start, settings, task)
        return _Fit(config, model.to(device), task, settings, seed, device, beat).run(
            budget, losses
        )


def new_start(
    start: FitStart, settings: TaskConfig, task: EncodedTask
) -> tuple[ModelConfig, nn.Module]:
    """The model that a fit begins with; what is new is drawn from torch's random state."""
    head = head_of(settings, task.names, start.head)
    weights = start.weights
    if weights is None:
        weights = build_model(start.config).state_dict()
    return with_head(start.config, weights, head)


def head_of(
    settings: TaskConfig, names: tuple[str, ...], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The head of a task as a recipe writes it.

    Args:
        fields: of the model's architecture. Where the task says how to pool, that counts.
    """
    kind = settings.kind
    head: dict[str, Any] = {"name": kind.head, "dropout": settings.head_dropout, **fields}
    head["num_labels"] = kind.num_outputs(names)
    if len(names) == head["num_labels"]:
        head["labels"] = list(names)
    if kind.labels_of == "examples":
        head["pooling"] = settings.pooling or head.get("pooling", "mean")
    return head


def predict(
    model: nn.Module,
    split: EncodedSplit,
    settings: TaskConfig,
    device: torch.device,
    beat: Callable[[], None] = lambda: None,
) -> tuple[list[np.ndarray], float]:
    """The logits of every example, of tokens those that have labels; the mean loss."""
    found: list[np.ndarray] = []
    loss, count = 0.0, 0
    model.eval()
    with torch.inference_mode(), autocast(settings, device):
        for some in split.within(np.arange(len(split)), TOKENS_PER_FORWARD):
            beat()
            batch = split.batch(some, device)
            logits = labelled_logits(model, batch).float()
            losses = settings.kind.losses(logits, batch.labels, batch.rows)
            loss += float(losses.double().sum())
            count += len(losses)
            found += np.split(logits.cpu().numpy(), batch.counts.cumsum()[:-1])
    return found, loss / max(count, 1)


def labelled_logits(model: nn.Module, batch: TaskBatch) -> Tensor:
    """The logits that labels go with: of sequences ``[S, K]``, or of tokens ``[I, K]``."""
    logits: Tensor = model(batch.packed)
    return logits if batch.labelled is None else logits[batch.labelled]


def autocast(settings: TaskConfig, device: torch.device) -> torch.autocast:
    """Matrix products in bfloat16 where the task's precision says so."""
    is_bf16 = settings.precision == "amp_bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16)


@dataclass(frozen=True)
class Course:
    """Which examples each update of a fit takes, and after which ones it is evaluated.

    Args:
        examples: there are.
        updates: that are made.
        evaluations_per_epoch: None is one evaluation, at the end.
    """

    examples: int
    batch_size: int
    updates: int
    evaluations_per_epoch: int | None
    seed: int

    @property
    def per_epoch(self) -> int:
        """Updates; the last one of an epoch takes what is left."""
        return math.ceil(self.examples / self.batch_size)

    def batches(self) -> Iterator[np.ndarray]:
        """The examples of each update, in an order of its own for every epoch."""
        for epoch in range(math.ceil(self.updates / self.per_epoch)):
            key = np.random.SeedSequence((self.seed, epoch))
            order = np.random.Generator(np.random.PCG64DXSM(key)).permutation(self.examples)
            left = self.updates - epoch * self.per_epoch
            for begin in range(0, self.examples, self.batch_size)[:left]:
                yield order[begin : begin + self.batch_size]

    @property
    def evaluated(self) -> frozenset[int]:
        """After how many updates the validation rows are predicted."""
        often = self.evaluations_per_epoch
        if often is None:
            return frozenset({self.updates})
        count = math.ceil(self.updates / self.per_epoch * often)
        points = (math.ceil(n * self.per_epoch / often) for n in range(1, count + 1))
        return frozenset(min(point, self.updates) for point in points) | {self.updates}


def course_of(settings: TaskConfig, examples: int, seed: int, budget: float = 1.0) -> Course:
    """The course of a fit over so many training rows."""
    per_epoch = math.ceil(examples / settings.batch_size)
    stopping = settings.early_stopping
    return Course(
        examples=examples,
        batch_size=settings.batch_size,
        updates=max(1, round(settings.epochs * per_epoch * budget)),
        evaluations_per_epoch=None if stopping is None else stopping.evaluations_per_epoch,
        seed=seed,
    )


@dataclass
class _Fit:
    """The state of a fit while it goes on."""

    config: ModelConfig
    model: nn.Module
    task: EncodedTask
    settings: TaskConfig
    seed: int
    device: torch.device
    beat: Callable[[], None]
    evaluations: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    weights: Weights = field(default_factory=dict)
    scores: list[np.ndarray] = field(default_factory=list)

    def run(self, budget: float, losses: list[float] | None) -> Fitted:
        settings, train = self.settings, self.task.train
        course = course_of(settings, len(train), self.seed, budget)
        optimizer = settings.optimizer.build(self.model)
        update = tokens = 0
        since: list[Tensor] = []
        diverged = False
        self.model.train()
        for update, examples in enumerate(course.batches(), 1):
            self.beat()
            self._set_hyperparameters(optimizer, update - 1, course.updates)
            since.append(self._update(optimizer, train, examples))
            tokens += int(train.lengths[examples].sum())
            if losses is not None:
                losses.append(float(since[-1]))
            if update not in course.evaluated:
                continue
            loss = float(torch.stack(since).mean())
            since.clear()
            diverged = not math.isfinite(loss)
            if diverged and self.best is not None:
                break
            self._evaluate(update, update / course.per_epoch, loss)
            if diverged or self._is_out_of_patience():
                break
        assert self.best is not None, "the last update is evaluated"
        return Fitted(
            config=self.config,
            weights=self.weights,
            best=self.best,
            scores=self.scores,
            evaluations=self.evaluations,
            updates=update,
            epochs_run=update / course.per_epoch,
            train_tokens=tokens,
            diverged=diverged,
        )

    def _set_hyperparameters(self, optimizer: Any, done: int, updates: int) -> None:
        clock = StageClock(tokens=0, updates=done, duration=Duration(updates, "ba"))
        multipliers = Multipliers(lr=self.settings.schedule.multiplier(clock))
        for group in optimizer.param_groups:
            group.update(self.settings.optimizer.hyperparameters(group, multipliers))

    def _update(self, optimizer: Any, train: EncodedSplit, examples: np.ndarray) -> Tensor:
        """Make an update; returns the mean loss of its examples, labelled tokens, or windows."""
        parts = [
            train.batch(some, self.device)
            for some in train.within(examples, self.settings.microbatch_tokens)
        ]
        count = max(1, sum(len(batch.labels) for batch in parts))
        total = torch.zeros((), device=self.device)
        for batch in parts:
            with autocast(self.settings, self.device):
                logits = labelled_logits(self.model, batch)
            losses = self.settings.kind.losses(logits, batch.labels, batch.rows)
            loss = losses.sum() / count
            loss.backward()
            total += loss.detach()
        if (norm := self.settings.optimizer.clip_norm) is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _evaluate(self, update: int, epoch: float, train_loss: float) -> None:
        scores, loss = predict(
            self.model, self.task.validation, self.settings, self.device, self.beat
        )
        self.model.train()
        found = Evaluation(
            update=update,
            epoch=epoch,
            loss=loss,
            train_loss=train_loss,
            metrics=self.task.score(VALIDATION, scores, self.settings.metrics),
        )
        self.evaluations.append(found)
        if self.best is None or self._is_better(found, self.best):
            self.best, self.scores = found, scores
            self.weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in self.model.state_dict().items()
            }

    def _is_better(self, new: Evaluation, old: Evaluation) -> bool:
        metric = self.settings.metric
        return is_better(metric, new.metrics[metric], old.metrics[metric])

    def _is_out_of_patience(self) -> bool:
        stopping = self.settings.early_stopping
        if stopping is None or self.best is None:
            return False
        since = len(self.evaluations) - 1 - self.evaluations.index(self.best)
        return since >= stopping.patience
