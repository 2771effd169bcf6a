"""Readers: every row comes out once, as a document or as a reason, however a file is cut."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import data_prep
from data_prep.readers import Fields, Reject, check_text, read_piece
from data_prep.sources import Piece, find_inputs, group_parts
from flexbert.errors import UserError
from tests.data_prep.reading import in_one_folder, read, write_csv

# Characters that UTF-8 holds, those that end lines somewhere among them.
texts = st.lists(st.text().filter(lambda text: check_text(text) == text), max_size=12)


@in_one_folder
@given(texts=texts, piece_bytes=st.integers(1, 200), last_newline=st.booleans())
def test_json_lines_cut_anywhere_give_every_row_once(
    tmp_path: Path, texts: list[str], piece_bytes: int, last_newline: bool
) -> None:
    file = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    file.write_bytes(("\n".join(lines) + "\n" * (last_newline and bool(lines))).encode())
    assert read(file, piece_bytes=piece_bytes) == texts


@in_one_folder
@given(texts=texts, row_group=st.integers(1, 5), piece_bytes=st.integers(1, 500))
def test_parquet_cut_anywhere_gives_every_row_once(
    tmp_path: Path, texts: list[str], row_group: int, piece_bytes: int
) -> None:
    file = tmp_path / "a.parquet"
    table = pa.table({"text": pa.array(texts, pa.string())})
    pyarrow.parquet.write_table(table, file, row_group_size=row_group)
    assert read(file, piece_bytes=piece_bytes) == texts


@in_one_folder
@given(texts=texts)
def test_csv_gives_every_row_as_it_was_written(tmp_path: Path, texts: list[str]) -> None:
    rows = [["id", "text"], *([str(number), text] for number, text in enumerate(texts))]
    assert read(write_csv(tmp_path / "a.csv", rows)) == texts


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary()])
def test_parquet_columns_of_every_text_type_are_read(tmp_path: Path, type_: pa.DataType) -> None:
    file = tmp_path / "a.parquet"
    values = [b"one", b"two", None, b"\xff", b"", b" \n"]
    if type_ == pa.string():  # Arrow believes what it is told
        column = pa.array(values, pa.binary()).cast(pa.binary()).view(pa.string())
    elif type_ == pa.large_string():
        column = pa.array(values, pa.large_binary()).view(pa.large_string())
    else:
        column = pa.array(values, type_)
    pyarrow.parquet.write_table(pa.table({"text": column}), file)
    rejects = [Reject.NULL, Reject.INVALID_UTF8, Reject.EMPTY, Reject.EMPTY]
    assert read(file) == ["one", "two", *rejects]


def test_parquet_dictionaries_are_read(tmp_path: Path) -> None:
    column = pa.array(["one", "two", "one", None]).dictionary_encode()
    pyarrow.parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["one", "two", "one", Reject.NULL]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "a.txt").write_bytes(mark + b"text")
    (tmp_path / "a.jsonl").write_bytes(mark + b'{"text": "text"}\n')
    (tmp_path / "a.csv").write_bytes(mark + b"text\ntext\n")
    for name in ("a.txt", "a.jsonl", "a.csv"):
        assert read(tmp_path / name) == ["text"]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (rb'{"text": "\ud800"}', Reject.INVALID_UTF8),  # a lone surrogate, escaped
        (rb'{"text": "\ud83d\ude00"}', "\U0001f600"),
        (b'{"text": "\xed\xa0\x80"}', Reject.INVALID_UTF8),  # a lone surrogate in bytes
        (b'{"text": ' + b"[" * 100_000, Reject.INVALID_JSON),
        (b'{"text": ' + b"1" * 10_000 + b"}", Reject.INVALID_JSON),
        (b'{"text": NaN}', Reject.NOT_TEXT),
        (b'"text"', Reject.NOT_AN_OBJECT),
        (b'{"TEXT": "a"}', Reject.MISSING),
        (b"\r", Reject.EMPTY),
    ],
)
def test_a_strange_json_line_is_one_row(tmp_path: Path, line: bytes, row: str | Reject) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "first"}\n' + line + b'\n{"text": "last"}')
    assert read(tmp_path / "a.jsonl") == ["first", row, "last"]


def test_strange_csv_records_are_rows(tmp_path: Path) -> None:
    lines = [b"id,text,more", b"1", b"", b"2,,x", b"3,\xff,x", b"4,good,\xff", b"5,a\0b,"]
    (tmp_path / "a.csv").write_bytes(b"\r\n".join(lines))
    missing, empty, invalid = Reject.MISSING, Reject.EMPTY, Reject.INVALID_UTF8
    assert read(tmp_path / "a.csv") == [missing, missing, empty, invalid, "good", Reject.BINARY]


def test_a_csv_field_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    text = "word " * 100_000
    assert read(write_csv(tmp_path / "a.csv", [["text"], [text]])) == [text]


def test_a_csv_quote_that_is_never_closed_is_one_reject_and_swallows_nothing(
    tmp_path: Path,
) -> None:
    lines = ["id,text", '1,"two', 'lines"', '2,"open', *(f'{n},kept ""' for n in range(3))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    expected = ["two\nlines", Reject.UNCLOSED_QUOTE, *['kept ""'] * 3]
    assert read(tmp_path / "a.csv") == expected
    # The same where that record is too long to be held.
    (tmp_path / "a.csv").write_text("\n".join([*lines, "9," + "x" * (1 << 21)]))
    rows = read(tmp_path / "a.csv", max_characters=10)
    assert rows == [*expected, Reject.TOO_LONG]


@in_one_folder
@given(st.lists(st.lists(st.sampled_from(['"', '""', ",", "a", "\r", "\n"])).map("".join)))
def test_whatever_quotes_a_csv_file_holds_the_rows_before_are_kept(
    tmp_path: Path, lines: list[str]
) -> None:
    content = ["id,text", *(f'"id {n}","text {n}"' for n in range(3)), *lines]
    (tmp_path / "a.csv").write_text("\n".join(content), newline="")
    found = read(tmp_path / "a.csv")
    assert found[:3] == [f"text {n}" for n in range(3)]
    assert found.count(Reject.UNCLOSED_QUOTE) <= len("\n".join(lines).splitlines())


def test_a_csv_header_whose_quote_is_never_closed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,"id\na,1\nb,2\n')
    with pytest.raises(UserError, match=r"a\.csv: its first record opens a quote"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"tekst": ["a"]}, "did you mean 'tekst'"),
        ({"text": [1]}, "cannot be read as text"),
        ({"text": [["a"]]}, "cannot be read as text"),
    ],
)
def test_a_parquet_file_without_text_is_an_error(
    tmp_path: Path, table: dict[str, list[object]], words: str
) -> None:
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=words):
        read(tmp_path / "a.parquet")


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": [f"text {n}" * 9 for n in range(999)]}), file)
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:-20])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read(file)
    data[20:400] = bytes(380)
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.parquet"):
        read(file)


def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (file,) = find_inputs([tmp_path / "a.txt"]).files
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match="No such file"):
        list(read_piece(Piece(file=file, start=0, stop=4, size=4), Fields()))


def test_files_come_in_sorted_order_and_others_are_counted(tmp_path: Path) -> None:
    names = ("b/2.txt", "b/10.md", "a/z.py", "c.JSONL", "picture.png", "LICENSE", "b/data.bin")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_inputs([tmp_path])
    inside = [file.name.removeprefix(f"{tmp_path.name}/") for file in found.files]
    assert inside == ["a/z.py", "b/10.md", "b/2.txt", "c.JSONL"]
    assert found.skipped == {".png": 1, "(licence)": 1, ".bin": 1}
    everything = find_inputs([tmp_path], format_override="text", all_files=True)
    assert {file.format for file in everything.files} == {"text"}
    assert len(everything.files) == len(names)


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(1, 400))
def test_parts_hold_all_pieces_in_order(sizes: list[int], part_bytes: int) -> None:
    pieces = [Piece(file=None, start=n, stop=n, size=size) for n, size in enumerate(sizes)]  # type: ignore[arg-type]
    parts = list(group_parts(pieces, part_bytes))
    assert [piece for part in parts for piece in part] == pieces
    assert all(sum(piece.size for piece in part) >= part_bytes for part in parts[:-1])


def test_errors_of_workers_arrive_whole() -> None:
    error = pickle.loads(pickle.dumps(UserError("a.csv: wrong")))
    assert str(error) == "a.csv: wrong"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("sources", {"encoding", "shards", "parts", "corpus", "tokenizer"}),
        ("readers", {"encoding", "shards", "parts", "corpus", "tokenizer", "tokenizers"}),
        ("encoding", {"sources", "shards", "parts", "corpus", "pyarrow", "csv", "streaming"}),
        ("shards", {"sources", "readers", "encoding", "parts", "corpus", "tokenizers"}),
    ],
)
def test_reading_tokenizing_and_writing_know_nothing_of_each_other(
    module: str, forbidden: set[str]
) -> None:
    tree = ast.parse((Path(data_prep.__file__).parent / f"{module}.py").read_text())
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.removeprefix("data_prep.").split(".")[0])
    assert not imported & forbidden
