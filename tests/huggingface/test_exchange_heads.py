"""New heads on trained encoders, fine-tuning as the docs show it, and pooled embeddings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import flexbert
from flexbert.commands import main
from flexbert.config.encode import encode
from flexbert.errors import UserError
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.tokenizer import with_max_length
from flexbert.nn.packed_batch import unpad
from tests.conftest import REPOSITORY
from tests.huggingface.cases import (
    MODELS,
    SAVED,
    padded_batch,
    read_json,
    tokenizer_files,
    write_model,
)
from tests.nn.cases import small_model
from tests.nn.tolerances import assert_same


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("name", SAVED)
def test_sentence_transformers_folders(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str, pooling: Any
) -> None:
    from flexbert.nn.pooling import pool

    write_model(tmp_path / "a.pt", SAVED[name], word_tokenizer, max_length=30)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder", pooling)
    folder = tmp_path / "folder"
    modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    pooler = read_json(folder / "1_Pooling" / "config.json")
    assert pooler.pop("word_embedding_dimension") == 32
    assert [key for key, value in pooler.items() if value and key.startswith("pooling")] == [
        f"pooling_mode_{modes[pooling]}"
    ]
    length = SAVED[name].embedding.max_length or 30
    assert read_json(folder / "sentence_bert_config.json")["max_seq_length"] == length
    assert "similarity_fn_name" in read_json(folder / "config_sentence_transformers.json")

    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    batch = padded_batch(SAVED[name])
    hidden = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"].bool()[..., None]
    expected = {
        "cls": hidden[:, 0],
        "mean": (hidden * mask).sum(1) / mask.sum(1),
        "max": hidden.masked_fill(~mask, -torch.inf).amax(1),
    }
    packed, _ = unpad(**batch) if len(batch) == 2 else unpad(*batch.values())
    ours = flexbert.load_model(tmp_path / "a.pt").model
    assert_same(pool(ours.encoder(packed), packed, pooling), expected[pooling])


@pytest.mark.parametrize("name", SAVED)
def test_a_new_head_on_a_trained_encoder(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str
) -> None:
    state = write_model(tmp_path / "a.pt", SAVED[name], word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    # The encoder alone, as AutoModel saves it: without a prefix, with a pooler.
    bare = transformers.AutoModel.from_pretrained(tmp_path / "folder")
    bare.save_pretrained(tmp_path / "bare")
    head = {"name": "sequence_classification", "num_labels": 3, "pooling": "mean"}
    for path in ("a.pt", "folder", "bare"):
        torch.manual_seed(0)
        model = flexbert.load_model(tmp_path / path, head=head)
        new = model.model.state_dict()
        kept = {key for key, value in state.items() if torch.equal(new.get(key, value[:0]), value)}
        encoder = {key for key in state if key.startswith("encoder.")}
        shared = {key for key in state if key.startswith(("head.dense.", "head.norm."))}
        assert kept == (encoder if path == "bare" else encoder | shared)
        assert new["head.classifier.weight"].std() > 0
        assert not new["head.classifier.bias"].any()
        batch = padded_batch(SAVED[name])
        assert model(**batch).shape == (4, 3)
    with pytest.raises(UserError, match="has no head"):
        flexbert.load_model(tmp_path / "bare")
    with pytest.raises(UserError, match=r"head.pooling: unknown value 'middle'"):
        flexbert.load_model(tmp_path / "a.pt", head={**head, "pooling": "middle"})
    with pytest.raises(UserError, match=r"head.name: unknown head 'sequence_classifier'"):
        flexbert.load_model(tmp_path / "a.pt", head={"name": "sequence_classifier"})


@pytest.mark.parametrize(("name", "task"), [tuple(name.split()) for name in MODELS if " " in name])
def test_a_model_with_a_new_head_is_saved_and_exported(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str, task: str
) -> None:
    write_model(tmp_path / "a.pt", SAVED[name], word_tokenizer, max_length=30)
    head = encode(MODELS[f"{name} {task}"].head)
    model = flexbert.load_model(tmp_path / "a.pt", head=head)
    flexbert.save_model(model, tmp_path / "b.pt")
    export_checkpoint(tmp_path / "b.pt", tmp_path / "folder")
    loaded = flexbert.load_model(tmp_path / "folder")
    assert loaded.config == model.config
    batch = padded_batch(model.config)
    assert torch.equal(loaded(**batch), model(**batch))
    length = model.config.embedding.max_length or 30
    assert loaded.tokenizer == with_max_length(word_tokenizer, length)
    if SAVED[name].embedding.max_length is None:
        assert read_json(tmp_path / "folder" / "config.json")["max_position_embeddings"] == 30


def test_the_documented_fine_tuning_runs(
    tmp_path: Path, word_tokenizer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (REPOSITORY / "docs" / "huggingface.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "quickstart" / "checkpoints"
    write_model(run / "step-00000001.pt", small_model(), word_tokenizer)
    tokenizer_files(tmp_path / "corpora" / "demo" / "tokenizer")
    exec(code, {})
    assert main(["export", "sentiment.pt", "sentiment"]) == 0
    classify = transformers.pipeline("text-classification", model="sentiment", device="cpu")
    (answer,) = classify("w20 w30")
    assert answer["label"] in ("LABEL_0", "LABEL_1")
