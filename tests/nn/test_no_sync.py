"""No micro-batch makes the process wait for its device.

The model runs forward and backward on fake tensors, which have shapes and no content. Whatever
would read a number off the device raises there: ``.item()``, an ``if``, a shape that depends on
values. Copies from one device to another are counted on a GPU that need not be there: each waits
for it. What stands inside an attention op is not seen; with FlashAttention it is one kernel's
launch. What ``sdpa`` does in local layers is tested below; in global ones it reads each batch once
(``test_documents.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flexbert.config.model import ModelConfig
from flexbert.nn.attention_backends import backend_selection, flash, sdpa, torch_varlen
from flexbert.nn.attention_backends.backend import Backend, Call
from flexbert.nn.loss import CrossEntropyConfig
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch
from tests.nn.test_compile import MODELS

TOKENS, SEQUENCES, MASKED = 256, 12, 80


def a_batch(device: str = "cpu") -> tuple[PackedBatch, Tensor]:
    """A packed batch, and as many masked positions as labels."""
    packed = PackedBatch(
        tokens=torch.zeros(TOKENS, dtype=torch.int64, device=device),
        cu_seqlens=torch.zeros(SEQUENCES + 1, dtype=torch.int32, device=device),
        max_seqlen=64,
        position_ids=torch.zeros(TOKENS, dtype=torch.int64, device=device),
    )
    return packed, torch.zeros(MASKED, dtype=torch.int64, device=device)


def forward_and_backward(model: MaskedLM, loss: CrossEntropyConfig) -> None:
    packed, masked = a_batch()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.deferred_logits(packed, masked)
    loss(logits, masked).backward()


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_a_micro_batch_reads_nothing_off_the_device(config: ModelConfig) -> None:
    with FakeTensorMode():
        model = MaskedLM(config)
        forward_and_backward(model, CrossEntropyConfig(label_smoothing=0.1, z_loss=1e-4))
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


class Transfers(TorchDispatchMode):
    """Counts copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        devices = {leaf.device for leaf in leaves if isinstance(leaf, Tensor)}
        if len(devices) > 1 and func.overloadpacket in (
            torch.ops.aten._to_copy,
            torch.ops.aten.copy_,
        ):
            self.seen.append(str(func))
        return out


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=str)
def served(
    request: pytest.FixtureRequest, name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Attention as a GPU with torch's FlashAttention serves it, in bfloat16 or float32."""
    monkeypatch.setattr(flash, "gpu_problem", lambda *_: None)
    served: set[str] = set()
    for backend in (torch_varlen.BACKEND, sdpa.BACKEND):
        monkeypatch.setitem(backend_selection.BACKENDS, backend.name, spied(backend, served))
    backend_selection._remembered.cache_clear()
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)  # parameters without content cannot be cast
    yield
    torch.set_default_dtype(before)
    backend_selection._remembered.cache_clear()
    is_plain = name not in ("with dropout", "ALiBi, grouped queries")
    by_flash = is_plain and request.param is torch.bfloat16
    assert served == {"torch_varlen" if by_flash else "sdpa"}


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", MODELS)
def test_a_forward_pass_brings_nothing_to_the_gpu(name: str) -> None:
    with FakeTensorMode():
        with torch.device("cuda"):
            model = MaskedLM(MODELS[name])
        packed, masked = a_batch("cuda")
        with Transfers() as transfers:
            logits = model.deferred_logits(packed, masked)
            loss = CrossEntropyConfig(label_smoothing=0.1)(logits, masked)
        assert loss.is_cuda
    assert not transfers.seen


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", MODELS)
def test_a_micro_batch_moves_nothing_between_devices(name: str) -> None:
    """Backward too. The device is torch's without storage: autograd asks CUDA for a real one."""
    with torch.device("meta"):
        model = MaskedLM(MODELS[name])
    packed, masked = a_batch("meta")
    for _ in range(2):  # slopes come along with the first, as the parameters came from nowhere
        with Transfers() as transfers:
            logits = model.deferred_logits(packed, masked)
            CrossEntropyConfig(label_smoothing=0.1)(logits, masked).backward()
    assert not transfers.seen
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())


def spied(backend: Backend, served: set[str]) -> Backend:
    """The backend; its name is noted when it serves."""

    def attend(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        served.add(backend.name)
        return backend.attend(q, k, v, call)

    return replace(backend, attend=attend)


@pytest.mark.parametrize("alibi", [False, True], ids=["plain", "ALiBi"])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_local_layer_by_sdpa_neither_waits_for_the_gpu_nor_brings_anything_there(
    alibi: bool, kv_heads: int
) -> None:
    with FakeTensorMode(), torch.device("cuda"):
        q = torch.zeros(TOKENS, 4, 8)
        k, v = torch.zeros(TOKENS, kv_heads, 8), torch.zeros(TOKENS, kv_heads, 8)
        slopes = torch.zeros(4) if alibi else None
        bounds = torch.zeros(SEQUENCES + 1, dtype=torch.int32)
        with Transfers() as transfers:
            out = sdpa.sdpa_attention(q, k, v, Call(bounds, 64, 16, 0.5, slopes), None)
    assert out.is_cuda
    assert out.shape == q.shape
    assert not transfers.seen


def test_a_transfer_is_seen() -> None:
    with FakeTensorMode(), Transfers() as transfers:
        torch.tensor([1.0, 2.0], device="cuda")
        torch.zeros(2).to("cuda")
        torch.zeros(2, device="cuda").copy_(torch.zeros(2))
        torch.zeros(2, device="cuda").to(torch.bfloat16)
    assert len(transfers.seen) == 3


class ReadsANumber(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * x.sum().item()


class FindsPositions(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + x.nonzero().sum()


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (ReadsANumber(), DataDependentOutputException),
        (FindsPositions(), DynamicOutputShapeException),
    ],
)
def test_what_waits_is_seen(module: nn.Module, error: type[Exception]) -> None:
    with FakeTensorMode():
        model = MaskedLM(MODELS["ModernBERT"])
        model.head.activation = module
        with pytest.raises(error):
            forward_and_backward(model, CrossEntropyConfig())
