"""Datasets of the hub and of folders: cut into shards, each row once, known again on a restart."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest

from data_prep import hub_datasets
from data_prep.hub_datasets import DatasetReference
from data_prep.rows import Document, Reject
from data_prep.sources import cut_pieces, find_inputs
from flexbert.errors import UserError
from tests.data_prep.reading import read, read_rows

NUM_SHARDS, NUM_ROWS = 3, 2500
TEXTS = [f"text {n}" for n in range(NUM_SHARDS * NUM_ROWS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset as it lies on the hub: a folder of Parquet files."""
    folder = tmp_path_factory.mktemp("dataset")
    for shard in range(NUM_SHARDS):
        texts = TEXTS[shard * NUM_ROWS : (shard + 1) * NUM_ROWS]
        table = pa.table({"id": range(NUM_ROWS), "text": texts, "quality": [0.5] * NUM_ROWS})
        file = folder / f"train-{shard:05}-of-{NUM_SHARDS:05}.parquet"
        pyarrow.parquet.write_table(table, file)
    pyarrow.parquet.write_table(table.slice(0, 2), folder / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    hub_datasets.open_dataset.cache_clear()


def test_each_shard_is_a_piece_and_every_row_comes_once(folder: Path) -> None:
    (found,) = find_inputs([Path(f"hf:{folder}")]).files
    pieces = list(cut_pieces(found, 1000))
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 1), (1, 2), (2, 3)]
    assert all(piece.size for piece in pieces)
    assert read(f"hf:{folder}") == TEXTS
    assert read_rows(f"hf:{folder}", label="quality") == [Document(t, "0.5") for t in TEXTS]


def test_a_split_is_named_after_the_configuration(folder: Path) -> None:
    assert read(f"hf:{folder}::test") == TEXTS[-NUM_ROWS : -NUM_ROWS + 2]
    assert read(f"hf:{folder}:default:test") == TEXTS[-NUM_ROWS : -NUM_ROWS + 2]


@pytest.mark.parametrize(
    ("argument", "reference"),
    [
        ("hf:wikitext", DatasetReference(name="wikitext")),
        ("hf:allenai/c4", DatasetReference(name="allenai/c4")),
        ("hf:allenai/c4:en", DatasetReference(name="allenai/c4", config="en")),
        ("hf:a/b::test", DatasetReference(name="a/b", split="test")),
        (
            "hf:a/b@v1:en:test",
            DatasetReference(name="a/b", revision="v1", config="en", split="test"),
        ),
    ],
)
def test_an_argument_names_a_dataset(argument: str, reference: DatasetReference) -> None:
    assert DatasetReference.parse(argument) == reference
    assert DatasetReference.parse(str(reference)) == reference


@pytest.mark.parametrize("argument", ["hf:", "hf:a:b:c:d", "hf:a@", "hf:@main", "hf:a:en:"])
def test_a_wrong_argument_shows_the_right_one(argument: str) -> None:
    with pytest.raises(UserError, match="write hf:NAME"):
        find_inputs([Path(argument)])


def test_json_lines_of_a_dataset_are_read_with_what_is_missing_as_rejects(tmp_path: Path) -> None:
    for number in range(2):
        rows = [{"text": f"{number}", "n": 1}, {"n": 2}, {"text": None}, {"text": " "}]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{number}.jsonl").write_text(lines)
    rejects = [Reject.NULL, Reject.NULL, Reject.EMPTY]
    assert read(f"hf:{tmp_path}") == ["0", *rejects, "1", *rejects]


def test_a_changed_folder_is_another_dataset_and_a_moved_one_is_not(
    folder: Path, tmp_path: Path
) -> None:
    (before,) = find_inputs([Path(f"hf:{folder}")]).files
    copy = tmp_path / folder.name
    copy.mkdir()
    for file in folder.iterdir():
        os.link(file, copy / file.name)
    (moved,) = find_inputs([Path(f"hf:{copy}")]).files
    assert moved.fingerprint() == before.fingerprint()
    (copy / "train-00002-of-00003.parquet").unlink()
    (changed,) = find_inputs([Path(f"hf:{copy}")]).files
    assert changed.name == before.name
    assert changed.revision != before.revision


def test_a_dataset_of_the_hub_is_kept_at_its_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is played by a function: none can be reached from a test."""
    import datasets
    import huggingface_hub

    asked = []

    def info(self: object, name: str, revision: str | None) -> SimpleNamespace:
        asked.append((name, revision))
        return SimpleNamespace(sha="c0ffee")

    def load(name: str, config: str | None, **options: object) -> datasets.IterableDataset:
        asked.append((name, config, options.pop("revision")))
        return original(str(folder), **options)

    original = datasets.load_dataset
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load)
    (found,) = find_inputs([Path("hf:some/data@v2:en")]).files
    assert found.fingerprint()["revision"] == "c0ffee"
    assert found.name == "hf:some/data:en:train"
    assert read("hf:some/data@v2:en") == TEXTS
    assert ("some/data", "v2") in asked
    assert ("some/data", "en", "c0ffee") in asked


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("::nope", "Bad split: nope. Available splits"),
        (":nope", "BuilderConfig 'nope' not found. Available"),
    ],
)
def test_a_dataset_that_cannot_be_loaded_is_one_line(folder: Path, suffix: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as got:
        read(f"hf:{folder}{suffix}")
    assert "\n" not in str(got.value)


def test_a_missing_column_of_a_dataset_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'txt'; did you mean 'text'.*--text-field"):
        read(f"hf:{folder}", text="txt")


def test_a_column_of_a_dataset_that_is_no_text_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match="column 'id' cannot be read as text"):
        read(f"hf:{folder}", text="id")


def test_a_dataset_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 100 + "{oops\n")
    with pytest.raises(UserError, match=r"hf:.*cannot be (read|loaded)") as got:
        read(f"hf:{tmp_path}")
    assert "\n" not in str(got.value)


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    with pytest.raises(UserError, match=r"cannot be reached \(no route\)$"):
        find_inputs([Path("hf:some/data")])


def test_without_the_library_its_package_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"uv pip install datasets"):
        read(f"hf:{folder}")


def test_a_dataset_is_named_once(folder: Path) -> None:
    with pytest.raises(UserError, match="twice"):
        find_inputs([Path(f"hf:{folder}"), Path(f"hf:{folder}")])


def test_a_saved_dataset_is_read_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    saved = datasets.Dataset.from_dict({"text": TEXTS, "q": [True] * len(TEXTS)})
    saved.save_to_disk(tmp_path / "saved", num_shards=2)
    monkeypatch.setitem(sys.modules, "datasets", None)
    found = find_inputs([tmp_path / "saved"])
    assert [file.format for file in found.files] == ["arrow", "arrow"]
    assert not found.skipped
    pieces = [piece for file in found.files for piece in cut_pieces(file, 1000)]
    assert len(pieces) > len(found.files)
    for piece_bytes in (1000, 1 << 30):
        rows = read_rows(tmp_path / "saved", piece_bytes=piece_bytes, label="q")
        assert rows == [Document(text, "True") for text in TEXTS]
    with pytest.raises(UserError, match="without hf:"):
        read(f"hf:{tmp_path / 'saved'}")


def test_one_split_of_several_saved_ones_must_be_named(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict(train=one, test=one).save_to_disk(tmp_path / "both")
    with pytest.raises(UserError, match=r"splits test, train; name those .*both/test"):
        find_inputs([tmp_path / "both"])
    assert read(tmp_path / "both" / "train") == ["a"]
    datasets.DatasetDict(train=one).save_to_disk(tmp_path / "single")
    assert read(tmp_path / "single") == ["a"]


def test_arrow_files_are_read_as_arrow_streams_are(tmp_path: Path) -> None:
    values = pa.array([b"one", b"\xff", None, b"", b"two"], pa.binary())
    table = pa.table({"text": values.view(pa.string())})
    expected = ["one", Reject.INVALID_UTF8, Reject.NULL, Reject.EMPTY, "two"]
    for new in (pa.ipc.new_file, pa.ipc.new_stream):
        with new(str(tmp_path / "a.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        assert read(tmp_path / "a.arrow", piece_bytes=1) == expected
        data = (tmp_path / "a.arrow").read_bytes()
        (tmp_path / "a.arrow").write_bytes(data[:-200])
        with pytest.raises(UserError, match=r"a\.arrow: not a readable Arrow file"):
            read(tmp_path / "a.arrow")
