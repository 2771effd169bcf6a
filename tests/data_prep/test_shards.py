"""Our MDS shards are those of mosaicml-streaming's MDSWriter, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from streaming import MDSWriter, StreamingDataset

from data_prep.shards import SHARD_OVERHEAD, ShardFormat, write_index
from flexbert.data.format.mds import INDEX_FILE, Shard, read_index
from flexbert.errors import UserError

UINT16, UINT32 = np.dtype(np.uint16), np.dtype(np.uint32)
RANDOM = np.random.default_rng(0)
# Around the lengths at which MDS spends another byte on them, and many of no special length.
LENGTHS = {
    "one": [1],
    "borders": [254, 255, 256, 257, 1, 65_534, 65_535, 65_536, 65_537, 2],
    "longest first": [40_000, 3, 20_000, 5],
    "many": RANDOM.integers(1, 900, 500).tolist(),
    "equal": [100] * 200,
}


def documents_of(lengths: Sequence[int], dtype: np.dtype) -> list[np.ndarray]:
    return [RANDOM.integers(0, np.iinfo(dtype).max, length).astype(dtype) for length in lengths]


def write(split: Path, documents: list[np.ndarray], form: ShardFormat, block: int) -> None:
    """Write documents that come in blocks of ``block``."""
    split.mkdir(exist_ok=True)
    lengths = np.array([len(document) for document in documents], np.uint32)
    blocks = [lengths[first : first + block] for first in range(0, len(lengths), block)]
    entries = []
    for layout in form.layouts(blocks):
        chosen = range(layout.first, layout.first + layout.documents)
        samples = [
            (np.concatenate([documents[n] for n in some]), lengths[list(some)])
            for some in (chosen[i : i + block] for i in range(0, len(chosen), block))
        ]
        entries.append(form.write_shard(split, layout, lengths[list(chosen)], samples))
    write_index(split, entries)


def assert_equal_to_mds_writer(
    folder: Path, documents: list[np.ndarray], form: ShardFormat
) -> None:
    write(folder / "ours", documents, form, block=7)
    with MDSWriter(
        columns={"tokens": f"ndarray:{form.dtype.name}"},
        out=str(folder / "theirs"),
        hashes=["xxh3_64"],
        size_limit=form.size_limit,
    ) as writer:
        for document in documents:
            writer.write({"tokens": document})
    ours, theirs = (
        {file.name: file.read_bytes() for file in (folder / which).iterdir()}
        for which in ("ours", "theirs")
    )
    assert ours == theirs


@pytest.mark.parametrize("dtype", [UINT16, UINT32])
@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("shard_bytes", [1 << 12, 1 << 14, 1 << 18])
def test_files_equal_those_of_mds_writer(
    tmp_path: Path, dtype: np.dtype, name: str, shard_bytes: int
) -> None:
    form = ShardFormat(dtype, shard_bytes=shard_bytes, longest=max(LENGTHS[name]))
    assert_equal_to_mds_writer(tmp_path, documents_of(LENGTHS[name], dtype), form)


@pytest.mark.parametrize(("spare", "documents"), [(-1, [19, 19, 2]), (0, [20, 20]), (1, [20, 20])])
def test_a_shard_is_full_when_mds_writer_says_so(
    tmp_path: Path, spare: int, documents: list[int]
) -> None:
    # Of the same number of digits as the size below, so that the header is as long.
    header = 8 + len(ShardFormat(UINT16, shard_bytes=8000, longest=1).config_bytes)
    per_document = 4 + 4 + 1 + 1 + 2 * 200
    form = ShardFormat(UINT16, shard_bytes=header + 20 * per_document + spare, longest=200)
    layouts = list(form.layouts([np.full(40, 200, np.uint32)]))
    assert [layout.documents for layout in layouts] == documents
    assert_equal_to_mds_writer(tmp_path, documents_of([200] * 40, UINT16), form)


def test_a_document_larger_than_a_shard_is_written_whole(tmp_path: Path) -> None:
    documents = documents_of([9000, 3, 20_000, 5], UINT16)
    form = ShardFormat(UINT16, shard_bytes=1 << 12, longest=20_000)
    assert form.size_limit == 40_000 + SHARD_OVERHEAD
    write(tmp_path / "s", documents, form, block=2)
    assert all(shard.num_documents for shard in read_index(tmp_path / "s", UINT16))
    read = StreamingDataset(local=str(tmp_path / "s"), shuffle=False, batch_size=1)
    assert all(np.array_equal(a["tokens"], b) for a, b in zip(read, documents, strict=True))
    with pytest.raises(UserError, match="does not fit into one shard"):
        ShardFormat(UINT16, shard_bytes=1 << 12, longest=1 << 31)


def test_our_reader_maps_what_was_written(tmp_path: Path) -> None:
    documents = documents_of(LENGTHS["borders"], UINT32)
    write(tmp_path / "s", documents, ShardFormat(UINT32, shard_bytes=1 << 12, longest=70_000), 3)
    first = 0
    for file in read_index(tmp_path / "s", UINT32):
        file.check(verify_hash=True)
        some = documents[first : first + file.num_documents]
        lengths = np.array([len(document) for document in some], np.uint32)
        shard = Shard(file, lengths, UINT32)
        for end, document in zip(shard.ends.tolist(), some, strict=True):
            assert shard.data[end - 4 * len(document) : end].tobytes() == document.tobytes()
        first += len(some)
    assert first == len(documents)


def test_a_shard_that_is_there_is_kept_with_its_own_hash(tmp_path: Path) -> None:
    documents = documents_of(LENGTHS["many"], UINT16)
    form = ShardFormat(UINT16, shard_bytes=1 << 14, longest=900)
    write(tmp_path, documents, form, block=50)
    index = (tmp_path / INDEX_FILE).read_bytes()
    times = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.mds")}
    write(tmp_path, documents, form, block=50)
    assert (tmp_path / INDEX_FILE).read_bytes() == index
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.mds")} == times
