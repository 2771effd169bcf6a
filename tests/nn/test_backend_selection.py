from __future__ import annotations

from typing import Any

import pytest
import torch

from flexbert.errors import ConfigError
from flexbert.nn.attention_backends import BACKENDS, backend_report, resolve_backend, torch_varlen
from tests.nn.cases import ragged_batch

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine had an Ampere GPU and a torch with varlen_attn."""

    class Properties:
        major = 8

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch_varlen, "varlen_attn", lambda *args, **kwargs: None)


def test_auto_takes_sdpa_on_a_cpu() -> None:
    assert resolve_backend("auto", CPU, torch.bfloat16, 64).name == "sdpa"


@pytest.mark.usefixtures("ampere")
@pytest.mark.parametrize(
    ("dtype", "head_dim", "expected"),
    [
        (torch.bfloat16, 64, "torch_varlen"),
        (torch.float32, 64, "sdpa"),
        (torch.bfloat16, 20, "sdpa"),
        (torch.bfloat16, 512, "sdpa"),
    ],
)
def test_auto_takes_torch_varlen_where_it_can_serve(
    dtype: torch.dtype, head_dim: int, expected: str
) -> None:
    assert resolve_backend("auto", CUDA, dtype, head_dim).name == expected


@pytest.mark.usefixtures("ampere")
@pytest.mark.parametrize(
    ("device", "dtype", "reason"),
    [(CPU, torch.bfloat16, "CUDA"), (CUDA, torch.float32, "bfloat16 or float16")],
)
def test_asking_for_a_backend_that_cannot_serve_says_why(
    device: torch.device, dtype: torch.dtype, reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"model.attention.backend: torch_varlen .*{reason}"):
        resolve_backend("torch_varlen", device, dtype, 64)


def test_an_older_torch_does_not_offer_varlen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_varlen, "varlen_attn", None)
    assert "2.11" in (backend_report(CUDA, torch.bfloat16)["torch_varlen"] or "")


def test_the_report_names_every_backend_best_first() -> None:
    report = backend_report(CPU, torch.float32)
    assert list(report) == list(BACKENDS)
    assert report["sdpa"] is None
    assert report["reference"] is None
    assert "CUDA" in (report["torch_varlen"] or "")


@pytest.mark.parametrize(("window", "reach"), [(None, -1), (128, 64)])
def test_torch_varlen_passes_its_arguments_on(
    monkeypatch: pytest.MonkeyPatch, window: int | None, reach: int
) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(
        torch_varlen, "varlen_attn", lambda *args, **kwargs: calls.append((args, kwargs))
    )
    ragged = ragged_batch((3, 4))
    q, k, v = torch.randn(3, 7, 2, 8)
    torch_varlen.flash_attention(q, k, v, ragged.cu_seqlens, 4, window, 0.5)
    [(args, kwargs)] = calls
    for actual, expected in zip(args[:5], (q, k, v, *[ragged.cu_seqlens] * 2), strict=True):
        assert actual is expected
    assert args[5:] == (4, 4)
    assert kwargs == {"scale": 0.5, "window_size": (reach, reach)}
