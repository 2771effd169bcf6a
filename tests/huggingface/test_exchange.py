"""To Hugging Face and back: what survives, what transformers makes of it, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import flexbert
from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.commands import main
from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.errors import UserError
from flexbert.huggingface import family
from flexbert.huggingface.compare import logits_of
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.importing import import_folder, read_folder
from flexbert.huggingface.tokenizer import with_max_length
from flexbert.nn.rope import RopeConfig
from tests.conftest import REPOSITORY
from tests.huggingface.cases import (
    MODELS,
    SAVED,
    change_json,
    padded_batch,
    random_model,
    read_json,
    save_theirs,
    their_model,
    write_model,
)
from tests.nn.cases import attention_config, global_every, small_model
from tests.nn.tolerances import assert_same

TASK_CLASSES = {
    "masked_lm": transformers.AutoModelForMaskedLM,
    "sequence_classification": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "multiple_choice": transformers.AutoModelForMultipleChoice,
    "question_answering": transformers.AutoModelForQuestionAnswering,
}


def assert_equal_states(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_export_then_import_gives_the_same_model(
    tmp_path: Path, word_tokenizer: dict[str, str], config: ModelConfig
) -> None:
    state = write_model(tmp_path / "a.pt", config, word_tokenizer, max_length=40)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    import_folder(str(tmp_path / "folder"), tmp_path / "b.pt")
    contents = read_checkpoint(tmp_path / "b.pt")
    assert_equal_states(contents.model, state)
    imported = decode(ModelConfig, contents.recipe["model"])
    assert imported == config
    # A tokenizer says the length that its model takes, and is else what it was.
    expected = with_max_length(word_tokenizer, imported.embedding.max_length or 40)
    assert contents.tokenizer == expected
    written = read_json(tmp_path / "folder" / "config.json")
    lengths = {"bert": 48, "roberta": 48 + 2}
    assert written["max_position_embeddings"] == lengths.get(written["model_type"], 40)
    if written["model_type"] not in lengths:
        assert contents.recipe["data"] == {"max_length": 40}

    # What a user of transformers does, and what a user of FlexBERT does.
    theirs = TASK_CLASSES[config.head.task].from_pretrained(tmp_path / "folder").eval()
    batch = padded_batch(config)
    for path in ("a.pt", "b.pt", "folder"):
        ours = flexbert.load_model(tmp_path / path)
        assert ours.tokenizer == (word_tokenizer if path == "a.pt" else expected)
        is_real = batch["attention_mask"].bool() if config.head.per_token else slice(None)
        assert_same(ours(**batch)[is_real], logits_of(theirs(**batch))[is_real])


def test_special_ids_are_the_tokenizers(tmp_path: Path, word_tokenizer: dict[str, str]) -> None:
    ids = {"pad_token_id": 1, "cls_token_id": 5, "sep_token_id": 7}
    wanted = {
        "modernbert": {**ids, "bos_token_id": 5, "eos_token_id": 7},
        "bert": {"pad_token_id": 1},
        "roberta": {"pad_token_id": 1, "bos_token_id": 5, "eos_token_id": 7},
        "nomicbert": {"pad_token_id": 1},
        "gte": {"pad_token_id": 1},
        "eurobert": {
            "pad_token_id": 1,
            "bos_token_id": 5,
            "eos_token_id": 7,
            "mask_token_id": 8,
        },
    }
    for name, config in SAVED.items():
        write_model(tmp_path / f"{name}.pt", config, word_tokenizer)
        export_checkpoint(tmp_path / f"{name}.pt", tmp_path / name)
        written = read_json(tmp_path / name / "config.json")
        assert {k: v for k, v in written.items() if k.endswith("_token_id")} == wanted[name]
        tied = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / name)
        is_tied = tied.get_output_embeddings().weight is tied.get_input_embeddings().weight
        assert is_tied == (name != "eurobert")
        decoders = ("decoder.weight", "lm_head.weight")
        with safe_open(tmp_path / name / "model.safetensors", "pt") as file:
            written_again = any(key.endswith(decoders) for key in file.keys())  # noqa: SIM118
        assert written_again != is_tied


@pytest.mark.parametrize("name", SAVED)
def test_what_the_exported_tokenizer_gives_is_what_the_model_takes(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str
) -> None:
    config = json.loads(word_tokenizer["tokenizer_config.json"])
    del config["model_input_names"]
    texts = {**word_tokenizer, "tokenizer_config.json": json.dumps(config)}
    write_model(tmp_path / "a.pt", SAVED[name], texts)
    notes = export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    assert any("token_type_ids" in note for note in notes) == (name not in ("bert", "nomicbert"))
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "folder")
    assert model(**back("w20 w30", "w40", return_tensors="pt")).logits.isfinite().all()


def test_a_tokenizer_of_transformers_5_is_read(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    save_theirs(SAVED["modernbert"], tmp_path / "folder", word_tokenizer)
    change_json(
        tmp_path / "folder" / "tokenizer_config.json",
        tokenizer_class="TokenizersBackend",
        extra_special_tokens=["w33"],
    )
    import_folder(str(tmp_path / "folder"), tmp_path / "a.pt")
    export_checkpoint(tmp_path / "a.pt", tmp_path / "back")
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert 33 in back.all_special_ids
    assert back("w20 w33")["input_ids"] == [5, 20, 33, 7]


def test_an_exported_folder_fills_masks(tmp_path: Path, word_tokenizer: dict[str, str]) -> None:
    write_model(tmp_path / "a.pt", small_model(), word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    fill = transformers.pipeline("fill-mask", model=str(tmp_path / "folder"), device="cpu")
    answers = fill("w20 [MASK] w30")
    ids = fill.tokenizer("w20 [MASK] w30", return_tensors="pt")
    assert ids["input_ids"].tolist() == [[5, 20, 8, 30, 7]]
    ours = flexbert.load_model(tmp_path / "a.pt")
    logits = ours(ids["input_ids"], ids["attention_mask"])[0, 2]
    assert [answer["token"] for answer in answers] == logits.topk(5).indices.tolist()


@pytest.mark.parametrize("kind", ["whole", "sharded", "bin", "bfloat16", "float16"])
@pytest.mark.parametrize("name", SAVED)
def test_folders_as_transformers_writes_them(
    tmp_path: Path, word_tokenizer: dict[str, str], name: str, kind: str
) -> None:
    folder = tmp_path / "folder"
    kwargs: dict[str, Any] = {
        "sharded": {"max_shard_size": "20KB"},
        "bin": {"safe_serialization": False},
    }.get(kind, {})
    theirs, family = their_model(random_model(SAVED[name]), SAVED[name])
    if kind.startswith(("bf", "float")):
        theirs.to(getattr(torch, kind))
    theirs.save_pretrained(folder, **kwargs)  # type: ignore[operator]
    for file, text in word_tokenizer.items():
        (folder / file).write_text(text)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (kind == "sharded")
    notes = import_folder(str(folder), tmp_path / "a.pt")
    assert any("converted to float32" in note for note in notes) == (
        kind in ("bfloat16", "float16")
    )
    contents = read_checkpoint(tmp_path / "a.pt")
    assert {value.dtype for value in contents.model.values()} == {torch.float32}
    # hidden_dropout_prob and initializer_range are those of the model that was written.
    assert decode(ModelConfig, contents.recipe["model"]) == SAVED[name]
    words = family.names("masked_lm")["encoder.embedding.tokens"][0] + ".weight"
    expected = theirs.state_dict()[words].float()
    assert torch.equal(contents.model["encoder.embedding.tokens.weight"], expected)


def test_a_bert_of_pretraining_with_old_names_is_read(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    """As bert-base-uncased is: gamma and beta, a pooler, next-sentence prediction, vocab.txt."""
    config = SAVED["bert"]
    theirs, _ = their_model(random_model(config), config)
    whole = transformers.BertForPreTraining(theirs.config)
    whole.load_state_dict(theirs.state_dict(), strict=False)
    whole.tie_weights()
    weights = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in whole.state_dict().items()
    }
    weights["bert.embeddings.position_ids"] = torch.arange(48)[None]
    folder = tmp_path / "folder"
    whole.config.save_pretrained(folder)
    change_json(
        folder / "config.json", architectures=["BertForPreTraining"], classifier_dropout=...
    )
    torch.save(weights, folder / "pytorch_model.bin")
    names = {1: "[PAD]", 5: "[CLS]", 7: "[SEP]", 8: "[MASK]", 9: "[UNK]"}
    vocabulary = [names.get(index, f"w{index}") for index in range(100)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    notes = import_folder(str(folder), tmp_path / "a.pt")
    assert any("left out: bert.pooler.dense.bias" in note for note in notes)
    contents = read_checkpoint(tmp_path / "a.pt")
    assert {"tokenizer.json", "tokenizer_config.json"} <= contents.tokenizer.keys()
    export_checkpoint(tmp_path / "a.pt", tmp_path / "back")
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert back("w20 w30")["input_ids"] == [5, 20, 30, 7]


def test_config_keys_of_transformers_5_are_read(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    config = small_model(attention=attention_config(windows=global_every(2, 16)))
    write_model(tmp_path / "a.pt", config, word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    path = tmp_path / "folder" / "config.json"
    old = ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers")
    change_json(path, **dict.fromkeys(old, ...))
    import_folder(str(tmp_path / "folder"), tmp_path / "b.pt")
    assert decode(ModelConfig, read_checkpoint(tmp_path / "b.pt").recipe["model"]) == config

    types = read_json(path)["layer_types"]
    assert types == ["full_attention", "sliding_attention"] * 2
    change_json(path, layer_types=types[::-1])
    read = read_folder(tmp_path / "folder").config
    assert encode(read.attention)["windows"] == {"repeat": [16, "global"]}
    import_folder(str(tmp_path / "folder"), tmp_path / "c.pt")
    export_checkpoint(tmp_path / "c.pt", tmp_path / "again")
    again = read_json(tmp_path / "again" / "config.json")
    assert again["layer_types"] == types[::-1]
    # No number says it, so transformers 4.57 fails where it would compute something else.
    assert again["global_attn_every_n_layers"] is None
    change_json(path, layer_types=types[::-1], global_attn_every_n_layers=2)
    with pytest.raises(UserError, match="layer_types: not those of global_attn_every_n_layers 2"):
        read_folder(tmp_path / "folder")
    change_json(path, global_attn_every_n_layers=...)
    change_json(path, layer_types=types, local_rope_theta=5.0)
    with pytest.raises(UserError, match=r"sliding_attention has rope_theta 10000.*local_rope_th"):
        read_folder(tmp_path / "folder")


def test_thetas_that_nobody_set_stay_so(tmp_path: Path, word_tokenizer: dict[str, str]) -> None:
    """-1 was written for them elsewhere, and gave logits that are no numbers."""
    rope = RopeConfig(theta={"global": 500.0})
    config = small_model(attention=attention_config(windows="global", rope=rope))
    write_model(tmp_path / "a.pt", config, word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    path = tmp_path / "folder" / "config.json"
    assert read_json(path)["local_rope_theta"] == 500.0
    read = read_folder(tmp_path / "folder").config
    assert encode(read.attention)["rope"]["theta"] == {"global": 500.0, "local": None}

    assert read_json(path)["rope_parameters"]["sliding_attention"]["rope_theta"] == 500.0
    new = {"rope_parameters": ..., "layer_types": ...}
    change_json(path, global_attn_every_n_layers=3, local_rope_theta=None, **new)
    read = read_folder(tmp_path / "folder").config
    assert encode(read.attention)["rope"]["theta"] == {"global": 500.0, "local": 500.0}
    change_json(path, local_rope_theta=-1)
    with pytest.raises(UserError, match="local_rope_theta: must be positive, got -1"):
        read_folder(tmp_path / "folder")


def test_nothing_is_kept_of_a_folder_that_computes_something_else(
    tmp_path: Path, word_tokenizer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "a.pt", small_model(), word_tokenizer)

    def swapped(*args: Any) -> dict[str, Tensor]:
        written: dict[str, Tensor] = real(*args)
        first, second = written["model.layers.0.mlp.Wi.weight"].chunk(2)
        return {**written, "model.layers.0.mlp.Wi.weight": torch.cat((second, first))}

    real = family.to_theirs
    monkeypatch.setattr(family, "to_theirs", swapped)
    with pytest.raises(UserError, match=r"differ by .* the two do not mean the same model"):
        export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_targets_are_not_written_over(tmp_path: Path, word_tokenizer: dict[str, str]) -> None:
    write_model(tmp_path / "a.pt", small_model(), word_tokenizer)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(UserError, match="is there already"):
        export_checkpoint(tmp_path / "a.pt", folder)
    (folder / "mine.txt").unlink()
    export_checkpoint(tmp_path / "a.pt", folder)
    with pytest.raises(UserError, match="is there already"):
        import_folder(str(folder), tmp_path / "a.pt")
    with pytest.raises(UserError, match="is there already"):
        flexbert.save_model(flexbert.load_model(tmp_path / "a.pt"), tmp_path / "a.pt")


def test_a_tokenizer_larger_than_the_embedding_is_refused(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    write_model(
        tmp_path / "a.pt", dataclasses.replace(small_model(), vocab_size=99), word_tokenizer
    )
    with pytest.raises(UserError, match="has a token of id 99, and the embedding 99 rows"):
        export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    save_theirs(small_model(vocab_size=90), tmp_path / "other", word_tokenizer)
    with pytest.raises(UserError, match="has a token of id 99, and the embedding 90 rows"):
        import_folder(str(tmp_path / "other"), tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


def test_commands_print_what_they_did(
    tmp_path: Path, word_tokenizer: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run" / "checkpoints"
    config = small_model(attention=attention_config(output_dropout=0.1))
    write_model(run / "step-00000002.pt", config, word_tokenizer)
    write_model(run / "step-00000010.pt", config, word_tokenizer, max_length=30)
    folder, checkpoint = str(tmp_path / "folder"), str(tmp_path / "b.pt")
    assert main(["export", str(tmp_path / "run"), folder]) == 0
    output = capsys.readouterr().out
    assert "note: model.attention.dropout 0.0 and model.attention.output_dropout 0.1" in output
    assert "ModernBertForMaskedLM, logits as those of transformers 5" in output
    assert read_json(tmp_path / "folder" / "config.json")["max_position_embeddings"] == 30
    assert main(["import", folder, checkpoint]) == 0
    assert "b.pt: ModernBertForMaskedLM" in capsys.readouterr().out
    assert main(["import", folder, checkpoint]) == 2
    assert "b.pt: is there already" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "nowhere"), str(tmp_path / "c.pt")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert main(["export", str(tmp_path), str(tmp_path / "other")]) == 2
    assert "no checkpoint in it" in capsys.readouterr().err


@pytest.mark.slow
def test_loading_a_checkpoint_imports_no_transformers(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    write_model(tmp_path / "a.pt", small_model(), word_tokenizer)
    code = (
        "import sys, flexbert; flexbert.load_model(sys.argv[1]); "
        "assert not {'transformers', 'composer', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.pt"], check=True, cwd=REPOSITORY)


def test_a_name_on_the_hub_is_downloaded_without_code(
    tmp_path: Path, word_tokenizer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_theirs(SAVED["bert"], tmp_path / "folder", word_tokenizer)
    asked: list[Any] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path / "folder")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    import_folder("some/model", tmp_path / "a.pt")
    assert [name for name, _ in asked] == ["some/model"]
    assert not any(pattern.endswith(".py") or pattern == "*" for pattern in asked[0][1])

    def offline(*args: Any, **kwargs: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match=r"other/model: no such folder, and not .* \(no network\)"):
        import_folder("other/model", tmp_path / "b.pt")


@pytest.mark.slow
def test_weights_written_by_hand_have_transformers_names(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    """The same keys as save_pretrained writes."""
    for name, config in MODELS.items():
        theirs, _ = their_model(random_model(config), config)
        theirs.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
        write_model(tmp_path / f"{name}.pt", config, word_tokenizer)
        export_checkpoint(tmp_path / f"{name}.pt", tmp_path / name)
        written = load_file(tmp_path / name / "model.safetensors")
        assert written.keys() == load_file(tmp_path / "theirs" / "model.safetensors").keys()
        shutil.rmtree(tmp_path / "theirs")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_weights_of_a_compiled_or_wrapped_model_are_imported(
    tmp_path: Path, word_tokenizer: dict[str, str], prefix: str
) -> None:
    state = write_model(tmp_path / "a.pt", SAVED["bert"], word_tokenizer)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    file = tmp_path / "folder" / "model.safetensors"
    save_file({prefix + name: value for name, value in load_file(file).items()}, file)
    import_folder(str(tmp_path / "folder"), tmp_path / "b.pt")
    assert_equal_states(dict(read_checkpoint(tmp_path / "b.pt").model), state)
    assert_equal_states(flexbert.load_model(tmp_path / "folder").model.state_dict(), state)


def test_a_checkpoint_with_a_models_config_among_its_tokenizers_files_is_exported(
    tmp_path: Path, word_tokenizer: dict[str, str]
) -> None:
    texts = {**word_tokenizer, "config.json": "{}", "generation_config.json": "{}"}
    write_model(tmp_path / "a.pt", SAVED["bert"], texts)
    export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    assert read_json(tmp_path / "folder" / "config.json")["model_type"] == "bert"
    assert not (tmp_path / "folder" / "generation_config.json").exists()
