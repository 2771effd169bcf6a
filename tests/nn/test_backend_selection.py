from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flexbert.errors import ConfigError
from flexbert.nn.attention_backends import (
    BACKENDS,
    Request,
    attend,
    backend_report,
    backend_selection,
    check_backend,
    flash_attn_2,
    flash_attn_3,
    resolve_backend,
    torch_varlen,
)
from flexbert.nn.attention_backends.backend import FEATURES
from flexbert.nn.attention_backends.support_table import support_table
from tests.nn.cases import packed_batch

DOCUMENT = Path(__file__).parents[2] / "docs" / "attention.md"
AMPERE, ADA, HOPPER, BLACKWELL = (8, 0), (8, 9), (9, 0), (10, 0)
ON_CPU = Request(torch.device("cpu"), torch.bfloat16, 64)
ON_GPU = Request(torch.device("cuda", 0), torch.bfloat16, 64)
WITH_FEATURES: dict[str, Any] = dict.fromkeys(FEATURES, True)
EVERYTHING = replace(ON_GPU, **WITH_FEATURES)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int]], None]:
    """As if this machine had such a GPU, and every package."""

    def pretend(capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    monkeypatch.setattr(flash_attn_3, "package_problem", None)
    monkeypatch.setattr(flash_attn_2, "package_problem", None)
    monkeypatch.setattr(torch_varlen, "varlen_attn", lambda *args, **kwargs: None)
    return pretend


def test_auto_takes_what_is_fastest_on_a_cpu() -> None:
    assert resolve_backend("auto", ON_CPU).name == "matmul"
    assert resolve_backend("auto", replace(ON_CPU, grouped=True, windowed=True)).name == "matmul"
    assert resolve_backend("auto", replace(ON_CPU, dtype=torch.float32)).name == "sdpa"
    assert resolve_backend("auto", replace(ON_CPU, **WITH_FEATURES)).name == "sdpa"


@pytest.mark.parametrize(
    ("capability", "changes", "expected"),
    [
        (HOPPER, {}, "flash_attn_3"),
        (HOPPER, {"windowed": True, "grouped": True}, "flash_attn_3"),
        (HOPPER, {"deterministic": True}, "flash_attn_3"),
        (HOPPER, {"deterministic": True, "head_dim": 256}, "flash_attn_2"),
        (HOPPER, {"deterministic": True, "grouped": True}, "flash_attn_2"),
        (HOPPER, {"alibi": True}, "flash_attn_2"),
        (HOPPER, {"dropout": True}, "flash_attn_2"),
        (HOPPER, {"dropout": True, "head_dim": 224}, "sdpa"),
        (HOPPER, {"head_dim": 20}, "flash_attn_2"),
        (HOPPER, {"head_dim": 512}, "sdpa"),
        (HOPPER, {"dtype": torch.float32}, "sdpa"),
        (AMPERE, {}, "flash_attn_2"),
        (ADA, {"deterministic": True}, "flash_attn_2"),
        (BLACKWELL, {}, "flash_attn_2"),
        ((7, 5), {}, "sdpa"),
    ],
)
def test_auto_takes_the_best_that_serves_the_whole_call(
    gpu: Callable[..., None],
    capability: tuple[int, int],
    changes: dict[str, Any],
    expected: str,
) -> None:
    gpu(capability)
    assert resolve_backend("auto", replace(ON_GPU, **changes)).name == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, "torch_varlen"), ({"head_dim": 20}, "sdpa"), ({"alibi": True}, "sdpa")],
)
def test_without_packages_auto_takes_torch_varlen_where_it_can_serve(
    monkeypatch: pytest.MonkeyPatch,
    gpu: Callable[..., None],
    changes: dict[str, Any],
    expected: str,
) -> None:
    gpu(AMPERE)
    monkeypatch.setattr(flash_attn_2, "package_problem", "needs the package flash-attn")
    assert resolve_backend("auto", replace(ON_GPU, **changes)).name == expected


@pytest.mark.parametrize(
    ("name", "capability", "changes", "message"),
    [
        ("flash_attn_3", HOPPER, {"alibi": True}, "has no ALiBi: .*; flash_attn_2 can serve"),
        ("flash_attn_3", HOPPER, {"dropout": True}, "has no dropout: .*; flash_attn_2 can serve"),
        ("flash_attn_3", ADA, {}, "needs a Hopper GPU .* 8.9; flash_attn_2 can serve"),
        ("flash_attn_3", HOPPER, {"head_dim": 20}, "multiple of 8, this is 20; flash_attn_2 can"),
        ("flash_attn_2", HOPPER, {"head_dim": 264}, "no heads larger than 256; sdpa can serve"),
        ("flash_attn_2", (7, 0), {}, r"8.0 \(Ampere\) or newer, .* 7.0; sdpa can serve"),
        ("torch_varlen", ADA, {"alibi": True}, "has no ALiBi: .*; flash_attn_2 can serve"),
        ("torch_varlen", ADA, {"dtype": torch.float32}, "bfloat16 or float16, not in float32"),
        ("torch_varlen", ADA, {"device": torch.device("cpu")}, "needs a CUDA device, this is cpu"),
    ],
)
def test_asking_for_a_backend_that_cannot_serve_says_why_and_which_can(
    gpu: Callable[..., None],
    name: str,
    capability: tuple[int, int],
    changes: dict[str, Any],
    message: str,
) -> None:
    gpu(capability)
    with pytest.raises(ConfigError, match=rf"^model.attention.backend: {name} .*{message}"):
        resolve_backend(name, replace(ON_GPU, **changes))


def test_an_older_torch_does_not_offer_varlen(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(AMPERE)
    monkeypatch.setattr(torch_varlen, "varlen_attn", None)
    assert "2.11" in (backend_report(ON_GPU)["torch_varlen"] or "")


def test_a_missing_package_is_named(gpu: Callable[..., None], monkeypatch: Any) -> None:
    gpu(HOPPER)
    monkeypatch.setattr(flash_attn_3, "package_problem", "needs the package flash-attn-3")
    assert backend_report(ON_GPU)["flash_attn_3"] == "needs the package flash-attn-3"


def test_the_report_names_every_backend_best_first() -> None:
    report = backend_report(ON_CPU)
    assert list(report) == list(BACKENDS)
    assert [name for name, problem in report.items() if problem is None] == [
        "matmul",
        "sdpa",
        "reference",
    ]
    for name in ("flash_attn_3", "flash_attn_2", "torch_varlen"):
        assert "CUDA" in (report[name] or "")


@pytest.mark.parametrize("changes", [{"alibi": True}, {"dropout": True}, {"grouped": True}])
def test_attend_asks_for_the_features_of_its_arguments(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch, changes: dict[str, bool]
) -> None:
    asked: list[Request] = []

    def resolve(name: str, request: Request) -> Any:
        asked.append(request)
        return BACKENDS["sdpa"]

    backend_selection._remembered.cache_clear()
    monkeypatch.setattr(backend_selection, "resolve_backend", resolve)
    q, k = torch.randn(7, 2, 8), torch.randn(7, 1 if "grouped" in changes else 2, 8)
    arguments: dict[str, Any] = {
        "alibi_slopes": torch.ones(2) if "alibi" in changes else None,
        "dropout": 0.1 if "dropout" in changes else 0.0,
    }
    for _ in range(3):
        attend(q, k, k, packed_batch((3, 4)), window=None, scale=1.0, **arguments)
    # Asked once: every layer of every step would ask the same.
    assert asked == [Request(q.device, q.dtype, 8, **changes)]
    torch.use_deterministic_algorithms(True)
    try:
        attend(q, k, k, packed_batch((3, 4)), window=2, scale=1.0, **arguments)
    finally:
        torch.use_deterministic_algorithms(False)
        backend_selection._remembered.cache_clear()
    assert asked[1:] == [replace(asked[0], windowed=True, deterministic=True)]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_call_that_cannot_be_served_is_refused_compiled_or_not(compiled: bool) -> None:
    def run(q: torch.Tensor) -> torch.Tensor:
        packed = packed_batch((3, 4))
        return attend(q, q, q, packed, window=None, scale=1.0, backend="flash_attn_2")

    run = torch.compile(run, backend="eager") if compiled else run
    with pytest.raises(ConfigError, match=r"flash_attn_2 needs a CUDA device.*sdpa can serve"):
        run(torch.randn(7, 2, 8))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'flash_attn_3'"):
        check_backend("backend", "flash_attn3")


def test_what_is_forbidden_everywhere_leaves_a_backend_that_serves(
    gpu: Callable[..., None],
) -> None:
    gpu(HOPPER)
    assert resolve_backend("auto", EVERYTHING).name == "flash_attn_2"


def test_the_document_shows_the_table_of_the_code() -> None:
    assert support_table() in DOCUMENT.read_text()
