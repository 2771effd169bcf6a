"""Rows: labels are strings, and what is no document is told by its reason in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.rows import Document, Reject, check_text
from flexbert.errors import UserError
from tests.data_prep.reading import in_one_folder, read, read_rows, write_csv


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ('"good"', "good"),
        ("3", "3"),
        ("0.5", "0.5"),
        ("true", "True"),
        ("null", None),
        ('""', None),
        ("[1]", Reject.BAD_LABEL),
        ('{"a": 1}', Reject.BAD_LABEL),
        (r'"\ud800"', Reject.INVALID_UTF8),
    ],
)
def test_labels_of_json_lines_are_strings(
    tmp_path: Path, label: str, expected: str | Reject | None
) -> None:
    lines = [f'{{"text": "a", "q": {label}}}', '{"text": "b"}', '{"q": "c"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    first = expected if isinstance(expected, Reject) else Document("a", expected)
    rest = [Document("b"), Reject.MISSING]
    assert read_rows(tmp_path / "a.jsonl", label="q") == [first, *rest]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array(["good", None, ""]), ["good", None, None]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([1, 2, None], pa.int8()), ["1", "2", None]),
        (pa.array([True, False, None]), ["True", "False", None]),
        (pa.array([0.5, 1.0, 2.0]), ["0.5", "1.0", "2.0"]),
        (pa.array([b"x", b"\xff", None]), ["x", Reject.INVALID_UTF8, None]),
        (pa.array([["x"], None, []]), [Reject.BAD_LABEL, None, Reject.BAD_LABEL]),
        (pa.array([{"x": 1}, None, None]), [Reject.BAD_LABEL, None, None]),
        (pa.nulls(3), [None, None, None]),
    ],
)
def test_labels_of_columns_are_strings(
    tmp_path: Path, labels: pa.Array, expected: list[str | Reject | None]
) -> None:
    table = pa.table({"q": labels, "text": ["a", "b", "c"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = [
        label if isinstance(label, Reject) else Document(text, label)
        for text, label in zip("abc", expected, strict=True)
    ]
    assert read_rows(tmp_path / "a.parquet", label="q") == rows


def test_labels_of_csv_are_strings_and_an_empty_cell_is_none(tmp_path: Path) -> None:
    rows = [["text", "q"], ["a", "good"], ["b", ""], ["c"], ["d", "3"]]
    expected = [Document("a", "good"), Document("b"), Document("c"), Document("d", "3")]
    assert read_rows(write_csv(tmp_path / "a.csv", rows), label="q") == expected


def test_a_column_of_labels_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [["text", "quality"], ["a", "b"]])
    with pytest.raises(UserError, match=r"'qualty'; did you mean 'quality'.*--label-field"):
        read_rows(file, label="qualty")


def test_a_text_that_is_too_long_is_a_reject_in_every_format(tmp_path: Path) -> None:
    texts = ["x" * 50, "\U0001f600" * 50, "x" * 51, "short"]
    expected = [texts[0], texts[1], Reject.TOO_LONG, "short"]
    lines = [json.dumps({"text": text}) for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    pyarrow.parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    write_csv(tmp_path / "a.csv", [["text"], *([text] for text in texts)])
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        assert read(tmp_path / name, max_characters=50) == expected
    for text, row in zip(texts, expected, strict=True):
        (tmp_path / "a.txt").write_text(text)
        assert read(tmp_path / "a.txt", max_characters=50) == [row]


@settings(max_examples=15, deadline=None, suppress_health_check=in_one_folder.suppress_health_check)
@given(
    lines=st.lists(st.sampled_from(["short", "long", "empty"]), max_size=6),
    piece_bytes=st.sampled_from([1000, 1 << 20, 3 << 20]),
    last_newline=st.booleans(),
)
def test_a_line_that_is_too_long_is_one_row_however_the_file_is_cut(
    tmp_path: Path, lines: list[str], piece_bytes: int, last_newline: bool
) -> None:
    contents = {"short": '{"text": "a"}', "long": '{"text": "' + "b" * (9 << 17), "empty": "{}"}
    rows = {"short": "a", "long": Reject.TOO_LONG, "empty": Reject.MISSING}
    text = "\n".join(contents[line] for line in lines) + "\n" * (last_newline and bool(lines))
    (tmp_path / "a.jsonl").write_text(text)
    piece_bytes = max(piece_bytes, len(text) // 100 + 1)
    found = read(tmp_path / "a.jsonl", piece_bytes=piece_bytes, max_characters=10)
    assert found == [rows[line] for line in lines]


def test_a_csv_record_that_is_too_long_is_one_row(tmp_path: Path) -> None:
    endless = "x" * (1 << 20)
    rows = [
        ["text", "more"],
        ["a", endless * 2],
        ["b", f'{endless}\n"quoted"\n{endless}'],
        ["c", "d"],
        [f'"\n"{endless}', ""],
        ["e"],
    ]
    expected = [Reject.TOO_LONG, Reject.TOO_LONG, "c", Reject.TOO_LONG, "e"]
    assert read(write_csv(tmp_path / "a.csv", rows), max_characters=10) == expected


def test_a_csv_header_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [["text", "x" * (2 << 20)], ["a", "b"]])
    with pytest.raises(UserError, match="no column 'text'"):
        read(file, max_characters=10)


ORDINARY = [
    "a\tb\r\nc\fd\ve",
    "\x1b[1;31mred\x1b[0m \x1b[K\x1b[2K",
    "N\bNA\bAM\bME\bE, overstruck as in manual pages",
    "caf\u00e9 \u4f60\u597d \U0001f600 \u200b\u200d\ufeff\u0085\u2028",
    "one bell\x07 in a line of text",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_not_binary(text: str) -> None:
    assert check_text(text) == text


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01\0\0\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "UTF-16".encode("utf-16"),
        b"a long text with but one NUL " * 99 + b"\0",
        b"\x01\x02\x03abc",
    ],
)
def test_binary_data_is_a_reject_in_every_format(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "a.csv").write_bytes(b'text\none\n"' + data.replace(b'"', b"") + b'"\ntwo\n')
    table = pa.table({"text": pa.array([b"one", data, b"two"], pa.binary())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.txt") == [Reject.BINARY]
    assert read(tmp_path / "a.parquet") == ["one", Reject.BINARY, "two"]
    in_csv = read(tmp_path / "a.csv")
    assert (in_csv[0], in_csv[-1]) == ("one", "two")
    assert in_csv[1] in (Reject.BINARY, Reject.INVALID_UTF8)


def test_binary_lines_among_json_lines_are_rejects(tmp_path: Path) -> None:
    lines = [b'{"text": "one"}', b"\0\0\0\0", b"\xff\0", rb'{"text": "\u0000"}', b'{"text": "two"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert read(tmp_path / "a.jsonl") == ["one", *[Reject.BINARY] * 3, "two"]


@in_one_folder
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".jsonl", ".csv", ".txt"]))
def test_whatever_bytes_a_file_holds_reading_ends_in_rows_or_one_error(
    tmp_path: Path, data: bytes, suffix: str
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"text,n\n" * (suffix == ".csv") + data)
    try:
        rows = read_rows(tmp_path / f"a{suffix}", piece_bytes=50)
    except UserError:
        assert data.lstrip().startswith(b"[")
    else:
        assert all(isinstance(row, Document | Reject) for row in rows)
        lines = data.split(b"\n")
        if suffix == ".jsonl":
            assert len(rows) == len(lines) - (lines[-1] == b"")
