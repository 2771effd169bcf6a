"""The published encoders of yamls/models have their published sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import complete_layers, interpolate, read_tree
from flexbert.nn.build import ParameterCounts, parameter_counts
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "yamls" / "models"
# What other files include and no model of its own.
FRAGMENTS = {"bert", "modernbert"}

# Of the released checkpoints' tensors, and what our masked LM lacks of them.
POOLER_AND_NEXT_SENTENCE = {c: (c * c + c) + (2 * c + 2) for c in (768, 1024)}
EXACT = {
    "bert-base": 110_106_428 - POOLER_AND_NEXT_SENTENCE[768],
    "bert-large": 336_226_108 - POOLER_AND_NEXT_SENTENCE[1024],
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "mosaicbert-base": 137_400_384,
    "neobert": 245_136_954,
    "modernbert-base": 149_655_232,
    "modernbert-large": 395_881_664,
    "eurobert-210m": 310_266_624,
    "eurobert-610m": 755_625_600,
    "eurobert-2.1b": 2_403_092_736,
}
# Of released checkpoints that hold the encoder alone.
EXACT_ENCODER = {
    "nomicbert": 136_731_648,  # nomic-embed-text-v1
    "gte-en-mlm-base": 136_776_192,  # gte-base-en-v1.5
    "gte-en-mlm-large": 434_139_136,  # gte-large-en-v1.5
}
# In millions, as papers and model cards round them.
ROUNDED = {
    "mosaicbert-large": 434,
    "crammingbert": 120,
    "ettin-17m": 17,
    "ettin-32m": 32,
    "ettin-68m": 68,
    "ettin-150m": 150,
    "ettin-400m": 396,
    "ettin-1b": 1030,
    "mmbert-base": 307,
    "mmbert-small": 140,
}


def read_model(path: Path) -> ModelConfig:
    register_all()
    return decode(ModelConfig, complete_layers(interpolate(read_tree(path)))["model"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("base", ["../base.yaml", "mosaicbert-base.yaml", "neobert.yaml"])
def test_an_included_model_replaces_the_one_before(path: Path, base: str, tmp_path: Path) -> None:
    if path.stem in FRAGMENTS:
        pytest.skip("no model of its own")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"include: [{FOLDER / base}, {path}]\nmodel.attention.bias: true\n")
    after = read_tree(recipe)["model"]
    alone = read_tree(path)["model"]
    alone["attention"] = {**alone["attention"], "bias": True}
    assert after == alone


def counts(name: str) -> ParameterCounts:
    return parameter_counts(read_model(FOLDER / f"{name}.yaml"))


def test_every_model_has_a_published_size() -> None:
    known = {*EXACT, *EXACT_ENCODER, *ROUNDED}
    assert {path.stem for path in FOLDER.glob("*.yaml")} == known | FRAGMENTS


@pytest.mark.parametrize("name", EXACT)
def test_sizes_given_exactly_are_met_exactly(name: str) -> None:
    assert counts(name).total == EXACT[name]


@pytest.mark.parametrize("name", EXACT_ENCODER)
def test_sizes_of_encoders_given_exactly_are_met_exactly(name: str) -> None:
    count = counts(name)
    assert count.embedding + count.encoder == EXACT_ENCODER[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_sizes_are_met_within_a_percent(name: str) -> None:
    assert counts(name).total / 1e6 == pytest.approx(ROUNDED[name], rel=0.01)


def test_the_page_tells_these_sizes() -> None:
    page = (REPOSITORY / "docs" / "models.md").read_text()
    for name in (*EXACT, *EXACT_ENCODER, *ROUNDED):
        assert f"| `{name}` | {counts(name).total:,} |" in page
