"""The published encoders of yamls/models have their published sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.load import complete_layers, interpolate, read_tree
from flexbert.config.model import ModelConfig
from flexbert.nn.build import parameter_counts
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "yamls" / "models"
# What other files include and no model of its own.
FRAGMENTS = {"bert", "modernbert"}

# Exact counts, and what our masked LM lacks of them or has beside them.
POOLER_AND_NEXT_SENTENCE = {
    768: 768 * 768 + 768 + 2 * 768 + 2,
    1024: 1024 * 1024 + 1024 + 2 * 1024 + 2,
}
EXACT = {
    # tensors of the released checkpoints: with pooler and next-sentence head
    "bert-base": 110_106_428 - POOLER_AND_NEXT_SENTENCE[768],
    "bert-large": 336_226_108 - POOLER_AND_NEXT_SENTENCE[1024],
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "modernbert-base": 149_655_232,
    "modernbert-large": 395_881_664,
}
# Rounded counts, in millions, and whether they leave the head's parameters out.
ROUNDED = {
    "mosaicbert-base": (137, False),
    "nomicbert": (137, False),
    "gte-en-mlm-base": (137, False),
    "gte-en-mlm-large": (434, False),
    "crammingbert": (120, False),
    "ettin-17m": (17, False),
    "ettin-32m": (32, False),
    "ettin-68m": (68, False),
    "ettin-150m": (150, False),
    "ettin-400m": (396, False),
    "mmbert-base": (307, False),
    "mmbert-small": (140, False),
    "eurobert-210m": (212, True),
    "eurobert-610m": (608, True),
    "eurobert-2.1b": (2100, True),
}


def read_model(path: Path) -> ModelConfig:
    register_all()
    return decode(ModelConfig, complete_layers(interpolate(read_tree(path)))["model"])


def test_every_model_has_a_published_size() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*EXACT, *ROUNDED} | FRAGMENTS


@pytest.mark.parametrize("name", EXACT)
def test_sizes_given_exactly_are_met_exactly(name: str) -> None:
    assert parameter_counts(read_model(FOLDER / f"{name}.yaml"))["total"] == EXACT[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_sizes_are_met_within_a_percent(name: str) -> None:
    millions, headless = ROUNDED[name]
    counts = parameter_counts(read_model(FOLDER / f"{name}.yaml"))
    count = counts["embedding"] + counts["encoder"] if headless else counts["total"]
    assert count / 1e6 == pytest.approx(millions, rel=0.01)
