"""Which backend serves a call."""

from __future__ import annotations

import torch
from torch import Tensor

from flexbert.errors import ConfigError, did_you_mean
from flexbert.nn.attention_backends import reference, sdpa, torch_varlen
from flexbert.nn.attention_backends.backend import Backend
from flexbert.nn.ragged import RaggedBatch

# Best first: ``auto`` takes the first that can serve.
BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (torch_varlen.BACKEND, sdpa.BACKEND, reference.BACKEND)
}
AUTO = "auto"


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ragged: RaggedBatch,
    *,
    window: int | None,
    scale: float,
    backend: str = AUTO,
) -> Tensor:
    """Bidirectional attention within each sequence.

    Arguments as in :class:`~flexbert.nn.attention_backends.backend.AttendFunction`.

    Raises:
        ConfigError: if the backend cannot serve these tensors.
    """
    chosen = resolve_backend(backend, q.device, q.dtype, q.shape[-1])
    return chosen.attend(q, k, v, ragged.cu_seqlens, ragged.max_seqlen, window, scale)


def resolve_backend(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> Backend:
    """The backend of this name, or the best one that can serve for ``auto``.

    Raises:
        ConfigError: if the one asked for cannot serve, with the reason.
    """
    if name == AUTO:
        return next(b for b in BACKENDS.values() if b.why_not(device, dtype, head_dim) is None)
    reason = BACKENDS[name].why_not(device, dtype, head_dim)
    if reason is not None:
        raise ConfigError("model.attention.backend", f"{name} {reason}")
    return BACKENDS[name]


def backend_report(
    device: torch.device, dtype: torch.dtype, head_dim: int = 64
) -> dict[str, str | None]:
    """For every backend, best first, why it cannot serve here; None if it can."""
    return {name: b.why_not(device, dtype, head_dim) for name, b in BACKENDS.items()}


def check_backend(key: str, name: str) -> None:
    """Raises: ConfigError for a name that is neither a backend nor ``auto``."""
    if name not in (AUTO, *BACKENDS):
        hint = did_you_mean(name, (AUTO, *BACKENDS))
        raise ConfigError(key, f"no attention backend {name!r}; {hint}")
