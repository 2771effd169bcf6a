"""Cross-entropy of deferred logits, some rows at a time.

Gradients are computed together with the loss, while the logits that they need exist (Hsu et
al. 2024, "Liger Kernel", arXiv 2410.10989): logits are neither kept nor computed twice. With P the
softmax of a row, L its denominator's logarithm, y its label, e the label smoothing and z the factor
of the z-loss, the loss is ``L - (1 - e) logit(y) - e mean(logits) + z L^2`` and its gradient
``(1 + 2 z L) P - (1 - e) onehot(y) - e / V``.

Between the products logits become gradients in one of two ways: by torch's operations, some rows at
a time, or by code that torch.compile makes, all rows of a group at once.

Shape legend: M rows, V entries of the vocabulary, E features; G rows of a group, R rows of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from flexbert.config.training import IGNORE
from flexbert.nn.device_kind import kind_of
from flexbert.nn.logits import DeferredLogits

# Logits that exist at one time, by device: a group, for the matrix products, in their dtype; and a
# pass over some of its rows in float32, which on a CPU stays in cache. With smaller groups the
# gradient of the matrix is added up more often. Among 2^23 to 2^26 and 2^18 to 2^22 the fastest,
# or within 3 percent of it, for 615 and 2458 rows of 256 features and 32,768 logits (one core).
_GROUP = {"cpu": 1 << 25}
_PASS = {"cpu": 1 << 20}
_ELSEWHERE = 1 << 27


class TokenScores(NamedTuple):
    """How well tokens are predicted.

    Attributes:
        losses: cross-entropy in nats, float32 ``[M]``; zero where there is no label.
        hits: bool ``[M]``, whether the most likely token is the label.
        counts: bool ``[M]``, whether there is a label.
    """

    losses: Tensor
    hits: Tensor
    counts: Tensor


@torch.no_grad()
def token_scores(logits: DeferredLogits, labels: Tensor) -> TokenScores:
    """The scores of ``labels [M]``, ``IGNORE`` where there is none; without gradients."""
    features, matrix, bias = logits.cast()
    losses = features.new_empty(len(labels), dtype=torch.float32)
    hits = torch.empty_like(labels, dtype=torch.bool)
    for rows in _slices(_PASS, len(labels), len(matrix), matrix.device):
        some = F.linear(features[rows], matrix, bias)
        losses[rows] = F.cross_entropy(
            some.float(), labels[rows], ignore_index=IGNORE, reduction="none"
        )
        hits[rows] = some.argmax(-1) == labels[rows]
    return TokenScores(losses, hits, labels != IGNORE)


def summed_cross_entropy(
    logits: DeferredLogits,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    compiled: bool = False,
) -> Tensor:
    """Cross-entropy in nats and z-loss, at least float32 ``[]``, summed over ``labels [M]``.

    Zero where every label is ``IGNORE``, with gradients of zero: a padding row must not make NaN,
    nor leave a parameter without the gradient that other processes wait for.

    Args:
        compiled: by torch.compile, which must be able to work here (see
            :func:`~flexbert.nn.compilation.toolchain_problem`).
    """
    factors = _Factors(label_smoothing, z_loss)
    total: Tensor = _SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        *logits, labels, factors, compiled
    )
    return total


def working_bytes(count: int, vocab_size: int, width: int, itemsize: int) -> int:
    """See :meth:`~flexbert.config.training.LossConfig.working_bytes`."""
    logits = min(count, max(1, _ELSEWHERE // vocab_size)) * vocab_size
    matrix_and_part_of_its_gradient = 2 * vocab_size * width
    return logits * (itemsize + 4) + matrix_and_part_of_its_gradient * itemsize


class _Factors(NamedTuple):
    label_smoothing: float
    z_loss: float


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        labels: Tensor,
        factors: _Factors,
        compiled: bool,
    ) -> Tensor:
        logits = DeferredLogits(features, matrix, bias, dtype)
        total, gradients = _loss_and_gradients(logits, labels, factors, compiled)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # In place: the matrix's is as large as the matrix, and nobody else has it.
        scaled = [None if g is None else g.mul_(grad) for g in ctx.saved_tensors]
        return *scaled, None, None, None, None


def _loss_and_gradients(
    logits: DeferredLogits, labels: Tensor, factors: _Factors, compiled: bool
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor | None]]:
    """The sum, and its gradients by features, matrix and bias, each in its own dtype."""
    features, matrix, bias = logits.cast()
    sum_dtype = torch.promote_types(logits.dtype, torch.float32)
    counts = labels != IGNORE
    labels = labels.where(counts, 0)
    weights = counts.to(sum_dtype)
    total = weights.new_zeros(())
    grad_features = torch.zeros_like(features)
    grad_matrix = torch.zeros_like(matrix, dtype=sum_dtype)
    grad_bias = weights.new_zeros(len(matrix))
    for group in _slices(_GROUP, len(labels), len(matrix), matrix.device):
        some = features[group]
        losses, grads = _logit_gradients(some, matrix, bias, labels[group], factors, compiled)
        total += losses @ weights[group]
        # Rows that do not count are left out at the narrow side of the products, where it is cheap.
        is_counted = counts[group, None]
        grad_features[group] = (grads @ matrix) * is_counted
        grad_matrix += grads.T @ (some * is_counted)
        if bias is not None:
            grad_bias += weights[group].to(grads.dtype) @ grads
        del grads  # before there are the next group's logits
    return total, (
        grad_features.to(logits.features.dtype),
        grad_matrix.to(logits.matrix.dtype),
        None if logits.bias is None else grad_bias.to(logits.bias.dtype),
    )


def _logit_gradients(
    features: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    factors: _Factors,
    compiled: bool,
) -> tuple[Tensor, Tensor]:
    """Losses ``[G]``, and their gradients by the logits ``[G, V]`` in the logits' dtype."""
    logits = F.linear(features, matrix, bias)
    if compiled:
        losses, grads = _compiled_gradients()(logits, labels, factors)
        return losses, grads
    # In place of the logits, some rows at a time: what lies between the operations stays in cache.
    num_rows, vocab_size = logits.shape
    losses = logits.new_empty(num_rows, dtype=torch.promote_types(logits.dtype, torch.float32))
    for rows in _slices(_PASS, num_rows, vocab_size, logits.device):
        losses[rows], grads, at_label = _row_losses(logits[rows], labels[rows], factors)
        logits[rows] = grads.scatter_(1, labels[rows, None], at_label)
    return losses, logits


@cache
def _compiled_gradients() -> Callable[[Tensor, Tensor, _Factors], tuple[Tensor, Tensor]]:
    return torch.compile(_gradients_at_once, fullgraph=True, dynamic=False)


def _gradients_at_once(logits: Tensor, labels: Tensor, factors: _Factors) -> tuple[Tensor, Tensor]:
    """As :func:`_logit_gradients`, for torch.compile to fuse."""
    losses, grads, at_label = _row_losses(logits, labels, factors)
    # Rounded before the labels' are put in: a scatter needs its target in memory, the smaller one.
    rounded = grads.to(logits.dtype)
    return losses, rounded.scatter_(1, labels[:, None], at_label.to(logits.dtype))


def _row_losses(logits: Tensor, labels: Tensor, factors: _Factors) -> tuple[Tensor, Tensor, Tensor]:
    """For logits ``[R, V]`` the losses ``[R]`` and what their gradients are, in at least float32.

    Returns:
        The losses; the gradients ``[R, V]``, but at the labels; those at the labels ``[R, 1]``.
    """
    probs = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    # The largest probability is the largest exponential, 1, over the denominator.
    log_denominator = logits.amax(-1).to(probs.dtype) - probs.amax(-1).log()
    at_label = labels[:, None]
    target = (1 - factors.label_smoothing) * logits.gather(1, at_label)[:, 0].to(probs.dtype)
    losses = log_denominator - target
    if factors.z_loss:
        losses = losses + factors.z_loss * log_denominator.square()
        probs.mul_(1 + 2 * factors.z_loss * log_denominator[:, None])
    if factors.label_smoothing:
        losses = losses - factors.label_smoothing * logits.mean(-1, dtype=probs.dtype)
        probs.sub_(factors.label_smoothing / logits.shape[-1])
    # To be written there, not added: scatter_add_ is not deterministic on every GPU.
    return losses, probs, probs.gather(1, at_label) - (1 - factors.label_smoothing)


def _slices(
    limits: dict[str, int], count: int, vocab_size: int, device: torch.device
) -> Iterator[slice]:
    """How many of these rows have no more logits together than the device's limit."""
    kind = kind_of(device)
    step = max(1, limits.get(kind, _ELSEWHERE) // vocab_size)
    return (slice(begin, min(begin + step, count)) for begin in range(0, count, step))
