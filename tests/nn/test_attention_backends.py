"""Every backend computes the same attention."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flexbert.nn.attention import alibi_slopes
from flexbert.nn.attention_backends import BACKENDS, Request, attend
from flexbert.nn.attention_backends.backend import Call
from flexbert.nn.attention_backends.sdpa import sdpa_attention
from flexbert.nn.attention_backends.tiles import BLOCK
from flexbert.nn.packed_batch import PackedBatch
from tests.nn.cases import packed_batch
from tests.nn.tolerances import assert_same

# Empty, single, around a block of the sdpa backend, several of one group of lengths, and more than
# two blocks.
LENGTHS = (5, 0, 150, 17, 127, 1, 145, 128, 300, 0, 0)
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
WINDOWS = (None, 2, 128, 200, 1000)
SCALE = 0.3


def random_qkv(
    num_tokens: int,
    dtype: torch.dtype,
    *,
    num_heads: int = 4,
    num_kv_heads: int = 4,
    head_dim: int = 8,
    device: str = "cpu",
) -> list[Tensor]:
    return [
        torch.randn(num_tokens, h, head_dim, dtype=dtype, device=device, requires_grad=True)
        for h in (num_heads, num_kv_heads, num_kv_heads)
    ]


def values_and_gradients(
    run: Callable[..., Tensor], qkv: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor, ...]:
    out = run(*qkv)
    return (out, *torch.autograd.grad(out, qkv, grad))


def assert_backends_agree(
    names: Sequence[str], qkv: Sequence[Tensor], packed: PackedBatch, **options: Any
) -> None:
    """The same values and gradients, in q's dtype."""
    grad = torch.randn_like(qkv[0])
    results = [
        values_and_gradients(
            lambda q, k, v, name=name: attend(
                q, k, v, packed, scale=SCALE, backend=name, **options
            ),
            qkv,
            grad,
        )
        for name in names
    ]
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == qkv[0].dtype
        assert_same(actual, expected)


def document_by_document(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedBatch,
    window: int | None,
    slopes: Tensor | None,
) -> Tensor:
    """Attention of each document alone, one query at a time."""
    outs = []
    for start, end in packed.cu_seqlens.unfold(0, 2, 1).tolist():
        for query in range(start, end):
            first = start if window is None else max(start, query - window // 2)
            last = end if window is None else min(end, query + window // 2 + 1)
            scores = torch.einsum("hd,khd->hk", q[query], k[first:last]).mul(SCALE)
            if slopes is not None:
                for key in range(first, last):
                    scores[:, key - first] -= slopes * abs(query - key)
            outs.append(torch.einsum("hk,khd->hd", scores.softmax(-1), v[first:last]))
    return torch.stack(outs)


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("window", [None, 2, 6, 64])
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_packed_equals_each_document_alone(backend: str, window: int | None, alibi: bool) -> None:
    batch = packed_batch((3, 0, 20, 1, 70))
    qkv = random_qkv(94, torch.float64)
    grad = torch.randn(94, 4, 8, dtype=torch.float64)
    slopes = alibi_slopes(4) if alibi else None
    packed = values_and_gradients(
        lambda q, k, v: attend(
            q, k, v, batch, window=window, scale=SCALE, alibi_slopes=slopes, backend=backend
        ),
        qkv,
        grad,
    )
    alone = values_and_gradients(
        lambda q, k, v: document_by_document(q, k, v, batch, window, slopes), qkv, grad
    )
    for actual, expected in zip(packed, alone, strict=True):
        assert_same(actual, expected)


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sdpa_equals_reference(
    dtype: torch.dtype, window: int | None, num_kv_heads: int, alibi: bool
) -> None:
    qkv = random_qkv(sum(LENGTHS), dtype, num_kv_heads=num_kv_heads)
    assert_backends_agree(
        ("sdpa", "reference"),
        qkv,
        packed_batch(LENGTHS),
        window=window,
        alibi_slopes=alibi_slopes(4) if alibi else None,
    )


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("head_dim", [8, 20, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sdpa_equals_reference_for_heads_of_any_size(
    dtype: torch.dtype, head_dim: int, window: int | None, alibi: bool
) -> None:
    lengths = (33, 200, 1)
    qkv = random_qkv(sum(lengths), dtype, num_heads=3, num_kv_heads=1, head_dim=head_dim)
    assert_backends_agree(
        ("sdpa", "reference"),
        qkv,
        packed_batch(lengths),
        window=window,
        alibi_slopes=alibi_slopes(3) if alibi else None,
    )


@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (0, 0, 2, 0)])
@pytest.mark.parametrize("window", [None, 2])
def test_the_shortest_of_batches(window: int | None, lengths: Sequence[int]) -> None:
    assert_backends_agree(
        ("sdpa", "reference"),
        random_qkv(sum(lengths), torch.float64),
        packed_batch(lengths),
        window=window,
        alibi_slopes=alibi_slopes(4),
    )


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_empty_sequences_at_the_end_change_nothing(
    backend: str, window: int | None, alibi: bool, dropout: float
) -> None:
    short = packed_batch((5, 130), max_seqlen=300)
    long = PackedBatch(
        short.tokens,
        torch.cat((short.cu_seqlens, torch.full((9,), 135, dtype=torch.int32))),
        short.max_seqlen,
        short.position_ids,
    )
    q, k, v = random_qkv(135, torch.float32)
    outs = []
    for packed in (short, long):
        torch.manual_seed(1)
        outs.append(
            attend(
                q,
                k,
                v,
                packed,
                window=window,
                scale=SCALE,
                alibi_slopes=alibi_slopes(4) if alibi else None,
                dropout=dropout,
                backend=backend,
            )
        )
    assert torch.equal(*outs)


class Memory(TorchDispatchMode):
    """The largest tensor, in elements, and the most bytes alive at once, that operations made."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive:
                    self.alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize("lengths", [(2048,), (1000, 1030, 18), (128,) * 16])
@pytest.mark.parametrize("window", [None, 128, 512, 1500])
@pytest.mark.parametrize(
    ("alibi", "dropout"), [(False, 0.0), (True, 0.0), (False, 0.1), (True, 0.1)]
)
def test_sdpa_builds_nothing_of_the_square_of_a_long_document(
    window: int | None, lengths: Sequence[int], alibi: bool, dropout: float
) -> None:
    packed = packed_batch(lengths)
    num_heads = 2
    q, k, v = random_qkv(2048, torch.float32, num_heads=num_heads, num_kv_heads=num_heads)
    with Memory() as memory:
        # The op would hide its inside from the mode, so this is the function in it.
        slopes = alibi_slopes(num_heads) if alibi else None
        call = Call(packed.cu_seqlens, packed.max_seqlen, window, SCALE, slopes, dropout)
        out = sdpa_attention(q, k, v, call, torch.tensor(3) if dropout else None)
        out.sum().backward()
    # The plain mask of a local layer, which heads share, or a tile's scores.
    banded = 2048 * (BLOCK + (window or 0))
    tile = num_heads * BLOCK * 2048 if alibi or dropout else 0
    assert num_heads * 2048 * 8 <= memory.largest <= max(banded, tile)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_tiles_of_a_long_document_are_not_alive_at_once(dropout: float) -> None:
    packed = packed_batch((4096,))
    num_heads = 2
    q, k, v = random_qkv(4096, torch.float32, num_heads=num_heads, num_kv_heads=num_heads)
    with Memory() as memory:
        seed = torch.tensor(3) if dropout else None
        slopes = alibi_slopes(num_heads)
        call = Call(packed.cu_seqlens, 4096, None, SCALE, slopes, dropout)
        out = sdpa_attention(q, k, v, call, seed)
        out.sum().backward()
    scores_of_all_tiles = num_heads * 4096 * 4096 * 4
    assert memory.peak < scores_of_all_tiles / 2


@pytest.mark.parametrize(("alibi", "dropout"), [(False, 0.0), (True, 0.2)])
@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("name", ["reference_attention", "sdpa_attention", "matmul_attention"])
def test_custom_ops_keep_their_promises_to_the_compiler(
    name: str, window: int | None, alibi: bool, dropout: float
) -> None:
    packed = packed_batch((5, 0, 30))
    q, k, v = random_qkv(35, torch.float32, num_kv_heads=2)
    torch.library.opcheck(
        getattr(torch.ops.flexbert, name).default,
        (
            q,
            k,
            v,
            packed.cu_seqlens,
            alibi_slopes(4) if alibi else None,
            torch.tensor(3) if dropout else None,
            packed.max_seqlen,
            window,
            SCALE,
            dropout,
        ),
    )


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
def test_autocast_does_not_reach_into_a_backend(backend: str, alibi: bool) -> None:
    packed = packed_batch((5, 30))
    q, k, v = random_qkv(35, torch.float32)

    def run() -> Tensor:
        slopes = alibi_slopes(4) if alibi else None
        return attend(q, k, v, packed, window=8, scale=SCALE, alibi_slopes=slopes, backend=backend)

    plain = run()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(), plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("num_kv_heads", [4, 2])
@pytest.mark.parametrize("window", [None, 128])
@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
def test_every_backend_of_a_gpu_equals_reference(
    name: str, window: int | None, num_kv_heads: int, alibi: bool
) -> None:
    request = Request(
        torch.device("cuda", torch.cuda.current_device()),
        torch.bfloat16,
        64,
        windowed=window is not None,
        grouped=num_kv_heads != 4,
        alibi=alibi,
    )
    problem = BACKENDS[name].why_not(request)
    if problem is not None:
        pytest.skip(f"{name} {problem}")
    packed = packed_batch(LENGTHS)
    on_gpu = PackedBatch(
        packed.tokens.cuda(), packed.cu_seqlens.cuda(), 512, packed.position_ids.cuda()
    )
    qkv = random_qkv(
        sum(LENGTHS), torch.bfloat16, num_kv_heads=num_kv_heads, head_dim=64, device="cuda"
    )
    slopes = alibi_slopes(4).cuda() if alibi else None
    assert_backends_agree((name, "reference"), qkv, on_gpu, window=window, alibi_slopes=slopes)
