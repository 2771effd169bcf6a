"""A linear probe on the features of a frozen encoder: no weight of it changes.

The features of a text are its tokens' pooled hidden states, those that the embedding gives and the
last layer's (``probe.layers``); of a word, those of its first token. Of two texts they are made
apart and joined as (u, v, |u - v|, u * v) (Conneau et al. 2017, InferSent): a linear layer over a
pair read at once sees next to nothing of how they are related before the encoder has learned to
tell it. What all texts have in common would drown such products, so u and v are centred and scaled
first. The probe minimises the task's own loss and a penalty on its weights by L-BFGS, on features
centred and scaled as training rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flexbert.config.training import IGNORE
from flexbert.errors import UserError
from flexbert.nn.build import build_model
from flexbert.nn.encoder import Encoder
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.pooling import pool
from flexbert.tasks.choosing import is_better
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.encoded_tasks import encode_split
from flexbert.tasks.fine_tuning import TOKENS_PER_FORWARD, FitStart, autocast
from flexbert.tasks.kinds.kind import Examples
from flexbert.tasks.results import VALIDATION
from flexbert.tasks.suite import TaskConfig
from flexbert.tasks.task_data import TRAIN, EncodedTask, TaskExamples, loaded_tokenizer

_ITERATIONS = 200
_TOLERANCE, _LEAST_CHANGE = 1e-6, 1e-10


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe came to.

    Attributes:
        l2: the strength that was chosen.
        scores: each example's logits, by split.
        train_tokens: that features were made of.
    """

    l2: float
    scores: dict[str, list[np.ndarray]]
    train_tokens: int


@dataclass(frozen=True)
class Features:
    """What a probe is fitted on.

    Args:
        values: ``[I, F]``, of each sequence or labelled word, float32.
        labels: ``[E]``, or ``[I]`` of words.
        choices: how many rows each example has ``[E]``; None is one.
        counts: how many rows each example has ``[E]``.
        tokens: that were read.
        of_pairs: whether the features of two texts stand side by side, not yet joined.
    """

    values: Tensor
    labels: Tensor
    choices: Tensor | None
    counts: np.ndarray
    tokens: int
    of_pairs: bool = False

    @property
    def joined(self) -> Features:
        """Of pairs ``[I, 2 C]`` the features of how they are related, ``[I, 4 C]``."""
        u, v = self.values.chunk(2, dim=1)
        values = torch.cat([u, v, (u - v).abs(), u * v], dim=1)
        return replace(self, values=values, of_pairs=False)


class _Standard(NamedTuple):
    """The mean of each feature ``[F]``, and one over its standard deviation."""

    centre: Tensor
    scale: Tensor

    @classmethod
    def of(cls, train: Features) -> _Standard:
        deviation, centre = torch.std_mean(train.values, dim=0, correction=0)
        return cls(centre, torch.where(deviation > 0, 1 / deviation, 0.0))

    def __call__(self, features: Features) -> Features:
        return replace(features, values=(features.values - self.centre) * self.scale)


def probe(
    start: FitStart,
    task: EncodedTask,
    settings: TaskConfig,
    *,
    examples: TaskExamples,
    tokenizer: Mapping[str, str],
    seed: int,
    device: torch.device,
    beat: Callable[[], None] = lambda: None,
) -> Probed:
    """Fit a probe with each strength of the penalty; the validation rows choose.

    torch's own random state is left as it was.

    Args:
        seed: of the encoder's weights where none are given, and of which training rows are taken
            where there are more than ``probe.examples``.
        beat: is called before each batch; what it raises ends the fit.

    Raises:
        UserError: for a kind of task that has no label an example or word.
    """
    if task.train.labels_of == "sequences":
        raise UserError(f"{settings.kind.name}: has no frozen mode; leave --frozen out")
    # What is built here draws numbers, whether or not they are used.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _probe(start, task, settings, examples, tokenizer, seed, device, beat)


def _probe(
    start: FitStart,
    task: EncodedTask,
    settings: TaskConfig,
    examples: TaskExamples,
    tokenizer: Mapping[str, str],
    seed: int,
    device: torch.device,
    beat: Callable[[], None],
) -> Probed:
    maker = _FeatureMaker(_encoder(start, device), settings, tokenizer, device, start, beat)
    rows = _chosen(task.train, settings.probe.examples, seed)
    train = maker.of(task.train, examples.splits[TRAIN], rows)
    others = {
        name: maker.of(split, examples.splits[name], None)
        for name, split in task.splits.items()
        if name != TRAIN
    }
    if train.of_pairs:
        standard = _Standard.of(train)
        train = standard(train).joined
        others = {name: standard(split).joined for name, split in others.items()}
    standard = _Standard.of(train)
    train = standard(train)
    others = {name: standard(split) for name, split in others.items()}
    best: tuple[float, float, nn.Linear] | None = None
    layer = None
    # From the strongest: each begins at the optimum of the one before, which is near its own.
    for l2 in sorted(settings.probe.l2, reverse=True):
        layer = fit_linear(train, settings, l2, settings.kind.num_outputs(task.names), layer)
        found = _scores(others[VALIDATION], layer)
        value = task.score(VALIDATION, found, [settings.metric])[settings.metric]
        if best is None or is_better(settings.metric, value, best[1]):
            best = l2, value, layer
    assert best is not None, "there is a strength"
    return Probed(
        l2=best[0],
        scores={name: _scores(split, best[2]) for name, split in others.items()},
        train_tokens=train.tokens,
    )


def fit_linear(
    train: Features,
    settings: TaskConfig,
    l2: float,
    num_outputs: int,
    begin: nn.Linear | None = None,
) -> nn.Linear:
    """The linear layer of the least loss, the mean of the task's with ``l2 / 2 * sum(W^2)``.

    Weights and bias start at those of ``begin``, or at zero, so that nothing is random. In float64:
    L-BFGS stops early where its steps are rounded off.
    """
    values = train.values.double()
    weight = torch.zeros(num_outputs, values.shape[1], dtype=torch.float64, device=values.device)
    bias = torch.zeros(num_outputs, dtype=torch.float64, device=values.device)
    if begin is not None:
        weight.copy_(begin.weight.detach())
        bias.copy_(begin.bias.detach())
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=_ITERATIONS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=_LEAST_CHANGE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        logits = values @ weight.T + bias
        losses = settings.kind.losses(logits, train.labels, train.choices)
        loss = losses.mean() + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    layer = nn.Linear(values.shape[1], num_outputs, device=values.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _scores(features: Features, layer: nn.Linear) -> list[np.ndarray]:
    with torch.no_grad():
        logits = layer(features.values).cpu().numpy()
    return np.split(logits, features.counts.cumsum()[:-1])


def _encoder(start: FitStart, device: torch.device) -> Encoder:
    if start.weights is None:
        model: Any = build_model(start.config)
        return model.encoder.to(device).eval()
    encoder = Encoder(start.config)
    prefix = "encoder."
    own = {
        name.removeprefix(prefix): value
        for name, value in start.weights.items()
        if name.startswith(prefix)
    }
    encoder.load_state_dict(own)
    return encoder.to(device).eval()


def _chosen(split: EncodedSplit, most: int | None, seed: int) -> np.ndarray | None:
    """Which training rows are taken, in their order; None takes all."""
    counts = np.ones(len(split), np.int64)
    if split.labels_of == "tokens":
        labelled = np.concatenate([[0], (split.labels != IGNORE).cumsum()])
        counts = np.diff(labelled[split.borders])
    if most is None or counts.sum() <= most:
        return None
    order = np.random.Generator(np.random.PCG64DXSM(seed)).permutation(len(split))
    return np.sort(order[: max(1, int(np.searchsorted(counts[order].cumsum(), most, "right")))])


class _FeatureMaker:
    def __init__(
        self,
        encoder: Encoder,
        settings: TaskConfig,
        tokenizer: Mapping[str, str],
        device: torch.device,
        start: FitStart,
        beat: Callable[[], None],
    ) -> None:
        self.encoder = encoder
        self.settings = settings
        self.tokenizer = loaded_tokenizer(tokenizer)
        self.device = device
        self.beat = beat
        self.has_types = getattr(start.config.embedding, "token_types", 0) >= 2

    def of(self, split: EncodedSplit, examples: Examples, rows: np.ndarray | None) -> Features:
        """The features of a split's examples, or of some of them."""
        rows = np.arange(len(split)) if rows is None else rows
        if examples.second is None:
            values, labels, counts, tokens = self._read(split, rows)
            return Features(values, labels, None, counts, tokens)
        u, tokens = self._apart(examples.first, split, rows)
        v, tokens_of_v = self._apart(examples.second, split, rows)
        choices = None if split.sequences is None else torch.from_numpy(split.sequences[rows])
        return Features(
            torch.cat([u, v], dim=1),
            torch.from_numpy(split.labels[rows]).to(self.device),
            None if choices is None else choices.to(self.device),
            np.ones(len(rows), np.int64) if choices is None else choices.numpy(),
            tokens + tokens_of_v,
            of_pairs=True,
        )

    def _apart(self, texts: Any, split: EncodedSplit, rows: np.ndarray) -> tuple[Tensor, int]:
        """One of the texts of each sequence of some examples, read alone, equal ones once: their
        vectors, and how many tokens were read.
        """
        firsts = split.firsts
        sequences = np.concatenate([np.arange(firsts[row], firsts[row + 1]) for row in rows])
        own = [texts[sequence] for sequence in sequences]
        places = {text: place for place, text in enumerate(dict.fromkeys(own))}
        alone = Examples(first=list(places), labels=[0] * len(places))
        encoded = encode_split(
            alone,
            self.settings.kind,
            self.tokenizer,
            self.settings.max_length,
            token_types=self.has_types,
        )
        vectors, _, _, tokens = self._read(encoded, np.arange(len(encoded)))
        return vectors[[places[text] for text in own]], tokens

    def _hidden(self, packed: PackedBatch) -> Tensor:
        """``[N, C]``, or ``[N, 2 C]`` of two layers."""
        last: Tensor = self.encoder(packed)
        if self.settings.probe.layers == "last":
            return last
        return torch.cat([self.encoder.embedding(packed).to(last.dtype), last], dim=1)

    def _read(
        self, split: EncodedSplit, rows: np.ndarray
    ) -> tuple[Tensor, Tensor, np.ndarray, int]:
        """Vectors, labels, how many of both each example has, and how many tokens were read."""
        values, labels, counts = [], [], []
        with torch.inference_mode(), autocast(self.settings, self.device):
            for some in split.within(rows, TOKENS_PER_FORWARD):
                self.beat()
                batch = split.batch(some, self.device)
                hidden = self._hidden(batch.packed)
                if batch.labelled is None:
                    vectors = pool(hidden, batch.packed, self.settings.probe.pooling)
                else:
                    vectors = hidden[batch.labelled]
                values.append(vectors.float())
                labels.append(batch.labels)
                counts.append(batch.counts)
        return (
            torch.cat(values).clone(),
            torch.cat(labels).clone(),
            np.concatenate(counts),
            int(split.lengths[rows].sum()),
        )
