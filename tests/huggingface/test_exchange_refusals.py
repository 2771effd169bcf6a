"""Models and folders that have no counterpart on the other side are refused by name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from transformers.activations import ACT2FN

from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.model import LayerConfig, ModelConfig
from flexbert.config.recipe_files import complete_layers, interpolate, read_tree
from flexbert.errors import UserError
from flexbert.huggingface.activation_names import OURS, THEIRS
from flexbert.huggingface.families import family_for
from flexbert.huggingface.importing import import_folder
from flexbert.nn.activations import ACTIVATIONS
from flexbert.nn.attention import MultiHeadConfig
from flexbert.nn.block import PreNormConfig, SandwichConfig
from flexbert.nn.embedding import TokenEmbeddingConfig
from flexbert.nn.head import MLMHeadConfig
from flexbert.nn.init import TruncatedNormalConfig
from flexbert.nn.mlp import GLUConfig, PlainMLPConfig
from flexbert.nn.norm import LayerNormConfig, RMSNormConfig
from flexbert.nn.positions import LearnedPositionsConfig
from flexbert.nn.rope import RopeConfig
from tests.conftest import REPOSITORY
from tests.huggingface.cases import (
    FACTS,
    HEADS,
    NORM,
    SAVED,
    bert,
    change_json,
    roberta,
    save_theirs,
)
from tests.nn.cases import attention_config, small_model


@pytest.mark.parametrize("theirs", OURS)
def test_activations_of_the_same_name_are_the_same(theirs: str) -> None:
    x = torch.linspace(-6, 6, 200)
    actual = ACTIVATIONS[OURS[theirs]](x)
    torch.testing.assert_close(actual, ACT2FN[theirs](x), atol=1e-6, rtol=1e-6)
    assert OURS[THEIRS[OURS[theirs]]] == OURS[theirs]


REFUSED = {
    "alibi with post-norm": (
        bert(attention=MultiHeadConfig(num_heads=4, bias=True, alibi=True)),
        r"the nearest, BERT, does not have: model.attention.alibi \(true, always false there\)",
    ),
    "no bias": (
        bert(mlp=PlainMLPConfig(intermediate_size=8)),
        r"BERT.*model.mlp.bias \(false, always true there\)",
    ),
    "rmsnorm": (small_model(final_norm=RMSNormConfig()), r"ModernBERT.*model.final_norm \(rmsnorm"),
    "another eps": (
        small_model(final_norm=LayerNormConfig(eps=1e-6)),
        r"model.final_norm.eps \(1e-06, while model.embedding.norm.eps is 1e-05: one norm_eps\)",
    ),
    "sandwich": (
        small_model(block=SandwichConfig(norm=LayerNormConfig(), skip_first_norm=True)),
        r"model.block \(sandwich, always pre_norm there\)$",
    ),
    "first norm": (
        small_model(block=PreNormConfig(norm=LayerNormConfig())),
        r"model.block.skip_first_norm \(false, always true there\)$",
    ),
    "no embedding norm": (
        small_model(embedding=TokenEmbeddingConfig()),
        r"model.embedding.norm \(null, always given there\)$",
    ),
    "qk norm": (
        small_model(attention=attention_config(qk_norm=LayerNormConfig())),
        r"model.attention.qk_norm \(layernorm, always null there\)$",
    ),
    "grouped queries": (
        small_model(attention=attention_config(num_kv_heads=2)),
        r"model.attention.num_kv_heads \(2, always null there\)$",
    ),
    "two windows": (
        small_model(attention=attention_config(windows=["global", 8, 16, 8])),
        r"model.attention.windows \(\['global', 8, 16, 8\]: local layers have one window there\)$",
    ),
    "part of a head": (
        small_model(
            attention=attention_config(
                rope=RopeConfig(theta={"global": 1e4, "local": 1e4}, fraction=0.5)
            )
        ),
        r"model.attention.rope.fraction \(0.5, always 1.0 there\)$",
    ),
    "an activation": (
        small_model(mlp=GLUConfig(intermediate_size=8, activation="selu")),
        r"model.mlp.activation \(selu: transformers has no name for it\)$",
    ),
    "a layer of its own": (
        small_model(layers={"0": LayerConfig(mlp=GLUConfig(intermediate_size=8))}),
        r"model.layers \(given, always {} there\)$",
    ),
    "bare head": (
        small_model(head=MLMHeadConfig(norm=LayerNormConfig(), dense=False)),
        r"model.head.dense \(false, always true there\)$",
    ),
    "max pooling": (
        small_model(
            head=dataclasses.replace(HEADS["sequence_classification"]["modernbert"], pooling="max")
        ),
        r"model.head.pooling \(max: .*\)$",
    ),
    "mean pooling in BERT": (
        bert(head=dataclasses.replace(HEADS["sequence_classification"]["bert"], pooling="mean")),
        r"BERT, does not have: model.head.pooling \(mean, always cls there\)$",
    ),
    "offset that is not of the pad id": (
        roberta(
            embedding=TokenEmbeddingConfig(
                positions=LearnedPositionsConfig(length=48, offset=4), token_types=1, norm=NORM
            )
        ),
        r"model.embedding.positions.offset \(4, always ",
    ),
    "no token types": (
        bert(embedding=TokenEmbeddingConfig(positions=LearnedPositionsConfig(length=8), norm=NORM)),
        r"model.embedding.token_types \(0: at least 1 there\)$",
    ),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_family_has_is_refused_by_name(config: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        family_for(config, FACTS)


def test_what_only_matters_in_training_is_given_up_with_a_note() -> None:
    config = small_model(
        attention=attention_config(output_dropout=0.1),
        mlp=GLUConfig(intermediate_size=8, output_dropout=0.2),
        init=TruncatedNormalConfig(std=0.05),
    )
    _, expressed = family_for(config, FACTS)
    assert expressed.config["attention_dropout"] == 0.0
    assert expressed.config["initializer_range"] == 0.05
    for part in ("mlp.output_dropout 0.2", "attention.output_dropout 0.1", "init truncated_normal"):
        assert any(part in note for note in expressed.notes)
    same = small_model(attention=attention_config(dropout=0.1, output_dropout=0.1))
    _, expressed = family_for(same, FACTS)
    assert expressed.config["attention_dropout"] == 0.1
    assert expressed.notes == []


PUBLISHED = REPOSITORY / "yamls" / "models"
FAMILY_OF = {"modernbert": "ModernBERT", "ettin": "ModernBERT", "mmbert": "ModernBERT"} | {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "nomicbert": "NomicBERT",
    "gte": "GTE",
    "eurobert": "EuroBERT",
}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PUBLISHED.glob("*.yaml")) if path.stem not in ("bert", "modernbert")],
    ids=lambda path: path.stem,
)
def test_published_models_belong_to_their_family(path: Path) -> None:
    """Every field of every published model is written or refused, none is passed over."""
    register_all()
    tree = complete_layers(interpolate(read_tree(path)))
    config = decode(ModelConfig, tree["model"])
    wanted = FAMILY_OF.get(path.stem.split("-")[0])
    if wanted is None:
        with pytest.raises(UserError, match="no Hugging Face architecture of transformers 5"):
            family_for(config, FACTS)
    else:
        assert family_for(config, FACTS)[0].title == wanted


def test_a_folder_of_another_kind_is_refused_by_name(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    save_theirs(SAVED["bert"], tmp_path / "folder", word_tokenizer)
    path = tmp_path / "folder" / "config.json"
    original = path.read_text()
    for changes, message in (
        ({"model_type": "distilbert"}, r"model_type 'distilbert'; did you mean 'bert'"),
        ({"model_type": 7}, "model_type 7"),
        ({"architectures": ["BertForNextSentencePrediction"]}, r"architectures \['BertForNextSent"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute' is known here"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"hidden_act": "prelu"}, "hidden_act: no activation 'prelu'"),
        ({"quantization_config": {"bits": 4}}, "has quantization_config"),
        ({"num_attention_heads": 5}, "must divide hidden_size 32, got 5"),
    ):
        path.write_text(original)
        change_json(path, **changes)
        with pytest.raises(UserError, match=message):
            import_folder(str(tmp_path / "folder"), tmp_path / "a.pt")
    shutil.rmtree(tmp_path / "folder")
    with pytest.raises(UserError, match="no such folder"):
        import_folder(str(tmp_path / "folder"), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []
