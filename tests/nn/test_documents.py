"""Documents of a batch are read once, and never those of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flexbert.config.layer_plan import layer_plan
from flexbert.nn.attention_backends import documents, sdpa
from flexbert.nn.attention_backends.backend import Call
from flexbert.nn.attention_backends.documents import read_once
from flexbert.nn.build import build_model
from flexbert.nn.masked_lm import MaskedLM
from tests.nn.cases import packed_batch, small_model
from tests.nn.tolerances import assert_same


@pytest.fixture(autouse=True)
def _nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_last_read", None)
    sdpa._document_rows.cache_clear()


class Reads:
    """How often a tensor's numbers came to the host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        cpu = Tensor.cpu

        def counted(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
            self.count += 1
            return cpu(tensor, *arguments, **options)

        monkeypatch.setattr(Tensor, "cpu", counted)


def test_all_layers_of_a_batch_read_it_once_in_both_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_model(num_layers=7)
    assert sum(layer.window is None for layer in layer_plan(config)) == 3
    model = build_model(config)
    assert isinstance(model, MaskedLM)
    reads = Reads(monkeypatch)
    for batch in range(1, 3):
        model(packed_batch([20, 7, 0, 12])).logsumexp(-1).sum().backward()
        assert reads.count == batch


def test_a_tensor_that_was_written_again_is_read_again() -> None:
    bounds = torch.tensor([0, 3, 8], dtype=torch.int32)
    assert read_once(bounds) == (0, 3, 8)
    alias = bounds.view(-1)
    assert read_once(alias) == (0, 3, 8)
    alias[1] = 5
    assert read_once(bounds) == (0, 5, 8)
    assert read_once(bounds[:2]) == (0, 5)
    assert read_once(bounds.clone()) == (0, 5, 8)


def test_a_tensor_in_the_place_of_one_that_is_gone_is_read() -> None:
    for length in range(1, 50):
        assert read_once(torch.tensor([0, length], dtype=torch.int32)) == (0, length)


def test_tensors_of_inference_are_read_each_time() -> None:
    with torch.inference_mode():
        bounds = torch.tensor([0, 3, 8], dtype=torch.int32)
        assert read_once(bounds) == (0, 3, 8)
        bounds[1] = 4
        assert read_once(bounds) == (0, 4, 8)


def test_what_a_backward_pass_reads_first_serves_elsewhere() -> None:
    """A backward pass runs inside torch.func, whose tensors must not outlive it."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(39, 2, 8, generator=generator) for _ in range(3))
    call = Call(packed_batch([20, 7, 0, 12]).cu_seqlens, 20, None, 0.3)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa.sdpa_attention(q, k, v, call, None)

    grads = []
    for turn in range(2):
        out, pull_back = torch.func.vjp(attend, q, k, v)
        grads.append(pull_back(torch.ones_like(out)))
        assert sdpa._document_rows.cache_info().misses == 1, turn
        rows = sdpa._document_rows(read_once(call.cu_seqlens), q.device)
        kept = (rows.tokens, rows.places, *rows.is_real)
        assert not any(map(torch._C._functorch.is_functorch_wrapped_tensor, kept))
        assert_same(attend(q, k, v), out)
    for first, second in zip(*grads, strict=True):
        assert torch.equal(first, second)
