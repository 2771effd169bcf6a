"""What masked-LM training minimises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from torch import Tensor

from flexbert.config.fields import COMPUTATION, key
from flexbert.config.registry import register
from flexbert.config.training import IGNORE, LossConfig
from flexbert.errors import ConfigError
from flexbert.nn.cross_entropy import summed_cross_entropy, working_bytes
from flexbert.nn.logits import DeferredLogits

# The mean over the tokens that have a label, from logits [M, V] and labels [M].
LossFunction: TypeAlias = Callable[[DeferredLogits, Tensor], Tensor]


class Loss(LossConfig):
    """What every ``loss`` is: it computes a mean over masked tokens."""

    @abstractmethod
    def __call__(self, logits: DeferredLogits, labels: Tensor) -> Tensor:
        """The mean over masked tokens of ``logits [M, V]`` against ``labels [M]``.

        A label may be ``IGNORE``. ``logits.computed()`` are all of them at once.
        """

    def compiled(self) -> LossFunction:
        """This loss for a model that is compiled; the loss itself unless overridden."""
        return self


def as_loss(config: LossConfig) -> Loss:
    """The loss that a recipe names.

    Raises:
        ConfigError: if what is registered under that name computes none.
    """
    if not isinstance(config, Loss):
        raise ConfigError("loss.name", f"{config.name} is no flexbert.nn.loss.Loss")
    return config


@register("cross_entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(Loss):
    """Cross-entropy, in nats per masked token.

    Attributes:
        label_smoothing: share of the target spread evenly over the vocabulary (Szegedy et al.
            2016).
        z_loss: factor on the squared log of the softmax's denominator, which keeps logits from
            drifting (PaLM, Chowdhery et al. 2022, has 1e-4).
    """

    label_smoothing: float = key(COMPUTATION, default=0.0, at_least=0, below=1)
    z_loss: float = key(COMPUTATION, default=0.0, at_least=0)

    def __call__(self, logits: DeferredLogits, labels: Tensor) -> Tensor:
        """Zero, with gradients of zero, where every label is ``IGNORE``."""
        return self._mean(logits, labels, compiled=False)

    def compiled(self) -> LossFunction:
        return partial(self._mean, compiled=True)

    def _mean(self, logits: DeferredLogits, labels: Tensor, *, compiled: bool) -> Tensor:
        total = summed_cross_entropy(
            logits,
            labels,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            compiled=compiled,
        )
        return total / (labels != IGNORE).sum().clamp(min=1)

    def working_bytes(self, count: int, vocab_size: int, width: int, itemsize: int) -> int:
        return working_bytes(count, vocab_size, width, itemsize)
