"""A model's folder with a ``tokenizer.json`` alone is enough wherever a tokenizer is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import flexbert
from data_prep.cli import main
from flexbert.config.model import ModelConfig
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.importing import import_folder
from flexbert.huggingface.tokenizer import special_ids
from flexbert.pretrained.load_model import save_model
from tests.huggingface.cases import FACTS, MODELS, VOCAB_SIZE, save_theirs
from tests.huggingface.forty_tokenizers import FORTY

FAMILIES = {name: config for name, config in MODELS.items() if config.head.task == "masked_lm"}
ROLES = ("pad", "cls", "sep", "mask", "unk")


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_folder_with_it_is_loaded_imported_and_exported(
    tmp_path: Path, word_tokenizer: dict[str, str], config: ModelConfig
) -> None:
    folder = tmp_path / "theirs"
    save_theirs(config, folder, {"tokenizer.json": word_tokenizer["tokenizer.json"]})
    assert not (folder / "tokenizer_config.json").exists()
    loaded = flexbert.load_model(folder)
    found = special_ids(loaded.tokenizer, VOCAB_SIZE)
    assert {role: found[role] for role in ROLES} == {
        role: FACTS.special_ids[role] for role in ROLES
    }
    save_model(loaded, tmp_path / "saved.pt")
    import_folder(str(folder), tmp_path / "imported.pt")
    for name in ("saved", "imported"):
        export_checkpoint(tmp_path / f"{name}.pt", tmp_path / name)
        exported = AutoTokenizer.from_pretrained(tmp_path / name)
        assert exported("w20 w21")["input_ids"] == [found["cls"], 20, 21, found["sep"]]


def entries(tokenizer: Path) -> dict[str, int]:
    return Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab()


@pytest.mark.parametrize("name", ["bytes", "wordpiece lower", "unigram prefix"])
def test_it_is_adapted(tmp_path: Path, name: str) -> None:
    FORTY[name].write(tmp_path / "t")
    (tmp_path / "t" / "tokenizer_config.json").unlink()
    before = entries(tmp_path / "t")
    for given in (tmp_path / "t", tmp_path / "t" / "tokenizer.json"):
        out = tmp_path / f"adapted from {given.name}"
        assert main(["tokenizer", "--adapt", str(given), "--out", str(out)]) == 0
        adapted = AutoTokenizer.from_pretrained(out)
        assert [adapted.cls_token, adapted.mask_token] == ["[CLS]", "[MASK]"]
        assert entries(out) == before


def test_a_token_in_two_roles_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FORTY["wordpiece"].write(tmp_path / "t")
    file = tmp_path / "t" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token": "[SEP]"}))
    (tmp_path / "texts.txt").write_text("the cat\n")
    command = ["corpus", "--tokenizer", tmp_path / "t", "--out", tmp_path / "c"]
    assert main([str(part) for part in (*command, tmp_path / "texts.txt")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "[SEP] is the sep and the pad token; give each its own with" in message
