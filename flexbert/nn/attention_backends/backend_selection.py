"""Which backend serves a call."""

from __future__ import annotations

import functools
from typing import NoReturn

import torch
from torch import Tensor

from flexbert.config.backend_choice import AUTO
from flexbert.config.synonyms import name_hint
from flexbert.errors import ConfigError
from flexbert.nn.attention_backends import (
    flash_attn_2,
    flash_attn_3,
    reference,
    sdpa,
    torch_varlen,
)
from flexbert.nn.attention_backends.backend import Backend, Call, Request
from flexbert.nn.attention_backends.cpu import matmul
from flexbert.nn.packed_batch import PackedBatch

# Best first: ``auto`` takes the first that can serve.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        flash_attn_3.BACKEND,
        flash_attn_2.BACKEND,
        torch_varlen.BACKEND,
        matmul.BACKEND,
        sdpa.BACKEND,
        reference.BACKEND,
    )
}


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedBatch,
    *,
    window: int | None,
    scale: float,
    alibi_slopes: Tensor | None = None,
    dropout: float = 0.0,
    backend: str = AUTO,
) -> Tensor:
    """Bidirectional attention within each sequence.

    Arguments as in :class:`~flexbert.nn.attention_backends.backend.AttendFunction` and ``Call``;
    ``backend`` is a name or ``auto``. Deterministic where ``torch.use_deterministic_algorithms``
    says so.

    Raises:
        ConfigError: if the backend cannot serve this call.
    """
    name, problem = _resolve(
        backend,
        q.device,
        q.dtype,
        q.shape[-1],
        window is not None,
        q.shape[1] != k.shape[1],
        alibi_slopes is not None,
        dropout > 0,
        torch.are_deterministic_algorithms_enabled(),
    )
    if problem is not None:
        _refuse(problem)
    return BACKENDS[name].attend(
        q, k, v, Call(packed.cu_seqlens, packed.max_seqlen, window, scale, alibi_slopes, dropout)
    )


# Runs while torch.compile traces, which bakes its result into the graph; called with plain values,
# because those are what it then guards on.
@torch.compiler.assume_constant_result
def _resolve(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    windowed: bool,
    grouped: bool,
    alibi: bool,
    dropout: bool,
    deterministic: bool,
) -> tuple[str, str | None]:
    return _remembered(
        name, Request(device, dtype, head_dim, windowed, grouped, alibi, dropout, deterministic)
    )


# While it traces, torch.compile would turn the error into one of its own.
@torch.compiler.disable
def _refuse(problem: str) -> NoReturn:
    raise ConfigError("model.attention.backend", problem)


@functools.lru_cache
def _remembered(name: str, request: Request) -> tuple[str, str | None]:
    """The backend's name, or why there is none: every layer's forward asks."""
    try:
        return resolve_backend(name, request).name, None
    except ConfigError as error:
        return name, error.problem


def resolve_backend(name: str, request: Request) -> Backend:
    """The backend of this name, or the best one that can serve the request for ``auto``.

    Raises:
        ConfigError: if the one asked for cannot serve, with the reason and the best that can.
    """
    best = next(b for b in BACKENDS.values() if b.why_not(request) is None)
    if name == AUTO:
        return best
    reason = BACKENDS[name].why_not(request)
    if reason is not None:
        raise ConfigError("model.attention.backend", f"{name} {reason}; {best.name} can serve")
    return BACKENDS[name]


def backend_report(request: Request) -> dict[str, str | None]:
    """For every backend, best first, why it cannot serve here; None if it can."""
    return {name: b.why_not(request) for name, b in BACKENDS.items()}


def check_backend(key: str, name: str) -> None:
    """Raises: ConfigError for a name that is neither a backend nor ``auto``."""
    if name not in (AUTO, *BACKENDS):
        hint = name_hint(name, (AUTO, *BACKENDS))
        raise ConfigError(key, f"no attention backend {name!r}; {hint}")
