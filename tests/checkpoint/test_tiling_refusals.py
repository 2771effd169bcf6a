"""Models that cannot be made of one another are refused, by the key that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flexbert.checkpoint.tiling import plan_tiling, tile
from flexbert.config.decode import decode
from flexbert.config.init_from import DepthMapping, InitFromConfig, InitMethod
from flexbert.config.model import LayerConfig, ModelConfig
from flexbert.errors import ConfigError
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.block import PostNormConfig, PreNormConfig, SandwichConfig
from flexbert.nn.build import build_model
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.mlp import GLUConfig, PlainMLP, PlainMLPConfig
from flexbert.nn.norm import RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig
from tests.checkpoint.tiling_cases import (
    HEAD_DIM,
    NORM,
    albert,
    bert,
    grouped_queries,
    modernbert,
    random_state,
)
from tests.nn.cases import VOCAB_SIZE, attention_config


def heads(num_heads: int, **changes: Any) -> MultiHeadConfig:
    return attention_config(**{"num_heads": num_heads, "head_dim": HEAD_DIM, **changes})


def positions(length: int, **changes: Any) -> TokenEmbeddingConfig:
    return TokenEmbeddingConfig(positions=LearnedPositionsConfig(length=length), **changes)


# The old model, the new one, the key that is to be named, and words of the message.
REFUSED: dict[str, tuple[ModelConfig, ModelConfig, str, str]] = {
    "vocabulary": (
        modernbert(),
        modernbert(vocab_size=VOCAB_SIZE + 1),
        "model.vocab_size",
        "is 101, and 100 in the checkpoint: give 100",
    ),
    "narrower": (
        modernbert(14),
        modernbert(),
        "model.hidden_size",
        "is 8, less than the checkpoint's 14: give 14 or more",
    ),
    "less deep": (
        modernbert(),
        modernbert(num_layers=2),
        "model.num_layers",
        "is 2, less than the checkpoint's 3: give 3 or more",
    ),
    "fewer heads": (
        modernbert(),
        modernbert(heads=1),
        "model.attention.num_heads",
        "is 1, and 2 in the checkpoint's layer 0: give 2 (encoder.layers.0.attention.qkv.weight "
        "would be smaller)",
    ),
    "another head_dim": (
        modernbert(),
        modernbert(16, attention=attention_config(num_heads=2)),
        "model.attention.head_dim",
        "is 8, and 4 in the checkpoint's layer 0, and heads are taken whole: give 4",
    ),
    "another ratio of queries to keys": (
        modernbert(attention=heads(4, num_kv_heads=2)),
        modernbert(attention=heads(8, num_kv_heads=2)),
        "model.attention.num_kv_heads",
        "makes 4 queries share a key, 2 do in the checkpoint's layer 0: give num_heads / 2",
    ),
    "a smaller MLP": (
        modernbert(),
        modernbert(intermediate=5),
        "model.mlp.intermediate_size",
        "is 5, and 6 in the checkpoint's layer 0: give 6 (encoder.layers.0.mlp.up.weight would be "
        "smaller)",
    ),
    "another MLP": (
        modernbert(),
        modernbert(mlp=PlainMLPConfig(intermediate_size=12)),
        "model.mlp",
        "is mlp, and glu in the checkpoint's layer 0, and weights of one do not fit the other: "
        "give glu",
    ),
    "another MLP in one layer": (
        modernbert(),
        modernbert(layers={"1-2": LayerConfig(mlp=PlainMLPConfig(intermediate_size=12))}),
        "model.layers.1-2.mlp",
        "is mlp, and glu in the checkpoint's layer 1",
    ),
    "another MLP at its place": (
        albert(),
        albert(num_layers=6),
        "model.mlp",
        "is glu, and mlp in the checkpoint's layer 0",
    ),
    "another block": (
        modernbert(block=PreNormConfig(norm=NORM), final_norm=None),
        modernbert(block=PostNormConfig(norm=NORM), final_norm=None),
        "model.block",
        "is post_norm, and pre_norm in the checkpoint's layer 0",
    ),
    "another norm": (
        modernbert(),
        modernbert(final_norm=RMSNormConfig()),
        "model.final_norm",
        "is rmsnorm, and layernorm in the checkpoint",
    ),
    "another norm in a block": (
        grouped_queries(),
        grouped_queries(block=SandwichConfig(norm=RMSNormConfig(bias=True))),
        "model.block.norm",
        "is rmsnorm, and layernorm in",
    ),
    "a norm more": (
        modernbert(),
        modernbert(attention=heads(2, qk_norm=NORM)),
        "model.attention.qk_norm",
        "is layernorm, and null in the checkpoint's layer 0, and weights of one do not fit the "
        "other: give null",
    ),
    "a bias more": (
        modernbert(),
        modernbert(mlp=GLUConfig(intermediate_size=6, bias=True)),
        "model.mlp.bias",
        "is true, and false in the checkpoint's layer 0: give false (the checkpoint has no "
        "encoder.layers.0.mlp.up.bias)",
    ),
    "a bias less, and more": (
        bert(),
        bert(mlp=PlainMLPConfig(intermediate_size=8, bias=True, output_bias=False)),
        "model.mlp",
        "only the checkpoint has encoder.layers.0.mlp.down.bias; intermediate_size is 8, and 6 in "
        "the checkpoint's layer 0; output_bias is false, and null in the checkpoint's layer 0",
    ),
    "a first norm less": (
        modernbert(block=PreNormConfig(norm=NORM)),
        modernbert(),
        "model.block.skip_first_norm",
        "only the checkpoint has encoder.layers.0.attention_norm.weight",
    ),
    "a decoder of its own": (
        modernbert(),
        modernbert(head=MLMHeadConfig(norm=NORM, tied=False)),
        "model.head.tied",
        "is false, and true in the checkpoint: give true (the checkpoint has no "
        "head.decoder.weight)",
    ),
    "narrow embeddings": (
        modernbert(),
        modernbert(embedding=TokenEmbeddingConfig(norm=NORM, size=8)),
        "model.embedding.size",
        "is 8, and null in the checkpoint: give null (",
    ),
    "more positions": (
        modernbert(embedding=positions(16)),
        modernbert(embedding=positions(17)),
        "model.embedding.positions.length",
        "is 17, and 16 in the checkpoint: give 16 (encoder.embedding.positions.table.weight has 17 "
        "entries that stay together, 16 there)",
    ),
    "more token types": (
        modernbert(embedding=TokenEmbeddingConfig(token_types=1)),
        modernbert(embedding=TokenEmbeddingConfig(token_types=2)),
        "model.embedding.token_types",
        "is 2, and 1 in the checkpoint",
    ),
}


@pytest.mark.parametrize(("old", "new", "path", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_tiled_is_refused(
    old: ModelConfig, new: ModelConfig, path: str, words: str
) -> None:
    assert_refused(old, new, path, words)


def assert_refused(
    old: ModelConfig,
    new: ModelConfig,
    path: str,
    words: str,
    method: InitMethod = "tile_center",
    depth: DepthMapping = "scaled",
) -> None:
    """And nothing is changed."""
    model = build_model(new)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(ConfigError) as error:
        tile(model, random_state(old), plan_tiling(new, old, method, depth))
    assert error.value.path == path
    assert words in error.value.problem
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("new", "path", "words"),
    [
        (
            modernbert(num_layers=4),
            "model.num_layers",
            "is 4, and 3 in the checkpoint: give 3, or init_from.method tile_center",
        ),
        (
            modernbert(10),
            "init_from.method",
            "copy needs the same shapes, and encoder.embedding.tokens.weight is [100, 10], "
            "[100, 8] in the checkpoint: give tile_center",
        ),
        (
            modernbert(heads=3),
            "init_from.method",
            "encoder.layers.0.attention.qkv.weight is [36, 8], [24, 8] in the checkpoint",
        ),
        (
            modernbert(block=PreNormConfig(norm=NORM, skip_first_norm=False)),
            "model.block.skip_first_norm",
            "the checkpoint has no encoder.layers.0.attention_norm.weight",
        ),
    ],
)
def test_a_copy_is_of_the_same_shapes(new: ModelConfig, path: str, words: str) -> None:
    assert_refused(modernbert(), new, path, words, method="copy")


def test_a_kind_of_attention_that_no_old_layer_has_is_refused() -> None:
    old = modernbert(attention=heads(2, windows="global", rope=None, alibi=True))
    words = "layer 1 is local, and no layer of the checkpoint's model is: give scaled"
    assert_refused(old, modernbert(), "init_from.depth", words, depth="same_kind")


def test_a_block_that_does_not_tell_its_units_is_taken_as_it_is_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(PlainMLP, "dimension_units")
    old, deeper = bert(), bert(num_layers=4)
    state, model = random_state(old), build_model(deeper)
    tile(model, state, plan_tiling(deeper, old, "tile_center"))
    last = model.encoder.layers[3].mlp.up.weight
    assert torch.equal(last, state["encoder.layers.2.mlp.up.weight"])
    words = "encoder.layers.0.mlp.up.weight has 10 entries that stay together, 8 there"
    assert_refused(old, bert(hidden=10), "model.mlp", words)


def test_a_recipe_says_whose_weights_to_take() -> None:
    given = {"checkpoint": "runs/base", "method": "tile_edge", "depth": "same_kind"}
    assert decode(InitFromConfig, given) == InitFromConfig(
        checkpoint=Path("runs/base"), method="tile_edge", depth="same_kind"
    )
    missing: list[str] = []
    assert decode(InitFromConfig, {"checkpoint": "???"}, missing).method == "copy"
    assert missing == ["checkpoint"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "checkpoint: is missing"),
        ({"checkpoint": "???"}, "checkpoint: is still to be given"),
        ({"checkpoint": "a.pt", "method": "tile"}, "method: unknown value 'tile'; did you mean"),
        ({"checkpoint": "a.pt", "depth": "same_kind"}, "depth: would do nothing: method copy"),
    ],
)
def test_a_node_that_means_nothing_is_refused(node: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(InitFromConfig, node)
