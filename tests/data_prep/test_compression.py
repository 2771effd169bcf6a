"""Compressed files: the same rows as plain ones, in bounded memory, and damage is told."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_prep.compression import (
    BUFFER_BYTES,
    ZSTD_FEED_BYTES,
    DamagedFileError,
    TruncatedFileError,
    open_input,
)
from data_prep.rows import Document, Reject
from data_prep.sources import find_inputs
from flexbert.errors import UserError
from tests.data_prep.reading import in_one_folder, read_rows

Pack = Callable[[bytes], bytes]
PACKED: dict[str, Pack] = {
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
    ".bz2": lambda data: bz2.compress(data, 1),  # in blocks of 100,000 bytes
    ".xz": lzma.compress,
}
TEXTS = ["one", 'two, "quoted"', "three \u4f60\n\nlines", "four"]
LINES = [json.dumps({"text": f"{n} {n * 7919 % 1009}"}) + "\n" for n in range(50_000)]


@pytest.mark.parametrize("suffix", PACKED)
def test_a_compressed_file_gives_the_rows_of_the_plain_one(tmp_path: Path, suffix: str) -> None:
    contents = {
        "a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS),
        "a.json": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS),
        "a.csv": 'text,n\none,1\n"two, ""quoted""",2\n"three \u4f60\n\nlines",3\nfour,4\n',
        "a.txt": "\ufeffa whole document",
        "a.MD": "another",
    }
    for name, content in contents.items():
        plain, packed = tmp_path / name, tmp_path / f"{name}{suffix}"
        plain.write_bytes(content.encode())
        packed.write_bytes(PACKED[suffix](content.encode()))
        assert read_rows(packed, piece_bytes=10) == read_rows(plain)
        assert not any(isinstance(row, Reject) for row in read_rows(plain))


@in_one_folder
@given(members=st.lists(st.lists(st.binary(max_size=40), max_size=4), max_size=5))
@pytest.mark.parametrize("suffix", PACKED)
def test_members_and_frames_are_read_one_after_the_other(
    tmp_path: Path, suffix: str, members: list[list[bytes]]
) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"".join(PACKED[suffix](b"".join(member)) for member in [*members, []]))
    with open_input(str(file)) as opened:
        assert opened.read() == b"".join(chunk for member in members for chunk in member)


def test_a_frame_to_skip_holds_no_text(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5000).to_bytes(4, "little") + bytes(5000)
    frame = PACKED[".zst"](b'{"text": "one"}\n')
    (tmp_path / "a.jsonl.zst").write_bytes(skipped + frame + skipped + frame + skipped)
    assert read_rows(tmp_path / "a.jsonl.zst") == [Document("one")] * 2


def test_a_window_as_large_as_archives_have_is_read_rows(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(packer.compress(b'{"text": "one"}') + packer.flush())
    assert read_rows(tmp_path / "a.jsonl.zst") == [Document("one")]


def truncated(suffix: str) -> dict[str, bytes]:
    whole = PACKED[suffix]("".join(LINES).encode())
    return {
        "truncated": whole[: len(whole) * 3 // 4],
        "one byte short": whole[:-1],
        "second member truncated": whole + whole[: len(whole) // 2],
        "second header truncated": whole + whole[:3],
        "empty": b"",
    }


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("how", truncated(".gz"))
def test_a_truncated_file_is_refused_and_named_with_how_far_it_was_good(
    tmp_path: Path, suffix: str, how: str
) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(truncated(suffix)[how])
    with pytest.raises(
        TruncatedFileError, match=rf"a\.jsonl\{suffix}: cut off after [\d,]+ "
    ) as got:
        read_rows(file)
    assert "--keep-truncated" in str(got.value)


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("how", truncated(".gz"))
def test_the_rows_of_a_truncated_file_can_be_kept_and_the_rest_is_one_reject(
    tmp_path: Path, suffix: str, how: str
) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(truncated(suffix)[how])
    *rows, last = read_rows(file, keep_truncated=True)
    assert last is Reject.TRUNCATED
    assert rows == [Document(json.loads(line)["text"]) for line in LINES * 2][: len(rows)]
    # The last block, 128 KiB of Zstandard and 100 kB of bzip2, is whole or nothing.
    least = {"truncated": 0.7, "empty": 0, "second member truncated": 1.4}.get(how, 0.95)
    if suffix == ".xz" and how.endswith("truncated"):
        # What repeats takes it least: three quarters of its bytes are half of the lines.
        least -= 0.3
    assert len(rows) >= least * len(LINES)


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("how", ["corrupt", "garbage behind", "not compressed"])
def test_a_corrupt_file_is_refused_even_where_truncated_ones_are_not(
    tmp_path: Path, suffix: str, how: str
) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    text = "".join(LINES).encode()
    whole = PACKED[suffix](text)
    middle = len(whole) // 2
    corrupt = whole[:middle] + bytes(64) + whole[middle + 64 :]
    file.write_bytes({"corrupt": corrupt, "garbage behind": whole + text}.get(how, text))
    with pytest.raises(DamagedFileError, match=rf"a\.jsonl\{suffix}: corrupt") as got:
        read_rows(file, keep_truncated=True)
    assert isinstance(got.value, UserError)
    assert "\n" not in str(got.value)


def test_zeros_between_the_streams_of_an_xz_file_are_padding(tmp_path: Path) -> None:
    stream = lzma.compress(b'{"text": "one"}\n')
    (tmp_path / "a.jsonl.xz").write_bytes(stream + bytes(8) + stream + bytes(4))
    assert read_rows(tmp_path / "a.jsonl.xz") == [Document("one")] * 2


def test_a_truncated_text_file_is_no_document(tmp_path: Path) -> None:
    whole = gzip.compress(" ".join(LINES).encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[:-20])
    assert read_rows(tmp_path / "a.txt.gz", keep_truncated=True) == [Reject.TRUNCATED]


def test_little_is_unpacked_at_a_time_however_well_it_was_packed(tmp_path: Path) -> None:
    (tmp_path / "a.bz2").write_bytes(PACKED[".bz2"](bytes(1 << 26)))
    with open_input(str(tmp_path / "a.bz2")) as file:
        assert file.read(1000) == bytes(1000)
        assert len(file.peek(1)) <= BUFFER_BYTES
    frame = PACKED[".zst"](bytes(1 << 28))
    (tmp_path / "a.zst").write_bytes(frame)
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    assert len(unpacker.decompress(frame[:ZSTD_FEED_BYTES])) <= 1 << 26
    with open_input(str(tmp_path / "a.zst")) as file:
        assert file.read(1000) == bytes(1000)


def test_suffixes_tell_format_and_compression(tmp_path: Path) -> None:
    names = ("a.jsonl.gz", "b.CSV.ZST", "c.tar.gz", "d.parquet.zst", "e.gz", "f.v2.txt.gz")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = find_inputs([tmp_path])
    assert [(file.name.split("/")[1], file.format) for file in found.files] == [
        ("a.jsonl.gz", "jsonl"),
        ("b.CSV.ZST", "csv"),
        ("f.v2.txt.gz", "text"),
    ]
    assert found.skipped == {".tar.gz": 1, ".parquet.zst": 1, ".gz": 1}
    with pytest.raises(UserError, match=r"unknown file type \.tar\.gz"):
        find_inputs([tmp_path / "c.tar.gz"])
    (override,) = find_inputs([tmp_path / "e.gz"], format_override="jsonl").files
    assert override.format == "jsonl"
