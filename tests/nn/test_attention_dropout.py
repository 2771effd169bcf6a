"""Dropout on attention probabilities, in the backends that run on any device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flexbert.nn.attention import alibi_slopes
from flexbert.nn.attention_backends import attend
from flexbert.nn.packed_batch import PackedBatch
from tests.nn.cases import packed_batch
from tests.nn.tolerances import assert_same

SCALE = 0.3
DROPOUT = 0.25
pytestmark = [
    pytest.mark.parametrize("backend", ["reference", "sdpa"]),
    pytest.mark.parametrize("window", [None, 8]),
    pytest.mark.parametrize("alibi", [False, True]),
]


def attend_with_seed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedBatch,
    *,
    window: int | None,
    alibi: bool,
    backend: str,
    seed: int = 0,
    dropout: float = DROPOUT,
) -> Tensor:
    torch.manual_seed(seed)
    return attend(
        q,
        k,
        v,
        packed,
        window=window,
        scale=SCALE,
        alibi_slopes=alibi_slopes(q.shape[1]) if alibi else None,
        dropout=dropout,
        backend=backend,
    )


def probabilities(length: int, **options: object) -> Tensor:
    """``[H, Q, K]``: values that are the unit vectors bring the weights to light."""
    packed = packed_batch((length,))
    torch.manual_seed(7)
    q, k = torch.randn(2, length, 2, length, dtype=torch.float64)
    v = torch.eye(length, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    return attend_with_seed(q, k, v, packed, **options).transpose(0, 1)  # type: ignore[arg-type]


def test_a_seed_decides_what_is_dropped(backend: str, window: int | None, alibi: bool) -> None:
    packed = packed_batch((5, 0, 150, 1))
    q, k, v = torch.randn(3, 156, 4, 8)
    options = {"window": window, "alibi": alibi, "backend": backend}
    first, again = (attend_with_seed(q, k, v, packed, seed=1, **options) for _ in range(2))
    other = attend_with_seed(q, k, v, packed, seed=2, **options)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dropped_probabilities_are_zero_and_the_others_grow(
    backend: str, window: int | None, alibi: bool
) -> None:
    options = {"window": window, "alibi": alibi, "backend": backend}
    # More than a block of queries, so that several tiles are drawn.
    dropped = probabilities(300, **options)
    kept = probabilities(300, dropout=0.0, **options)
    is_dropped = (dropped == 0) & (kept != 0)
    grown = kept.where(~is_dropped, 0) / (1 - DROPOUT)
    assert_same(dropped, grown)
    num_visible = int((kept != 0).sum())
    standard_error = (DROPOUT * (1 - DROPOUT) / num_visible) ** 0.5
    assert abs(is_dropped.sum() / num_visible - DROPOUT) < 4 * standard_error
    if window is None:
        # No two tiles, rows or heads drop the same; rows of a few keys would by chance.
        assert len(torch.unique(is_dropped.flatten(0, 1), dim=0)) == 600


def test_the_mean_over_seeds_is_attention_without_dropout(
    backend: str, window: int | None, alibi: bool
) -> None:
    packed = packed_batch((6, 20))
    q, k, v = torch.randn(3, 26, 2, 4, dtype=torch.float64)
    options = {"window": window, "alibi": alibi, "backend": backend}
    samples = torch.stack(
        [attend_with_seed(q, k, v, packed, seed=seed, **options) for seed in range(150)]
    )
    expected = attend_with_seed(q, k, v, packed, dropout=0.0, **options)
    standard_error = samples.std(dim=0) / 150**0.5
    # One number in 16,000 lies beyond four standard errors; these are 208.
    assert ((samples.mean(dim=0) - expected).abs() <= 4 * standard_error).all()


def test_the_backward_drops_what_the_forward_dropped(
    backend: str, window: int | None, alibi: bool
) -> None:
    packed = packed_batch((2, 0, 5, 1))
    qkv = [torch.randn(8, h, 2, dtype=torch.float64, requires_grad=True) for h in (2, 1, 1)]
    assert torch.autograd.gradcheck(
        lambda q, k, v: attend_with_seed(
            q, k, v, packed, window=window, alibi=alibi, backend=backend
        ),
        qkv,
    )


def test_the_backward_of_many_tiles_drops_what_the_forward_dropped(
    backend: str, window: int | None, alibi: bool
) -> None:
    packed = packed_batch((300, 40, 33))
    q, k, v = (torch.randn(373, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = attend_with_seed(q, k, v, packed, window=window, alibi=alibi, backend=backend)
    grad = torch.randn_like(out)
    (grad_v,) = torch.autograd.grad(out, v, grad)
    # Attention is linear in v, so that its derivative in a direction is its value there.
    direction = torch.randn_like(v)
    with torch.no_grad():
        along = attend_with_seed(
            q, k, direction, packed, window=window, alibi=alibi, backend=backend
        )
    assert_same((grad_v * direction).sum(), (grad * along).sum())


def test_attention_is_linear_in_its_values(backend: str, window: int | None, alibi: bool) -> None:
    packed = packed_batch((140, 5))
    q, k, v, other = torch.randn(4, 145, 2, 8, dtype=torch.float64)
    options = {"window": window, "alibi": alibi, "backend": backend}
    of_sum = attend_with_seed(q, k, 2 * v + other, packed, **options)
    parts = [attend_with_seed(q, k, x, packed, **options) for x in (v, other)]
    assert_same(of_sum, 2 * parts[0] + parts[1])


def test_dropout_leaves_the_generator_where_one_seed_was_drawn(
    backend: str, window: int | None, alibi: bool
) -> None:
    q, k, v = torch.randn(3, 20, 2, 8)
    following = set()
    for lengths in ((20,), (5, 15)):
        options = {"window": window, "alibi": alibi, "backend": backend}
        attend_with_seed(q, k, v, packed_batch(lengths), **options)
        following.add(float(torch.rand(())))
    assert len(following) == 1


def test_a_compiled_call_draws_anew_and_repeats_after_reseeding(
    backend: str, window: int | None, alibi: bool
) -> None:
    packed = packed_batch((30, 10))
    q, k, v = (torch.randn(40, 2, 8, requires_grad=True) for _ in range(3))

    @torch.compile(backend="aot_eager", fullgraph=True)
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        slopes = alibi_slopes(2) if alibi else None
        return attend(
            q,
            k,
            v,
            packed,
            window=window,
            scale=SCALE,
            alibi_slopes=slopes,
            dropout=DROPOUT,
            backend=backend,
        )

    def sample(seed: int | None) -> tuple[Tensor, ...]:
        if seed is not None:
            torch.manual_seed(seed)
        out = run(q, k, v)
        return (out, *torch.autograd.grad(out.square().sum(), (q, k, v)))

    first, following, again = sample(1), sample(None), sample(1)
    assert not torch.equal(first[0], following[0])
    assert all(map(torch.equal, first, again))
