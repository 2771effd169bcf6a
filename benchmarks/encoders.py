"""The encoders that benchmarks of the model compare, at one scale, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.peers import GTE, NOMICBERT, PaddedEncoder, PaddedEncoderConfig
from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import interpolate, overrides_tree, read_tree
from flexbert.config.tree import merge
from flexbert.huggingface.quiet import quiet_transformers
from flexbert.nn.build import build_model
from flexbert.nn.encoder import Encoder

MODELS = Path(__file__).parent.parent / "yamls" / "models"


@dataclass(frozen=True)
class Shape:
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Scale:
    """Sizes that all encoders are built in.

    Attributes:
        bert: the shape of BERT's line, gated MLPs or not.
        modernbert: that of ModernBERT, deeper and with narrower MLPs.
        vocab_size: of all; None leaves each its own.
    """

    bert: Shape
    modernbert: Shape
    vocab_size: int | None

    @property
    def vocabulary(self) -> dict[str, int]:
        return {} if self.vocab_size is None else {"vocab_size": self.vocab_size}


# Small has half the layers of base, a third of the width, and so the same proportions between the
# two shapes and between their global and local layers.
SCALES = {
    "tiny": Scale(Shape(32, 2, 2, 64), Shape(32, 4, 2, 48), 512),
    "small": Scale(Shape(256, 6, 4, 1024), Shape(256, 11, 4, 384), 8192),
    "base": Scale(Shape(768, 12, 12, 3072), Shape(768, 22, 12, 1152), None),
}


def flexbert_encoder(name: str, scale: Scale, *overrides: str) -> Encoder:
    """The encoder of ``yamls/models/NAME.yaml``, in the sizes of the scale."""
    register_all()
    shape = scale.modernbert if name.startswith("modernbert") else scale.bert
    sizes = {
        "hidden_size": shape.hidden_size,
        "num_layers": shape.num_layers,
        "attention.num_heads": shape.num_heads,
        "mlp.intermediate_size": shape.intermediate_size,
        **scale.vocabulary,
    }
    given = [f"model.{key}={value}" for key, value in sizes.items()]
    tree = merge(read_tree(MODELS / f"{name}.yaml"), overrides_tree([*given, *overrides]))
    return build_model(decode(ModelConfig, interpolate(tree)["model"])).encoder


def padded_encoder(config: PaddedEncoderConfig, scale: Scale) -> PaddedEncoder:
    return PaddedEncoder(replace(config, **vars(scale.bert), **scale.vocabulary))


def transformers_encoder(
    model_type: str, attention: str, fields: dict[str, Any], scale: Scale
) -> nn.Module:
    """transformers' encoder without pooler or head."""
    from transformers import AutoConfig, AutoModel

    shape = scale.modernbert if model_type == "modernbert" else scale.bert
    config = AutoConfig.for_model(
        model_type,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
        **{**fields, **scale.vocabulary},
    )
    unpooled = {"add_pooling_layer": False} if model_type in ("bert", "roberta") else {}
    with quiet_transformers():
        return AutoModel.from_config(config, attn_implementation=attention, **unpooled)


@dataclass(frozen=True)
class Peer:
    """An encoder that takes padded batches.

    Attributes:
        attention: how it is computed; None if by FlexBERT's own.
        max_length: the longest document that it has positions for, None without such a limit.
    """

    build: Callable[[Scale], nn.Module]
    attention: str | None
    max_length: int | None = None


def peers(device: torch.device) -> dict[str, Peer]:
    """Those of the ModernBERT paper's table of throughput, and transformers' ModernBERT."""
    roberta = {
        "vocab_size": 50_265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    }
    deberta_v3 = {
        "vocab_size": 128_100,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    }
    # Padding's id must lie within any vocabulary. Eager, as all others are: on a GPU its MLPs would
    # be compiled.
    modernbert = {"vocab_size": 50_368, "pad_token_id": 0, "reference_compile": False}
    kernel = modernbert_attention(device)
    return {
        "bert": Peer(partial(transformers_encoder, "bert", "sdpa", {}), "sdpa", 512),
        "roberta": Peer(partial(transformers_encoder, "roberta", "sdpa", roberta), "sdpa", 512),
        # transformers has no other attention for it.
        "deberta-v3": Peer(
            partial(transformers_encoder, "deberta-v2", "eager", deberta_v3), "eager", 512
        ),
        "nomicbert": Peer(partial(padded_encoder, NOMICBERT), "sdpa"),
        "gte": Peer(partial(padded_encoder, GTE), "sdpa"),
        "gte-unpadded-in-layers": Peer(
            partial(padded_encoder, replace(GTE, unpadding="in_layers")), None
        ),
        "modernbert": Peer(
            partial(transformers_encoder, "modernbert", kernel, modernbert), kernel, 8192
        ),
    }


def modernbert_attention(device: torch.device) -> str:
    """transformers' best for ModernBERT: it unpads with flash-attn alone."""
    from transformers.utils import is_flash_attn_2_available

    usable = device.type == "cuda" and is_flash_attn_2_available()
    return "flash_attention_2" if usable else "sdpa"
