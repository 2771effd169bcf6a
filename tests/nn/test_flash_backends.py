"""Backends that need a GPU, with stand-ins for their kernels that have the published signatures.

The stand-ins record their arguments, check what the kernels check, and attend densely.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from flexbert.nn.attention import alibi_slopes
from flexbert.nn.attention_backends import (
    attend,
    backend_selection,
    flash,
    flash_attn_2,
    flash_attn_3,
    torch_varlen,
)
from flexbert.nn.attention_backends.backend import Call
from flexbert.nn.attention_backends.reference import dense_attention
from tests.nn.cases import packed_batch
from tests.nn.tolerances import assert_same

FLASH = ("flash_attn_3", "flash_attn_2", "torch_varlen")
LENGTHS = (5, 0, 40, 1, 17, 0, 0)
MAX_SEQLEN = 64
SCALE = 0.3

# The arguments of every call, by the names that flash_attn_2 gives them.
Calls = list[dict[str, Any]]
calls: Calls = []


def check(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> None:
    for x in (q, k, v):
        assert x.dtype in (torch.bfloat16, torch.float16)
        assert x.stride(-1) == 1
    assert cu_seqlens.dtype == torch.int32
    assert cu_seqlens.is_contiguous()


def dense(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float, reach: int, slopes: Any
) -> Tensor:
    window = None if reach < 0 else 2 * reach
    call = Call(cu_seqlens, MAX_SEQLEN, window, scale, slopes)
    return dense_attention(q, k, v, call, seed=None)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Tensor:
    """flash_attn/flash_attn_interface.py, 2.7.4 and 2.8.3."""
    calls.append(dict(locals()))
    check(q, k, v, cu_seqlens_q)
    assert softmax_scale is not None
    assert alibi_slopes is None or alibi_slopes.dtype == torch.float32
    return dense(q, k, v, cu_seqlens_q, softmax_scale, window_size[0], alibi_slopes)


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """torch/nn/attention/varlen.py, torch 2.11."""
    check(query, key, value, cu_seq_q)
    assert scale is not None
    calls.append(
        {
            "cu_seqlens_q": cu_seq_q,
            "cu_seqlens_k": cu_seq_k,
            "max_seqlen_q": max_q,
            "max_seqlen_k": max_k,
            "softmax_scale": scale,
            "window_size": window_size,
            "causal": False,
        }
    )
    return dense(query, key, value, cu_seq_q, scale, window_size[0], None)


# TORCH_LIBRARY(flash_attn_3) in hopper/flash_api.cpp, at the time of 2.8 and as of 3.0.0; these
# differ in what has a default.
FWD = (
    "fwd(Tensor q, Tensor k, Tensor v, Tensor(k_new!)? k_new{d}, Tensor(v_new!)? v_new{d}, "
    "Tensor? q_v{d}, Tensor(out!)? out{d}, Tensor? cu_seqlens_q{d}, Tensor? cu_seqlens_k{d}, "
    "Tensor? cu_seqlens_k_new{d}, Tensor? seqused_q{d}, Tensor? seqused_k{d}, "
    "int? max_seqlen_q{d}, int? max_seqlen_k{d}, Tensor? page_table{d}, Tensor? kv_batch_idx{d}, "
    "Tensor? leftpad_k{d}, Tensor? rotary_cos{d}, Tensor? rotary_sin{d}, "
    "Tensor? seqlens_rotary{d}, Tensor? q_descale{d}, Tensor? k_descale{d}, Tensor? v_descale{d}, "
    "{scale}, {causal}, int window_size_left = -1, int window_size_right = -1, "
    "int attention_chunk = 0, float softcap = 0.0, bool is_rotary_interleaved = False, "
    "Tensor? scheduler_metadata = None, int num_splits = 0, bool? pack_gqa = None, "
    "int sm_margin = 0) -> (Tensor(out!), Tensor, Tensor, Tensor)"
)
BWD = (
    "bwd(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor softmax_lse, "
    "Tensor(dq!)? dq{d}, Tensor(dk!)? dk{d}, Tensor(dv!)? dv{d}, Tensor? cu_seqlens_q{d}, "
    "Tensor? cu_seqlens_k{d}, Tensor? seqused_q{d}, Tensor? seqused_k{d}, int? max_seqlen_q{d}, "
    "int? max_seqlen_k{d}, {scale}, {causal}, int window_size_left = -1, "
    "int window_size_right = -1, float softcap = 0.0, bool deterministic = False, "
    "int sm_margin = 0) "
    "-> (Tensor(dq!), Tensor(dk!), Tensor(dv!), Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def named(operator: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by its name: the dispatcher leaves out those that equal their defaults."""
    schema = getattr(torch.ops.flash_attn_3_of_3_0, operator).default._schema
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    given = zip([a.name for a in schema.arguments], args, strict=False)
    return defaults | dict(given) | kwargs


def fwd(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    given = named("fwd", args, kwargs)
    left, right = given["window_size_left"], given["window_size_right"]
    calls.append(
        {
            "cu_seqlens_q": given["cu_seqlens_q"],
            "cu_seqlens_k": given["cu_seqlens_k"],
            "max_seqlen_q": given["max_seqlen_q"],
            "max_seqlen_k": given["max_seqlen_k"],
            "softmax_scale": given["softmax_scale"],
            "window_size": (left, right),
            "causal": given["is_causal"],
        }
    )
    q, k, v, cu_seqlens = given["q"], given["k"], given["v"], given["cu_seqlens_q"]
    check(q, k, v, cu_seqlens)
    out = dense(q, k, v, cu_seqlens, given["softmax_scale"], left, None)
    lse = q.new_full((q.shape[1], q.shape[0]), 7.0, dtype=torch.float32)
    return out, lse, q.new_empty(0), q.new_empty(0)


def bwd(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    given = named("bwd", args, kwargs)
    calls[-1]["deterministic"] = given["deterministic"]
    qkv, cu_seqlens = [given[name] for name in "qkv"], given["cu_seqlens_k"]
    check(*qkv, cu_seqlens)
    assert given["dout"].stride(-1) == 1
    assert given["softmax_lse"].unique().tolist() == [7.0]
    assert (given["max_seqlen_q"], given["max_seqlen_k"]) == (MAX_SEQLEN, MAX_SEQLEN)
    assert given["window_size_left"] == given["window_size_right"]
    options = (cu_seqlens, given["softmax_scale"], given["window_size_left"], None)
    out, pull_back = torch.func.vjp(lambda *qkv: dense(*qkv, *options), *qkv)
    assert torch.equal(out, given["out"])
    grads = [given[name] for name in ("dq", "dk", "dv")]
    for grad, value in zip(grads, pull_back(given["dout"]), strict=True):
        grad.copy_(value)
    return *grads, *(cu_seqlens.new_empty(0) for _ in range(5))


def define_operators(name: str, default: str, scale: str, causal: str) -> torch.library.Library:
    library = torch.library.Library(name, "DEF")
    for schema, run in ((FWD, fwd), (BWD, bwd)):
        library.define(schema.format(d=default, scale=scale, causal=causal))
        library.impl(run.__name__, run, "CPU")
    return library


LIBRARIES = [
    define_operators("flash_attn_3_of_2_8", "", "float softmax_scale", "bool is_causal"),
    define_operators(
        "flash_attn_3_of_3_0", " = None", "float? softmax_scale = None", "bool is_causal = False"
    ),
]


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if there were a GPU for all three, whose memory is the CPU's."""
    calls.clear()
    monkeypatch.setattr(flash, "gpu_problem", lambda device, majors, generation: None)
    monkeypatch.setattr(flash_attn_3, "package_problem", None)
    monkeypatch.setattr(flash_attn_3, "operators", torch.ops.flash_attn_3_of_3_0)
    monkeypatch.setattr(flash_attn_2, "package_problem", None)
    monkeypatch.setattr(flash_attn_2, "flash_attn_varlen_func", flash_attn_varlen_func)
    monkeypatch.setattr(torch_varlen, "varlen_attn", varlen_attn)
    monkeypatch.setattr(torch_varlen, "EXTRA_ARGUMENTS", {})
    backend_selection._remembered.cache_clear()
    torch._dynamo.reset()
    yield
    backend_selection._remembered.cache_clear()
    torch._dynamo.reset()


def random_qkv(*, num_kv_heads: int = 2, head_dim: int = 8) -> list[Tensor]:
    return [
        torch.randn(sum(LENGTHS), h, head_dim, dtype=torch.bfloat16, requires_grad=True)
        for h in (4, num_kv_heads, num_kv_heads)
    ]


def run(backend: str, qkv: list[Tensor], **options: Any) -> tuple[Tensor, ...]:
    packed = packed_batch(LENGTHS, max_seqlen=MAX_SEQLEN)
    arguments = {"window": None, "scale": SCALE, "backend": backend} | options
    out = attend(*qkv, packed, **arguments)
    grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return (out, *torch.autograd.grad(out, qkv, grad))


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("backend", FLASH)
def test_values_and_gradients_pass_through(
    backend: str, window: int | None, num_kv_heads: int
) -> None:
    qkv = random_qkv(num_kv_heads=num_kv_heads)
    results = run(backend, qkv, window=window)
    assert len(calls) == 1
    for actual, expected in zip(results, run("reference", qkv, window=window), strict=True):
        assert actual.dtype == torch.bfloat16
        assert_same(actual, expected)


@pytest.mark.parametrize(("window", "reach"), [(None, -1), (128, 64), (2, 1)])
@pytest.mark.parametrize("backend", FLASH)
def test_arguments_follow_the_conventions_of_the_kernels(
    backend: str, window: int | None, reach: int
) -> None:
    run(backend, random_qkv(), window=window)
    [call] = calls
    assert call["window_size"] == (reach, reach)
    assert call["softmax_scale"] == SCALE
    assert call["causal"] is False
    assert (call["max_seqlen_q"], call["max_seqlen_k"]) == (MAX_SEQLEN, MAX_SEQLEN)
    for key in ("cu_seqlens_q", "cu_seqlens_k"):
        assert call[key].tolist() == [0, 5, 5, 45, 46, 63, 63, 63]


def test_the_operators_of_flash_attn_3_have_kept_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qkv = random_qkv()
    new = run("flash_attn_3", qkv, window=8)
    monkeypatch.setattr(flash_attn_3, "operators", torch.ops.flash_attn_3_of_2_8)
    old = run("flash_attn_3", qkv, window=8)
    assert all(map(torch.equal, new, old))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("backend", ["flash_attn_3", "flash_attn_2"])
def test_deterministic_mode_reaches_the_backward(backend: str, deterministic: bool) -> None:
    qkv = random_qkv(num_kv_heads=4)
    torch.use_deterministic_algorithms(deterministic)
    try:
        run(backend, qkv)
    finally:
        torch.use_deterministic_algorithms(False)
    assert calls[-1]["deterministic"] is deterministic


def test_flash_attn_2_gets_alibi_and_dropout() -> None:
    slopes = alibi_slopes(4)
    qkv = random_qkv()
    results = run("flash_attn_2", qkv, alibi_slopes=slopes, window=8)
    assert calls[-1]["alibi_slopes"] is slopes
    assert calls[-1]["dropout_p"] == 0.0
    expected = run("reference", qkv, alibi_slopes=slopes, window=8)
    for actual, other in zip(results, expected, strict=True):
        assert_same(actual, other)
    run("flash_attn_2", qkv, dropout=0.1)
    assert calls[-1]["dropout_p"] == 0.1


@pytest.mark.parametrize("backend", FLASH)
def test_a_strided_last_dimension_is_made_dense(backend: str) -> None:
    qkv = [x.detach().mT.contiguous().mT.requires_grad_() for x in random_qkv(num_kv_heads=4)]
    assert all(x.stride(-1) != 1 for x in qkv)
    for actual, expected in zip(run(backend, qkv), run("reference", qkv), strict=True):
        assert_same(actual, expected)


@pytest.mark.parametrize("backend", FLASH)
def test_a_compiled_call_is_one_graph_with_the_gradients_of_eager(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    qkv = random_qkv(num_kv_heads=4)
    packed = packed_batch(LENGTHS, max_seqlen=MAX_SEQLEN)
    grad = torch.randn_like(qkv[0])

    def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
        batch = replace(packed, cu_seqlens=cu_seqlens)
        return attend(q, k, v, batch, window=8, scale=SCALE, backend=backend)

    eager = attention(*qkv, packed.cu_seqlens)
    expected = torch.autograd.grad(eager, qkv, grad)
    # A kernel's stand-in appends to a list, which is no op: wrapped, as the real ones are.
    if backend != "flash_attn_3":
        module = {"flash_attn_2": flash_attn_2, "torch_varlen": torch_varlen}[backend]
        name = {"flash_attn_2": "flash_attn_varlen_func", "torch_varlen": "varlen_attn"}[backend]
        monkeypatch.setattr(module, name, torch._dynamo.allow_in_graph(getattr(module, name)))
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            out = compiled(*qkv, packed.cu_seqlens)
            gradients = torch.autograd.grad(out, qkv, grad)
        finally:
            torch.use_deterministic_algorithms(False)
        if backend == "flash_attn_3":
            assert calls[-1]["deterministic"] is deterministic
        for actual, other in zip((out, *gradients), (eager, *expected), strict=True):
            assert_same(actual, other)


@pytest.mark.parametrize("window", [None, 8])
def test_the_op_of_flash_attn_3_keeps_its_promises_to_the_compiler(window: int | None) -> None:
    cu_seqlens = packed_batch(LENGTHS).cu_seqlens
    torch.library.opcheck(
        torch.ops.flexbert.flash_attn_3.default,
        (*random_qkv(), cu_seqlens, MAX_SEQLEN, window, SCALE, True),
    )


def test_later_torch_is_told_of_grouped_queries() -> None:
    def later(query: Tensor, *, enable_gqa: bool = False) -> None: ...

    assert torch_varlen._extra_arguments(later) == {"enable_gqa": True}
    assert torch_varlen._extra_arguments(varlen_attn) == {}
    assert torch_varlen._extra_arguments(None) == {}


@pytest.mark.skipif(torch_varlen._offered() is None, reason="needs torch 2.11")
def test_the_stand_in_has_the_signature_of_torch() -> None:
    published = inspect.signature(torch_varlen._offered()).parameters
    assert set(inspect.signature(varlen_attn).parameters) <= set(published)


def test_flash_attn_before_its_custom_ops_is_refused() -> None:
    package = SimpleNamespace(__version__="2.6.3", flash_attn_varlen_func=flash_attn_varlen_func)
    with pytest.raises(ImportError, match=r"2\.6\.3"):
        flash_attn_2._varlen_function(package)
    package.__version__ = "2.8.3.post2"
    assert flash_attn_2._varlen_function(package) is flash_attn_varlen_func


def test_a_package_without_the_operators_is_refused() -> None:
    # Of the name that the package gives them; nothing of it is here.
    with pytest.raises(ImportError, match="fwd and bwd"):
        flash_attn_3._operators(None)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "needs the package X, which is not installed"),
        ("raise ImportError('undefined symbol: _ZN3c10\\nmore')", "undefined symbol: _ZN3c10"),
        ("raise OSError('libcudart.so.12: cannot open')", "libcudart.so.12: cannot open"),
        ("import absent_dependency", "No module named 'absent_dependency'"),
        ("", "no attribute 'function'"),
        ("raise RuntimeError", r"RuntimeError\(\)"),
    ],
)
def test_an_optional_package_that_is_absent_or_broken_is_a_reason(
    source: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "optional_package"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    function, problem = flash.load(name, lambda module: module.function, "X")
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert function is None
    assert problem is not None
    assert "\n" not in problem
    assert re.search(reason, problem)


@pytest.mark.slow
def test_broken_packages_do_not_break_the_import_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "flash_attn.py").write_text("raise OSError('built for another torch')")
    (tmp_path / "flash_attn_3").mkdir()
    (tmp_path / "flash_attn_3" / "_C.py").write_text("raise ImportError('undefined symbol')")
    script = (
        "from flexbert.nn.attention_backends import flash_attn_2, flash_attn_3\n"
        "print(flash_attn_2.package_problem, flash_attn_3.package_problem, sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    of_two, of_three = result.stdout.splitlines()
    assert of_two.endswith("flash-attn, but cannot use it: built for another torch")
    assert of_three.endswith("flash-attn-3, but cannot use it: undefined symbol")
