"""Small models of ``yamls/models``: their blocks, few of them and narrow."""

from __future__ import annotations

from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import interpolate, overrides_tree, read_tree
from flexbert.config.tree import merge
from tests.conftest import REPOSITORY
from tests.nn.cases import VOCAB_SIZE

HEADS = 4
SMALL = (
    f"model.vocab_size={VOCAB_SIZE}",
    "model.hidden_size=32",
    "model.num_layers=3",
    f"model.attention.num_heads={HEADS}",
    "model.mlp.intermediate_size=24",
)


def small_published(name: str, *overrides: str) -> ModelConfig:
    """The model of ``yamls/models/NAME.yaml`` in small, with ``key=value`` overrides; that of
    ``tests/nn/windows.yaml`` by the name of ``windows``."""
    register_all()
    folder = "tests/nn" if name == "windows" else "yamls/models"
    path = REPOSITORY / folder / f"{name}.yaml"
    tree = merge(read_tree(path), overrides_tree([*SMALL, *overrides]))
    return decode(ModelConfig, interpolate(tree)["model"])
