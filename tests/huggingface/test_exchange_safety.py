"""Damaged and hostile folders and checkpoints: one clear line, nothing run, nothing left."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import flexbert
from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.file_hash import save_hashed
from flexbert.commands import main
from flexbert.errors import UserError
from flexbert.huggingface.export import export_checkpoint
from flexbert.huggingface.importing import import_folder
from tests.huggingface.cases import MODELS, change_json, write_model
from tests.nn.cases import small_model

WEIGHTS = "model.safetensors"
# How torch and transformers say to load what they refuse.
UNSAFE_ADVICE = ("weights_only", "trust_remote_code", "you can still", "arbitrary code")
Damage = Callable[[Path], object]


class Exploit:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch exploited",)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, word_tokenizer: dict[str, str]) -> Path:
    """A sound folder, ``folder``, and the checkpoint it is of, ``a.pt``."""
    path = tmp_path_factory.mktemp("original")
    write_model(path / "a.pt", MODELS["bert"], word_tokenizer)
    export_checkpoint(path / "a.pt", path / "folder")
    return path


def config(**changes: Any) -> Damage:
    return lambda folder: change_json(folder / "config.json", **changes)


def text(name: str, content: str | bytes) -> Damage:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def pickled(content: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        if isinstance(content, bytes):
            (folder / "pytorch_model.bin").write_bytes(content)
        else:
            torch.save(content, folder / "pytorch_model.bin")

    return damage


def packed(folder: Path) -> None:
    """A few kilobytes that would be read as 64 MiB."""
    pickled({NAME: torch.zeros(2**24)})(folder)
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def indexed(place: Any) -> Damage:
    """The index says that the first tensor is at ``place``."""

    def damage(folder: Path) -> None:
        names = load_file(folder / WEIGHTS).keys()
        (folder / WEIGHTS).rename(folder / "model-1.safetensors")
        placed = dict.fromkeys(names, "model-1.safetensors") | {min(names): place}
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": placed}))
        # What an index must not reach.
        save_file({min(names): torch.zeros(1)}, folder.parent / "outside.safetensors")

    return damage


NAME = "bert.encoder.layer.1.output.dense.weight"
EMBEDDING = "bert.embeddings.word_embeddings.weight"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a pipe": (lambda folder: os.mkfifo(folder / "generation_config.json"), "not a regular file"),
    "a device": (
        lambda folder: (folder / "vocab.txt").symlink_to("/dev/zero"),
        "not a regular file",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json in it"),
    "config is a list": (text("config.json", "[1]"), "expected a JSON object"),
    "config is no JSON": (text("config.json", "{"), "not readable as JSON"),
    "config is no text": (text("config.json", b"\xff\xfe\x00"), "not readable as JSON"),
    "config is deep": (text("config.json", "[" * 200_000), "not readable as JSON"),
    "a size is NaN": (
        text("config.json", '{"model_type": "bert", "hidden_size": NaN}'),
        "NaN is no number",
    ),
    "an infinite eps": (config(layer_norm_eps=torch.inf), "Infinity is no number"),
    "code of its own": (config(auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    "pruned heads": (config(pruned_heads={"0": [1]}), "pruned_heads"),
    "an absurd width": (config(hidden_size=10**12), "hidden_size: 1000000000000 is no sensible"),
    "an absurd vocabulary": (config(vocab_size=10**7), "the config asks for"),
    "a wide model": (config(hidden_size=2**24), "the config asks for"),
    "many layers": (config(num_hidden_layers=1000), "1000 layers are said to be in 58 tensors"),
    "layers beyond any model": (config(num_hidden_layers=10**6), "1000000 is more than 1024"),
    "a width beyond any model": (config(hidden_size=2**27), "134217728 is more than"),
    "many positions": (config(max_position_embeddings=10**9), "is no sensible value"),
    "many labels": (
        config(num_labels=10**12, architectures=["BertForSequenceClassification"]),
        "num_labels: 1000000000000 is no sensible value",
    ),
    "labels nobody asks for": (config(num_labels=10**12, hidden_size=16), "asks for"),
    "a negative width": (config(hidden_size=-32), "hidden_size: must be positive, got -32"),
    "no layers": (config(num_hidden_layers=0), "num_hidden_layers: must be positive, got 0"),
    "a width of words": (config(hidden_size="32"), "hidden_size: expected an integer, got '32'"),
    "a width that is true": (config(hidden_size=True), "hidden_size: expected an integer"),
    "half a layer": (config(num_hidden_layers=1.5), "num_hidden_layers: expected an integer"),
    "a list of positions": (config(max_position_embeddings=[1]), "expected an integer"),
    "certain dropout": (config(hidden_dropout_prob=1.0), "hidden_dropout_prob: must be at least"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no model.safetensors in it"),
    "cut weights": (truncated, "not readable as safetensors"),
    "empty weights": (text(WEIGHTS, b""), "not readable as safetensors"),
    "no weights at all": (text(WEIGHTS, b"\x00" * 100), "not readable as safetensors"),
    "an endless header": (text(WEIGHTS, b"\xff" * 7 + b"\x00{}"), "not readable as safetensors"),
    "a pickle for weights": (text(WEIGHTS, pickle.dumps(Exploit())), "not readable as safetens"),
    "a tensor is missing": (
        tensors(lambda state: state.pop(NAME)),
        f"the weights have no {NAME}",
    ),
    "a tensor has another name": (
        tensors(lambda state: state.update({NAME[:-7]: state.pop(NAME)})),
        f"the weights have no {NAME}; there is {NAME[:-7]}",
    ),
    "a tensor too many": (
        tensors(lambda state: state.update({f"{NAME}s": torch.zeros(2)})),
        rf"the model has no {NAME}s; did you mean {NAME}\?",
    ),
    "a tensor of another shape": (
        tensors(lambda state: state.update({NAME: torch.zeros(32, 47)})),
        rf"{NAME} has the shape \[32, 47\], the config asks for \[32, 48\]",
    ),
    "a tensor of integers": (
        tensors(lambda state: state.update({NAME: torch.zeros(32, 48, dtype=torch.int64)})),
        f"{NAME} is of torch.int64",
    ),
    "another decoder though tied": (
        tensors(lambda s: s.update({"cls.predictions.decoder.weight": s[EMBEDDING] + 1})),
        "cls.predictions.decoder.weight is to be bert.embeddings.word_embeddings.weight again",
    ),
    "NaN inside": (
        tensors(lambda state: state[NAME].fill_(torch.nan)),
        "logits are no finite numbers",
    ),
    "an index that leaves": (indexed("../outside.safetensors"), "no file of this folder"),
    "an absolute index": (indexed("/etc/passwd"), "'/etc/passwd', no file of this folder"),
    "an index of numbers": (indexed(3), "is said to be in 3"),
    "an index to nothing": (indexed("model-9.safetensors"), "model-9.safetensors: not readable"),
    "an index without a map": (
        lambda folder: (
            (folder / WEIGHTS).unlink(),
            (folder / f"{WEIGHTS}.index.json").write_text("{}"),
        ),
        "expected a weight_map",
    ),
    "a pickle bomb": (pickled(Exploit()), "pytorch_model.bin: not readable as tensors alone"),
    "a bomb among tensors": (pickled({NAME: Exploit()}), "not readable as tensors alone"),
    "an old pickle bomb": (pickled(pickle.dumps(Exploit())), "not readable as tensors alone"),
    "a pickled list": (pickled([torch.zeros(1)]), "expected a mapping of names to tensors"),
    "a pickled number": (pickled({NAME: 3}), "is no tensor"),
    "a tensor larger than its memory": (
        pickled({NAME: torch.zeros(1).expand(10**6, 10**6)}),
        f"{NAME} is no plain tensor",
    ),
    "a packed bomb": (packed, r"not readable as tensors alone \(compressed\)"),
    "a tensor without memory": (
        pickled({NAME: torch.zeros(32, 48, device="meta")}),
        f"{NAME} is no plain tensor",
    ),
    "a sparse tensor": (
        pickled({NAME: torch.eye(3).to_sparse()}),
        f"{NAME} is no plain tensor",
    ),
    "an adapter": (text("adapter_config.json", "{}"), "holds an adapter"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer in it"),
    "a damaged tokenizer": (text("tokenizer.json", "{}"), "transformers cannot read the tokenizer"),
    "a tokenizer that is no text": (text("tokenizer.json", b"\xff"), "tokenizer is not readable"),
    "a tokenizer with code": (
        lambda folder: change_json(
            folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}
        ),
        r"names code of its own \(auto_map\)",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_bad_folder_is_one_clear_error_and_runs_nothing(
    tmp_path: Path,
    original: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Damage,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "folder"
    shutil.copytree(original / "folder", folder)
    (folder / "evil.py").write_text("import os; os.system('touch exploited')")
    damage(folder)
    target = tmp_path / "b.pt"
    with pytest.raises(UserError, match=message) as error:
        import_folder(str(folder), target)
    assert "\n" not in str(error.value)
    assert not any(advice in str(error.value) for advice in UNSAFE_ADVICE)
    capsys.readouterr()
    assert main(["import", str(folder), str(target)]) == 2
    assert capsys.readouterr().err == f"error: {error.value}\n"
    left = {path.name for path in tmp_path.iterdir()} - {"outside.safetensors"}
    assert left == {"folder"}


def test_an_undamaged_index_and_pickle_are_read(tmp_path: Path, original: Path) -> None:
    """The damages above are refused for what they damage."""
    shutil.copytree(original / "folder", tmp_path / "sharded")
    indexed("model-1.safetensors")(tmp_path / "sharded")
    shutil.copytree(original / "folder", tmp_path / "pickled")
    pickled(load_file(original / "folder" / WEIGHTS))(tmp_path / "pickled")
    expected = read_checkpoint(original / "a.pt").model
    for name in ("sharded", "pickled"):
        actual = flexbert.load_model(tmp_path / name).model.state_dict()
        assert all(torch.equal(actual[key], value) for key, value in expected.items())


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def damage(contents: dict[str, Any]) -> None:
        *nodes, last = path.split("/")
        for node in nodes:
            contents = contents[node]
        if value is ...:
            del contents[last]
        else:
            contents[last] = value

    return damage


STATE = "model/encoder.layers.1.mlp.down.weight"
CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a bomb": (changed("model", Exploit()), "not a readable checkpoint"),
    "a bomb for a tokenizer": (changed("tokenizer", Exploit()), "not a readable checkpoint"),
    "an absurd width": (changed("recipe/model/hidden_size", 2**24), "do not fit together"),
    "an endless width": (changed("recipe/model/hidden_size", 10**15), "is more than 16777216"),
    "many layers": (changed("recipe/model/num_layers", 1000), "1000 layers are said to be"),
    "endless layers": (changed("recipe/model/num_layers", 10**8), "is more than 1024"),
    "a tensor is missing": (changed(STATE, ...), "no encoder.layers.1.mlp.down.weight"),
    "a tensor too many": (changed("model/more", torch.ones(1)), "the model has no more"),
    "another shape": (changed(STATE, torch.ones(3)), r"has the shape \[3\], not \[32, 48\]"),
    "no tensor": (changed(STATE, "text"), "is no tensor of floating-point numbers"),
    "a view": (changed(STATE, torch.ones(1).expand(32, 48)), "is no plain tensor"),
    "no weights": (changed("model", {}), "do not fit together"),
    "a list of weights": (changed("model", [1]), "not a FlexBERT checkpoint"),
    "a tokenizer of numbers": (changed("tokenizer", {"tokenizer.json": 3}), "tokenizer.json"),
    "no recipe": (changed("recipe", []), "not a FlexBERT checkpoint"),
    "no model": (changed("recipe", {}), "holds no model this FlexBERT knows"),
}
EXPORTED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a tokenizer's file elsewhere": (
        changed("tokenizer", {"../evil.json": "{}"}),
        "'../evil.json'",
    ),
    "files of no tokenizer": (changed("tokenizer", {"config.json": "{}"}), "holds no tokenizer"),
    "a tokenizer with code": (
        changed("tokenizer/tokenizer_config.json", '{"auto_map": {"AutoTokenizer": "e.T"}}'),
        r"names code of its own \(auto_map\)",
    ),
    "no tokenizer": (changed("tokenizer", {}), "holds no tokenizer"),
    "a tokenizer of nothing": (changed("tokenizer/tokenizer.json", "{}"), "cannot read the token"),
    "NaN inside": (changed(STATE, torch.full((32, 48), torch.nan)), "no finite numbers"),
}


@pytest.mark.parametrize(
    ("damage", "message", "loads"),
    [(*case, False) for case in CHECKPOINTS.values()] + [(*c, True) for c in EXPORTED.values()],
    ids=[*CHECKPOINTS, *(f"{name}, exported" for name in EXPORTED)],
)
def test_a_bad_checkpoint_is_one_clear_error_and_runs_nothing(
    tmp_path: Path,
    original: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[dict[str, Any]], object],
    message: str,
    loads: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = torch.load(original / "a.pt", weights_only=True)
    contents["model"] = dict(contents["model"])
    damage(contents)
    with (tmp_path / "b.pt").open("w+b") as file:
        save_hashed(contents, file)
    for use in (
        lambda: flexbert.load_model(tmp_path / "b.pt"),
        lambda: export_checkpoint(tmp_path / "b.pt", tmp_path / "folder"),
    ):
        if loads:
            loads = False
            flexbert.load_model(tmp_path / "b.pt")
            continue
        with pytest.raises(UserError, match=message) as error:
            use()
        assert "\n" not in str(error.value)
        assert not any(advice in str(error.value) for advice in UNSAFE_ADVICE)
    assert [path.name for path in tmp_path.iterdir()] == ["b.pt"]


def test_an_export_that_is_interrupted_leaves_nothing(
    tmp_path: Path, word_tokenizer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    write_model(tmp_path / "a.pt", small_model(), word_tokenizer)
    monkeypatch.setattr("flexbert.huggingface.export.load_theirs", killed)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(tmp_path / "a.pt", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
