"""What only NomicBERT, GTE and EuroBERT have in their folders: rotary keys, biases of zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.errors import UserError
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.families import family_for
from flexbert.huggingface.importing import import_folder, read_folder
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.rope import RopeConfig
from flexbert.nn.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    NTKAllPairsScaling,
    NTKScaling,
    ScalingConfig,
    YarnScaling,
)
from tests.huggingface.cases import (
    FACTS,
    MODELS,
    NORM,
    SAVED,
    change_json,
    eurobert,
    nomicbert,
    read_json,
    write_model,
)

ROTARY = ("nomicbert", "gte", "eurobert")
YARN = {"rope_type": "yarn", "original_max_position_embeddings": 16, "rope_theta": 1000.0}


def with_rope(**changes: Any) -> ModelConfig:
    rope = RopeConfig(**{"theta": {"global": 1000.0}, **changes})
    return nomicbert(attention=MultiHeadConfig(num_heads=4, rope=rope))


def exported(folder: Path, name: str, tokenizer: dict[str, str]) -> Path:
    """The folder of a small model; the path of its config."""
    write_model(folder / "a.pt", SAVED[name], tokenizer, max_length=40)
    export_checkpoint(folder / "a.pt", folder / "folder")
    return folder / "folder" / "config.json"


@pytest.mark.parametrize(
    ("scaling", "written", "length"),
    [
        (LinearScaling(factor=3.0), {"rope_type": "linear", "factor": 3.0}, 40),
        (
            DynamicNTKScaling(factor=2.0, original_length=16),
            {"rope_type": "dynamic", "factor": 2.0},
            16,
        ),
        (
            YarnScaling(factor=4.0, original_length=16),
            {**YARN, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
            40,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("make", [nomicbert, eurobert])
def test_scaled_angles_survive_both_ways(
    tmp_path: Path,
    word_tokenizer: dict[str, str],
    make: type,
    scaling: ScalingConfig,
    written: dict[str, Any],
    length: int,
) -> None:
    rope = RopeConfig(theta={"global": 1000.0}, scaling=scaling)
    config = make(attention=MultiHeadConfig(num_heads=4, rope=rope))
    write_model(tmp_path / "a.pt", config, word_tokenizer, max_length=40)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    found = read_json(tmp_path / "folder" / "config.json")
    assert found["rope_parameters"] == {**written, "rope_theta": 1000.0}
    assert found["max_position_embeddings"] == length
    # As transformers itself writes it again.
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "folder")
    model.config.save_pretrained(tmp_path / "folder")
    import_folder(str(tmp_path / "folder"), tmp_path / "b.pt")
    contents = read_checkpoint(tmp_path / "b.pt")
    attention: Any = decode(ModelConfig, contents.recipe["model"]).attention
    assert attention.rope == rope
    assert contents.recipe["data"] == {"max_length": length}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            with_rope(scaling=NTKScaling(factor=2.0)),
            r"rope.scaling \(\{name: ntk, factor: 2.0\}: transformers has no such scaling; it has "
            r"linear, dynamic_ntk, yarn\)$",
        ),
        (with_rope(scaling=NTKAllPairsScaling(factor=2.0)), r"\{name: ntk_all_pairs, factor: 2"),
        (with_rope(fraction=0.5), r"rope.fraction \(0.5, always 1.0 there\)$"),
        (with_rope(interleaved=True), r"rope.interleaved \(true, always false there\)$"),
        (
            eurobert(head=MLMHeadConfig(dense=False, activation=None, norm=None, tied=False)),
            r"head.decoder_bias \(true, while model.mlp.bias is false: one mlp_bias\)$",
        ),
    ],
)
def test_what_they_cannot_express_is_refused(config: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        family_for(config, FACTS)


def test_older_keys_of_angles_are_read(tmp_path: Path, word_tokenizer: dict[str, str]) -> None:
    path = exported(tmp_path, "eurobert", word_tokenizer)
    change_json(path, rope_parameters=..., rope_theta=250_000, rope_scaling=None)
    assert read_folder(path.parent).config == SAVED["eurobert"]
    change_json(path, rope_scaling={"type": "linear", "factor": 2.0})
    attention: Any = read_folder(path.parent).config.attention
    assert attention.rope.scaling == LinearScaling(factor=2.0)
    change_json(path, rope_theta=..., rope_scaling=...)
    attention = read_folder(path.parent).config.attention
    assert attention.rope.theta == {"global": 10_000.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_type 'llama3'; "),
        ({"rope_parameters": {"rope_type": "ntk", "factor": 8.0}}, "rope_type 'ntk'; "),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_type linear without a factor"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "2"}}, "factor: '2' is no sensible"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 10**400}}, "is no sensible value"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0.5}}, "must be at least 1"),
        ({"rope_parameters": {"rope_type": ["yarn"]}}, "rope_type "),
        ({"rope_parameters": [1]}, "rope_parameters: expected a mapping"),
        ({"rope_parameters": {"sections": [1]}}, "rope_parameters: unknown key in"),
        ({"rope_parameters": {"rope_type": "default", "type": "yarn"}}, "'default' and type 'yarn"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5: only"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5: only 1.0 is known here"),
        ({"rope_theta": 5.0}, r"rope_theta 5.0, and 250000.0 in rope_parameters"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "and rope_parameters differ"),
        ({"rope_parameters": {**YARN, "factor": 4, "mscale": 2}}, "mscale 2 of rope_type yarn"),
        ({"rope_parameters": {**YARN, "factor": 4, "attention_factor": 2.0}}, "attention_factor 2"),
        ({"rope_parameters": {**YARN, "factor": 4, "truncate": False}}, "truncate: only true"),
        (
            {"rope_parameters": {**YARN, "rope_type": "dynamic", "factor": 4}},
            "transformers takes max_position_embeddings for rope_type dynamic",
        ),
        ({"original_max_position_embeddings": 16}, "known in rope_parameters alone"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: must divide num_heads 4, got 3"),
        ({"head_dim": 6}, "has the shape"),
    ],
    ids=str,
)
def test_angles_that_there_are_not_here_are_refused(
    tmp_path: Path, word_tokenizer: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    path = exported(tmp_path, "eurobert", word_tokenizer)
    change_json(path, **changes)
    with pytest.raises(UserError, match=message) as error:
        read_folder(path.parent)
    assert "\n" not in str(error.value)


def test_biases_of_zeros_in_the_head_of_nomicbert_are_none(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    """transformers always has them, the released model has none."""
    folder = exported(tmp_path, "nomicbert", word_tokenizer).parent
    weights = load_file(folder / "model.safetensors")
    dense, decoder = "cls.predictions.transform.dense.bias", "cls.predictions.bias"
    assert not weights[dense].any()
    assert not weights[decoder].any()
    assert read_folder(folder).config == SAVED["nomicbert"]

    changed = {**weights, decoder: torch.ones_like(weights[decoder])}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    import_folder(str(folder), tmp_path / "b.pt")
    head: Any = read_folder(folder).config.head
    assert (head.bias, head.decoder_bias) == (False, True)

    fewer = {name: tensor for name, tensor in weights.items() if name not in (dense, decoder)}
    save_file(fewer, folder / "model.safetensors", metadata={"format": "pt"})
    import_folder(str(folder), tmp_path / "c.pt")
    assert read_folder(folder).config == SAVED["nomicbert"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_with_biases_is_nomicberts_too(
    tmp_path: Path, word_tokenizer: dict[str, str], tied: bool
) -> None:
    config = nomicbert(head=MLMHeadConfig(norm=NORM, activation="silu", bias=True, tied=tied))
    state = write_model(tmp_path / "a.pt", config, word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    import_folder(str(tmp_path / "folder"), tmp_path / "b.pt")
    contents = read_checkpoint(tmp_path / "b.pt")
    assert decode(ModelConfig, contents.recipe["model"]) == config
    assert all(torch.equal(contents.model[name], value) for name, value in state.items())


def test_code_that_a_published_eurobert_names_is_not_run(
    tmp_path: Path, word_tokenizer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = exported(tmp_path, "eurobert", word_tokenizer)
    (path.parent / "evil.py").write_text("open('ran', 'w')\n")
    change_json(path, auto_map={"AutoConfig": "evil.Config", "AutoModelForMaskedLM": "evil.Model"})
    notes = import_folder(str(path.parent), tmp_path / "b.pt")
    assert any("(auto_map) is not run" in note for note in notes)
    assert not (tmp_path / "ran").exists()


def test_tensors_of_gte_under_their_older_prefix_are_read(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    folder = exported(tmp_path, "gte", word_tokenizer).parent
    weights = load_file(folder / "model.safetensors")
    older = {
        f"new.{name.removeprefix('gte.')}" if name.startswith("gte.") else name: tensor
        for name, tensor in weights.items()
    }
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})
    import_folder(str(folder), tmp_path / "b.pt")
    before, after = (read_checkpoint(tmp_path / f"{name}.pt").model for name in "ab")
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_late_pooling_of_eurobert_is_refused(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    config = MODELS["eurobert sequence_classification"]
    write_model(tmp_path / "a.pt", config, word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    path = tmp_path / "folder" / "config.json"
    assert read_json(path)["classifier_pooling"] == "mean"
    change_json(path, classifier_pooling="bos")
    head: Any = read_folder(tmp_path / "folder").config.head
    assert head.pooling == "cls"
    change_json(path, classifier_pooling="late")
    with pytest.raises(UserError, match=r"classifier_pooling: 'late' is not known here, bos and"):
        read_folder(tmp_path / "folder")


@pytest.mark.parametrize("name", ["nomicbert", "eurobert"])
def test_a_tokenizer_without_a_mask_or_a_padding_token_is_exported(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str
) -> None:
    """Some keys of their configs have to be numbers."""
    facts = {**FACTS.special_ids, "pad": None, "mask": None}
    family, expressed = family_for(SAVED[name], type(FACTS)(special_ids=facts, max_length=40))
    cls = getattr(transformers, family.classes["masked_lm"])
    cls.config_class(**expressed.config)
