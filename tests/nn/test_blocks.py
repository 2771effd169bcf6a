"""Each block computes what its name says: against plain formulas, or transformers' modules."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.models.albert.modeling_albert import AlbertConfig, AlbertEmbeddings
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from flexbert.config.model import BlockConfig
from flexbert.nn.activations import ACTIVATIONS
from flexbert.nn.block import ParallelConfig, PostNormConfig, PreNormConfig, SandwichConfig
from flexbert.nn.build import build_model
from flexbert.nn.embedding import TokenEmbedding, TokenEmbeddingConfig
from flexbert.nn.head import MLMHead, MLMHeadConfig
from flexbert.nn.mlp import GLUConfig, PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig, SinusoidalPositionsConfig
from tests.nn.cases import VOCAB_SIZE, attention_config, packed_batch, small_model
from tests.nn.tolerances import assert_same

NORM = LayerNormConfig(bias=True)


def randomise(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.double()


@pytest.mark.parametrize("bias", [False, True])
def test_rmsnorm_is_that_of_llama(bias: bool) -> None:
    ours = randomise(RMSNormConfig(eps=1e-3, bias=bias).build(16))
    # Theirs computes in float32 whatever it is given.
    theirs = LlamaRMSNorm(16, eps=1e-3)
    theirs.weight = ours.weight
    x = torch.randn(5, 16)
    assert_same(ours.float()(x), theirs.float()(x) + (ours.bias if bias else 0))


def test_layernorm_has_a_bias_when_told() -> None:
    x = torch.randn(5, 16, dtype=torch.float64)
    norm = randomise(LayerNormConfig(eps=1e-3, bias=True).build(16))
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    assert_same(norm(x), expected * norm.weight + norm.bias)
    assert LayerNormConfig(bias=False).build(16).bias is None


@pytest.mark.parametrize("config", [LayerNormConfig(bias=True), RMSNormConfig(bias=True)])
def test_norms_of_bfloat16_compute_in_float32(config: Any) -> None:
    norm = randomise(config.build(64)).float()
    x = torch.randn(50, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(norm(x), norm(x.float()))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gelu", "gelu"),
        ("gelu_tanh", "gelu_pytorch_tanh"),
        ("gelu_quick", "quick_gelu"),
        ("identity", "linear"),
        ("mish", "mish"),
        ("relu", "relu"),
        ("relu_squared", "relu2"),
        ("leaky_relu", "leaky_relu"),
        ("sigmoid", "sigmoid"),
        ("silu", "silu"),
        ("tanh", "tanh"),
    ],
)
def test_activations_are_those_of_transformers(ours: str, theirs: str) -> None:
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    assert_same(ACTIVATIONS[ours](x), ACT2FN[theirs](x))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_has_a_gradient(name: str) -> None:
    x = torch.linspace(0.1, 4, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ACTIVATIONS[name], (x,))


def test_a_plain_mlp_is_two_matrices_and_an_activation() -> None:
    mlp = randomise(PlainMLPConfig(intermediate_size=24, activation="tanh", bias=True).build(16))
    x = torch.randn(5, 16, dtype=torch.float64)
    middle = torch.tanh(x @ mlp.up.weight.T + mlp.up.bias)
    assert_same(mlp(x), middle @ mlp.down.weight.T + mlp.down.bias)


def test_a_glu_activates_its_first_half() -> None:
    mlp = randomise(GLUConfig(intermediate_size=24, activation="silu", bias=True).build(16))
    x = torch.randn(5, 16, dtype=torch.float64)
    a, b = x @ mlp.up.weight[:24].T + mlp.up.bias[:24], x @ mlp.up.weight[24:].T + mlp.up.bias[24:]
    assert_same(mlp(x), (a * torch.sigmoid(a) * b) @ mlp.down.weight.T + mlp.down.bias)


@pytest.mark.parametrize("config", [PlainMLPConfig, GLUConfig])
@pytest.mark.parametrize("which", ["dropout", "output_dropout"])
def test_mlp_dropout_runs_while_training_only(config: Any, which: str) -> None:
    mlp = randomise(config(intermediate_size=24, **{which: 0.5}).build(16))
    x = torch.randn(50, 16, dtype=torch.float64)
    zeros = (mlp(x) == 0).double().mean()
    assert zeros == pytest.approx(0.5, abs=0.1) if which == "output_dropout" else zeros == 0
    assert not torch.equal(mlp(x), mlp(x))
    assert torch.equal(mlp.eval()(x), mlp(x))


def written(block: BlockConfig, hidden: Tensor, layer: Any, attend: Any) -> Tensor:
    """The formula of each block, from its parts."""
    match block.name:
        case "pre_norm":
            hidden = hidden + attend(layer.attention_norm(hidden))
            return hidden + layer.mlp(layer.mlp_norm(hidden))
        case "post_norm":
            hidden = layer.attention_norm(hidden + attend(hidden))
            return layer.mlp_norm(hidden + layer.mlp(hidden))
        case "sandwich":
            hidden = hidden + layer.attention_output_norm(attend(layer.attention_norm(hidden)))
            return hidden + layer.mlp_output_norm(layer.mlp(layer.mlp_norm(hidden)))
    mlp_norm = layer.mlp_norm or layer.norm
    return hidden + attend(layer.norm(hidden)) + layer.mlp(mlp_norm(hidden))


@pytest.mark.parametrize(
    "block",
    [
        PreNormConfig(norm=NORM),
        PostNormConfig(norm=NORM),
        SandwichConfig(norm=RMSNormConfig()),
        ParallelConfig(norm=NORM),
        ParallelConfig(norm=NORM, separate_norms=True),
    ],
    ids=["pre", "post", "sandwich", "parallel", "parallel, two norms"],
)
def test_blocks_put_norms_and_residuals_where_they_say(block: BlockConfig) -> None:
    model = small_model(block=block, final_norm=None if block.ends_with_norm else NORM)
    encoder = randomise(build_model(model)).encoder
    packed = packed_batch((5, 9))
    rotation = encoder.ropes[encoder.layer_ropes[1]](packed)
    hidden = torch.randn(14, 32, dtype=torch.float64)
    layer = encoder.layers[1]
    expected = written(block, hidden, layer, lambda x: layer.attention(x, packed, rotation))
    assert_same(layer(hidden, packed, rotation), expected)
    assert len({id(m) for m in layer.modules() if isinstance(m, nn.LayerNorm)}) <= 4


def test_only_the_first_layer_of_a_sandwich_may_lack_its_first_norm() -> None:
    block = SandwichConfig(norm=NORM, skip_first_norm=True)
    layers = build_model(small_model(block=block)).encoder.layers
    assert [isinstance(layer.attention_norm, nn.Identity) for layer in layers] == [True] + [
        False
    ] * 3


def test_grouped_queries_are_repeated_keys_and_values() -> None:
    grouped = build_model(small_model(num_layers=1, attention=attention_config(num_kv_heads=2)))
    full = build_model(small_model(num_layers=1))
    state = grouped.state_dict()
    q, k, v = state["encoder.layers.0.attention.qkv.weight"].split([32, 16, 16])
    k, v = (x.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1) for x in (k, v))
    full.load_state_dict({**state, "encoder.layers.0.attention.qkv.weight": torch.cat((q, k, v))})
    packed = packed_batch((5, 20))
    assert_same(grouped(packed), full(packed))


def test_qk_norm_normalises_every_head_before_it_is_turned() -> None:
    attention = attention_config(qk_norm=RMSNormConfig(), windows="global", rope=None, alibi=True)
    layer = randomise(build_model(small_model(attention=attention))).encoder.layers[0].attention
    hidden = torch.randn(7, 32, dtype=torch.float64)
    q, k, v = (hidden @ layer.qkv.weight.T).view(7, 3, 4, 8).unbind(1)
    q, k = (
        F.rms_norm(x, (8,), norm.weight, 1e-6) for x, norm in ((q, layer.q_norm), (k, layer.k_norm))
    )
    distance = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    slopes = 2.0 ** -torch.tensor([2, 4, 6, 8])
    scores = torch.einsum("qhd,khd->hqk", q, k) / 8**0.5 - slopes[:, None, None] * distance
    mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
    assert_same(layer(hidden, packed_batch((7,)), None), mixed @ layer.out.weight.T)


def test_heads_may_be_wider_than_the_model() -> None:
    model = build_model(small_model(attention=attention_config(head_dim=16)))
    assert model.encoder.layers[0].attention.qkv.weight.shape == (3 * 4 * 16, 32)
    assert model(packed_batch((5, 20))).shape == (25, VOCAB_SIZE)


def test_factorised_embeddings_with_positions_and_types_are_albert_s() -> None:
    size, hidden_size = 12, 20
    theirs = AlbertEmbeddings(
        AlbertConfig(
            vocab_size=VOCAB_SIZE, embedding_size=size, max_position_embeddings=30, pad_token_id=0
        )
    )
    ours = TokenEmbedding(
        TokenEmbeddingConfig(
            positions=LearnedPositionsConfig(length=30),
            token_types=2,
            size=size,
            norm=LayerNormConfig(eps=1e-12, bias=True),
        ),
        VOCAB_SIZE,
        hidden_size,
    )
    randomise(theirs), randomise(ours)
    theirs.eval()
    for mine, yours in (
        (ours.tokens, theirs.word_embeddings),
        (ours.positions.table, theirs.position_embeddings),
        (ours.token_types, theirs.token_type_embeddings),
        (ours.norm, theirs.LayerNorm),
    ):
        mine.load_state_dict(yours.state_dict())
    packed = packed_batch((30,))
    types = torch.randint(2, (30,))
    for given in (None, types):
        expected = ours.projection(
            theirs(packed.tokens[None], None if given is None else given[None])[0]
        )
        assert_same(ours(dataclasses.replace(packed, token_types=given)), expected)


def test_documents_longer_than_the_positions_are_refused() -> None:
    embedding = TokenEmbeddingConfig(positions=LearnedPositionsConfig(length=8))
    model = build_model(small_model(embedding=embedding))
    model(packed_batch((8, 3)))
    with pytest.raises(ValueError, match="may have 9 tokens, and there are positions for 8"):
        model(packed_batch((9, 3)))


def test_token_types_are_refused_by_a_model_without() -> None:
    types = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="token types given to a model that has none"):
        build_model(small_model())(dataclasses.replace(packed_batch((4,)), token_types=types))


def test_sinusoids_are_those_of_the_paper() -> None:
    positions = SinusoidalPositionsConfig().build(6)(torch.tensor([0, 7]))
    expected = [
        value
        for i in range(3)
        for value in (
            torch.tensor(7 / 10_000 ** (2 * i / 6)).sin(),
            torch.tensor(7 / 10_000 ** (2 * i / 6)).cos(),
        )
    ]
    assert_same(positions[0], torch.tensor([0.0, 1.0] * 3))
    assert_same(positions[1], torch.stack(expected))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("norm", [RMSNormConfig(), None])
@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_any_composition(dense: bool, activation: Any, norm: Any, tied: bool) -> None:
    config = MLMHeadConfig(
        dense=dense, bias=dense, activation=activation, norm=norm, tied=tied, decoder_bias=not tied
    )
    model = randomise(build_model(small_model(head=config)))
    head: MLMHead = model.head
    hidden = torch.randn(3, 32, dtype=torch.float64)
    x = hidden @ head.dense.weight.T + head.dense.bias if dense else hidden
    x = x.relu() if activation else x
    x = F.rms_norm(x, (32,), head.norm.weight, 1e-6) if norm else x
    expected = x @ (model.encoder.token_matrix if tied else head.decoder.weight).T
    expected = expected if tied else expected + head.decoder.bias
    assert_same(head.logits(hidden, model.encoder.token_matrix).computed(), expected)


def test_a_tied_head_of_factorised_embeddings_ends_at_their_size() -> None:
    model = build_model(small_model(embedding=TokenEmbeddingConfig(size=12, norm=NORM)))
    assert model.head.dense.weight.shape == (12, 32)
    assert model(packed_batch((4, 2))).shape == (6, VOCAB_SIZE)
