"""Folders as transformers 4.57 writes them come in, and exports hold what it reads.

The locked environment has transformers 5; what 4.57 writes and reads is written down here, and
``tests/by_hand/transformers4_roundtrip.py`` has that version itself confirm it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import flexbert
from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.config.decode import decode
from flexbert.config.model import ModelConfig
from flexbert.errors import UserError
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.importing import import_folder, read_folder
from flexbert.nn.head import MLMHeadConfig
from tests.huggingface.cases import (
    NORM,
    SAVED,
    SPECIAL,
    bert,
    change_json,
    padded_batch,
    read_json,
    roberta,
    write_model,
)
from tests.nn.tolerances import assert_same

# Keys of 5 that 4.57 does not write, and keys of 4.57 that an export leaves at its defaults.
NEWER = ("layer_types", "rope_parameters")
OLDER = {
    "modernbert": {
        "deterministic_flash_attn": False,
        "repad_logits_with_grad": False,
        "sparse_pred_ignore_index": -100,
        "sparse_prediction": False,
    },
    "bert": {"use_cache": True},
    "roberta": {"use_cache": True},
}
UNTIED = {
    "bert": bert(head=MLMHeadConfig(norm=NORM, bias=True, tied=False)),
    "roberta": roberta(head=MLMHeadConfig(norm=NORM, bias=True, tied=False)),
}
# The newer three are not in 4.57.
CASES = {
    **{name: SAVED[name] for name in OLDER},
    **{f"{name} untied": config for name, config in UNTIED.items()},
}
BIASES = {
    "bert": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    "roberta": ("lm_head.bias", "lm_head.decoder.bias"),
}


def as_4_57_writes(folder: Path) -> None:
    """Turn an export into what ``save_pretrained`` of transformers 4.57 writes of such a model."""
    config = read_json(folder / "config.json")
    model_type = config["model_type"]
    changes = {**dict.fromkeys(NEWER, ...), **OLDER[model_type]}
    if config["tie_word_embeddings"]:
        # A default value is not written.
        changes["tie_word_embeddings"] = ...
    change_json(folder / "config.json", **changes, transformers_version="4.57.6")
    change_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        backend=...,
        added_tokens_decoder={str(index): _added(token) for token, index in SPECIAL.items()},
        clean_up_tokenization_spaces=False,
        extra_special_tokens={},
    )
    roles = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    (folder / "special_tokens_map.json").write_text(json.dumps(roles))
    weights = load_file(folder / "model.safetensors")
    if model_type in BIASES:
        weights.pop(BIASES[model_type][1], None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _added(token: str) -> dict[str, object]:
    flags = ("lstrip", "normalized", "rstrip", "single_word")
    return {"content": token, "special": True, **dict.fromkeys(flags, False)}


@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
def test_a_folder_of_transformers_4_57_is_imported_and_exported_again(
    tmp_path: Path, word_tokenizer: dict[str, str], config: ModelConfig
) -> None:
    state = write_model(tmp_path / "a.pt", config, word_tokenizer, max_length=40)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    as_4_57_writes(tmp_path / "folder")
    import_folder(str(tmp_path / "folder"), tmp_path / "b.pt")
    contents = read_checkpoint(tmp_path / "b.pt")
    assert decode(ModelConfig, contents.recipe["model"]) == config
    for name, value in state.items():
        assert torch.equal(contents.model[name], value), name

    export_checkpoint(tmp_path / "b.pt", tmp_path / "again")
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "again").eval()
    batch = padded_batch(config)
    is_real = batch["attention_mask"].bool()
    ours = flexbert.load_model(tmp_path / "b.pt")
    assert_same(ours(**batch)[is_real], theirs(**batch).logits[is_real])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert tokenizer("w20 [MASK]")["input_ids"] == [5, 20, 8, 7]


def test_an_export_has_what_transformers_4_57_reads(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    # As transformers 5 writes a tokenizer, and with it a corpus and a checkpoint have it.
    newer = {"backend": "tokenizers", "extra_special_tokens": ["w33"]}
    config = json.loads(word_tokenizer["tokenizer_config.json"]) | newer
    config["tokenizer_class"] = "TokenizersBackend"
    texts = {**word_tokenizer, "tokenizer_config.json": json.dumps(config)}
    write_model(tmp_path / "a.pt", SAVED["modernbert"], texts)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    written = read_json(tmp_path / "folder" / "tokenizer_config.json")
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert written["additional_special_tokens"] == ["w33"]
    assert "extra_special_tokens" not in written
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert 33 in back.all_special_ids
    model = read_json(tmp_path / "folder" / "config.json")
    assert {"global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"} <= model.keys()


@pytest.mark.parametrize("name", UNTIED)
def test_the_bias_of_an_untied_decoder_is_the_one_that_transformers_5_reads(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str
) -> None:
    """5 ties it to the head's only where the decoder is tied, and trains that of the decoder."""
    write_model(tmp_path / "a.pt", UNTIED[name], word_tokenizer)
    folder = tmp_path / "folder"
    export_checkpoint(tmp_path / "a.pt", folder)
    weights: dict[str, Tensor] = load_file(folder / "model.safetensors")
    idle, used = BIASES[name]
    assert torch.equal(weights[idle], weights[used])
    weights[idle] = torch.zeros_like(weights[idle])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    notes = import_folder(str(folder), tmp_path / "b.pt")
    assert any(f"left out: {idle}" in note for note in notes)
    state = read_checkpoint(tmp_path / "b.pt").model
    assert torch.equal(state["head.decoder.bias"], weights[used])


def test_layers_that_differ_by_a_key_of_transformers_5_are_refused(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    write_model(tmp_path / "a.pt", SAVED["bert"], word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    change_json(tmp_path / "folder" / "config.json", per_layer_config={"1": {"hidden_act": "relu"}})
    with pytest.raises(UserError, match="has per_layer_config"):
        read_folder(tmp_path / "folder")
