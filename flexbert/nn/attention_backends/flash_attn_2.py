"""FlashAttention 2 from its own package, ``flash-attn``.

``flash_attn_varlen_func`` is a torch.autograd.Function over two custom ops with fake
implementations (``flash_attn::_flash_attn_varlen_forward`` and ``_backward``), which torch.compile
traces into one graph; so nothing is wrapped here. (Tried with stand-ins for the kernels under the
Python of 2.7.4.post1 and 2.8.3: one graph, and eager's gradients.) The ops came with 2.7; before,
as in 2.6.3, it called a pybind11 module, which torch.compile cannot trace, and is refused. Unless
``return_attn_probs`` is set, it returns a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flexbert.nn.attention_backends import flash
from flexbert.nn.attention_backends.backend import Backend, Call, Limit


def _varlen_function(package: Any) -> Any:
    major, minor = map(int, package.__version__.split(".")[:2])
    if (major, minor) < (2, 7):
        raise ImportError(f"it is {package.__version__}, and torch.compile needs 2.7 or newer")
    return package.flash_attn_varlen_func


flash_attn_varlen_func, package_problem = flash.load("flash_attn", _varlen_function, "flash-attn")


def attend(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """See :class:`~flexbert.nn.attention_backends.backend.AttendFunction`."""
    q, k, v = flash.dense_rows(q, k, v)
    return flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=call.cu_seqlens,
        cu_seqlens_k=call.cu_seqlens,
        max_seqlen_q=call.max_seqlen,
        max_seqlen_k=call.max_seqlen,
        dropout_p=call.dropout,
        softmax_scale=call.scale,
        window_size=flash.window_size(call.window),
        alibi_slopes=call.alibi_slopes,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )


def _unavailable(device: torch.device) -> str | None:
    return flash.gpu_problem(device, *flash.AMPERE_OR_NEWER) or package_problem


BACKEND = Backend(
    name="flash_attn_2",
    attend=attend,
    devices="CUDA, Ampere or newer; flash-attn 2.7",
    unavailable=_unavailable,
    dtypes=flash.DTYPES,
    limits=(
        flash.LARGEST_HEAD,
        # run_mha_bwd_hdim256 launches no kernel for them where a block has less than 144 KiB of
        # shared memory (compute capability 8.6 and 8.9): gradients are then whatever memory held.
        Limit(
            "has no dropout for heads larger than 192: on many GPUs its backward does nothing then",
            ("dropout",),
            above_head_dim=192,
        ),
    ),
)
