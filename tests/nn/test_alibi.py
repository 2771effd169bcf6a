from __future__ import annotations

import copy

import pytest
import torch

from flexbert.nn.attention import alibi_slopes
from flexbert.nn.masked_lm import MaskedLM
from tests.nn.cases import attention_config, small_model


def test_slopes_of_eight_heads_are_those_of_the_paper() -> None:
    expected = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(8).tolist() == expected


def test_slopes_of_sixteen_heads_interpolate_those_of_eight() -> None:
    slopes = alibi_slopes(16)
    assert torch.equal(slopes[1::2], alibi_slopes(8))
    assert torch.allclose(slopes[0::2], alibi_slopes(8) * 2**0.5)


def test_twelve_heads_take_eight_slopes_and_four_from_between() -> None:
    slopes = alibi_slopes(12)
    assert torch.equal(slopes[:8], alibi_slopes(8))
    assert torch.equal(slopes[8:], alibi_slopes(16)[0:8:2])


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6, 7, 8, 12, 16, 25, 32, 71])
def test_slopes_equal_those_of_two_other_implementations(num_heads: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

    slopes = alibi_slopes(num_heads)
    assert slopes.dtype == torch.float32
    assert slopes.shape == (num_heads,)
    # Theirs are the bias of the last query: key j of L stands at distance L - 1 - j.
    bloom = build_alibi_tensor(torch.ones(1, 2, dtype=torch.int64), num_heads, torch.float32)
    assert torch.allclose(bloom[:, 0, 1] - bloom[:, 0, 0], slopes)
    mpt = build_mpt_alibi_tensor(num_heads, 2)
    assert torch.allclose(mpt[:, 0, 1] - mpt[:, 0, 0], slopes)


def test_slopes_are_real_numbers_where_modules_are_built_without_storage() -> None:
    with torch.device("meta"):
        assert alibi_slopes(4).tolist() == [0.25, 0.0625, 0.015625, 0.00390625]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_keeps_its_slopes_wherever_its_parameters_come_from(dtype: torch.dtype) -> None:
    config = small_model(attention=attention_config(rope=None, alibi=True))
    with torch.device("meta"):
        model = MaskedLM(config)
    model = model.to_empty(device="cpu").to(dtype)
    weights = {name: torch.zeros_like(p) for name, p in model.state_dict().items()}
    with torch.device("meta"):
        assigned = MaskedLM(config)
    assigned.load_state_dict(weights, assign=True)
    for one in (model, assigned, copy.deepcopy(model)):
        for layer in one.encoder.layers:
            slopes = layer.attention._alibi_slopes(torch.device("cpu"))
            assert torch.equal(slopes, alibi_slopes(config.attention.num_heads))
    assert not list(model.buffers())
