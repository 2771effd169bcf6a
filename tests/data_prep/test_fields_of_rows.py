"""Fields of rows: nested, joined, ambiguous; pages as text; what folders leave out; a screenful."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import html_text
from data_prep.cli import main
from data_prep.formats import HTML
from data_prep.html_text import require_extractor
from data_prep.rows import Document, Fields, Reject, make_row
from data_prep.sources import find_inputs
from data_prep.template import fill_template, template_fields
from flexbert.errors import UserError
from tests.conftest import REPOSITORY
from tests.data_prep.reading import in_one_folder, read, read_rows, write_csv

NESTED: list[dict[str, Any]] = [
    {"a": {"b": {"c": "deep"}}},
    {"a": {"b": {"c": None}}},
    {"a": {"b": None}},
    {"a": None},
]


def test_nested_fields_of_json_lines_are_read(tmp_path: Path) -> None:
    rows = [*NESTED, {"a": {"b": {}}}, {"a": {"b": 3}}, {"a": 3}, {}, {"a.b.c": "its very name"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    missing = Reject.MISSING
    expected = ["deep", *[Reject.NULL] * 3, *[missing] * 4, "its very name"]
    assert read(tmp_path / "a.jsonl", text="a.b.c") == expected


def test_nested_columns_of_parquet_and_arrow_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": [row["a"] for row in NESTED], "q": ["x", "y", "z", None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        rows = read_rows(tmp_path / name, text="a.b.c", label="q")
        assert rows == [Document("deep", "x"), *[Reject.NULL] * 3]
        with pytest.raises(UserError, match=r"no column 'a\.b\.d'; did you mean 'a\.b\.c'"):
            read(tmp_path / name, text="a.b.d")
        with pytest.raises(UserError, match=r"column 'a\.b' cannot be read as text"):
            read(tmp_path / name, text="a.b")
    named = pa.table({"a.b": ["its very name"], "a": [{"b": "nested"}]})
    pyarrow.parquet.write_table(named, tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet", text="a.b") == ["its very name"]


def test_nested_columns_of_datasets_are_read(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    table = pa.table({"a": [row["a"] for row in NESTED], "n": range(4)})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    assert read(f"hf:{tmp_path}", text="a.b.c") == ["deep", *[Reject.NULL] * 3]


def test_two_columns_of_one_name_are_refused_only_where_one_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["text", "n", "n"], ["one", "1", "2"]])
    twice = pa.Table.from_arrays(
        [pa.array(["one"]), pa.array([1]), pa.array([2])], ["text", "n", "n"]
    )
    pyarrow.parquet.write_table(twice, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert read(tmp_path / name) == ["one"]
        with pytest.raises(UserError, match="2 columns have the name 'n'"):
            read(tmp_path / name, text="n")


def test_a_template_joins_fields_the_same_in_every_format(tmp_path: Path) -> None:
    rows = [("T", "B"), ("", "B"), ("", " "), ("T", "{body}\n")]
    template = "{title}\n\n{{{body}}}{title}"
    expected = ["T\n\n{B}T", "\n\n{B}", Reject.EMPTY, "T\n\n{{body}\n}T"]
    records = [{"title": title, "body": body} for title, body in rows]
    write_csv(tmp_path / "a.csv", [["body", "title"], *([body, title] for title, body in rows)])
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    pyarrow.parquet.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert read(tmp_path / name, template=template) == expected


@pytest.mark.parametrize(
    ("values", "row"),
    [
        (["T", None], Reject.NULL),
        (["T", 3], Reject.NOT_TEXT),
        (["T", b"\xff"], Reject.INVALID_UTF8),
        (["T", "a\0"], Reject.BINARY),
        (["T" * 6, "B" * 6], Reject.TOO_LONG),
        ([b"T", "B"], Document("T: B")),
    ],
)
def test_a_row_that_lacks_a_part_of_its_text_is_a_reject(
    values: list[Any], row: Document | Reject
) -> None:
    assert make_row(values, None, Fields(template="{title}: {body}", max_characters=10)) == row


@in_one_folder
@given(st.lists(st.tuples(st.text(), st.sampled_from(["a", "b.c", "long name"])), min_size=1))
def test_what_a_template_says_is_what_comes_out(
    tmp_path: Path, parts: list[tuple[str, str]]
) -> None:
    texts = {"a": "{one}", "b.c": "}", "long name": ""}
    escaped = [(text.replace("{", "{{").replace("}", "}}"), name) for text, name in parts]
    template = "".join(f"{text}{{{name}}}" for text, name in escaped)
    values = [texts[name] for name in template_fields(template)]
    assert fill_template(template, values) == "".join(text + texts[name] for text, name in parts)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"<p>caf\xc3\xa9</p>", "caf\u00e9"),
        (b'<meta charset="iso-8859-1"><p>caf\xe9 au lait</p>', "caf\u00e9 au lait"),
        ("<p>\u4f60\u597d</p>".encode("utf-16"), "\u4f60\u597d"),
        (b"\xef\xbb\xbf<p>a &lt; b &amp; c</p>", "a < b & c"),
        (b"<p>never closed <b>bold", "never closed bold"),
        (b"no tag at all", "no tag at all"),
        (b"<p></p>", Reject.NO_HTML_TEXT),
        (b" \n", Reject.EMPTY),
        (b"\x00\x01<p>x</p>", Reject.BINARY),
    ],
)
def test_a_page_is_read_as_its_text(tmp_path: Path, page: bytes, text: str | Reject) -> None:
    pytest.importorskip("resiliparse")
    for name in ("a.html", "b.HTM", "c.xhtml"):
        (tmp_path / name).write_bytes(page)
        assert read(tmp_path / name) == [text]


def test_without_an_extractor_html_is_refused_before_anything_is_made(
    tmp_path: Path,
    tokenizer: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(html_text, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install resiliparse"):
        require_extractor("a.html")
    (tmp_path / "a.html").write_text("<p>text</p>")
    out = tmp_path / "c"
    command = ["corpus", "--tokenizer", str(tokenizer), "--out", str(out), str(tmp_path / "a.html")]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert f"{tmp_path / 'a.html'}: HTML needs the package resiliparse" in message
    assert message.count("\n") == 1
    assert not out.exists()
    (file,) = find_inputs([tmp_path / "a.html"], format_override="text").files
    assert file.format != HTML


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("README.md", "a.txt"), ("README.md", "a.txt")),
        (("README.md", "data/a.parquet"), ("data/a.parquet",)),
        (("README.md", "a.csv.xz"), ("a.csv.xz",)),
        (("sub/README.md", "a.jsonl"), ("a.jsonl", "sub/README.md")),
        (("README.md", "settings.json"), ("README.md", "settings.json")),
        (("card/README.md", "a.txt"), ("a.txt",)),  # with front matter
        (("license.py", "LICENSE-MIT.txt", "COPYING", "licence.md"), ("license.py",)),
        ((".a.txt", "b/.c/d.txt", "..e.md", "f.txt"), ("f.txt",)),
        ((".ipynb_checkpoints/a.py", "a.py"), ("a.py",)),
    ],
)
def test_a_folder_leaves_out_what_is_none_of_a_corpus(
    tmp_path: Path, names: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    folder = tmp_path / ".hidden itself"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("---\nlicense: mit\n---\n" if "card" in name else "text")
    found = find_inputs([folder])
    assert tuple(file.name.split("/", 1)[1] for file in found.files) == kept
    assert found.skipped.total() == len(names) - len(kept)
    everything = find_inputs([folder], all_files=True)
    assert len(everything.files) + everything.skipped["(no suffix)"] == len(names)


def test_a_file_given_itself_is_read_whatever_its_name(tmp_path: Path) -> None:
    for name in (".a.txt", "LICENSE.txt"):
        (tmp_path / name).write_text("text")
        assert len(find_inputs([tmp_path / name]).files) == 1
    with pytest.raises(UserError, match=r"left out: 1 \(hidden\), 1 \(licence\)"):
        find_inputs([tmp_path])


def test_inspect_fills_a_screen_and_survives_a_closed_pipe(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"{n}\n" + "word\n" * (100 + 9 * n) for n in range(60)]
    lines = [json.dumps({"text": text, "q": f"label {n}"}) for n, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    corpus = str(tmp_path / "c")
    base = ["corpus", "--tokenizer", str(tokenizer), "--out", corpus, "--quiet"]
    assert main([*base, "--label-field", "q", str(tmp_path / "a.jsonl")]) == 0
    capsys.readouterr()
    assert main(["inspect", corpus]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 50
    assert "more characters (--characters)" in shown
    assert "more labels" in shown
    assert main(["inspect", corpus, "--characters", "1000000"]) == 0
    whole = capsys.readouterr().out
    assert "more characters" not in whole
    assert whole.count("word") > 10 * shown.count("word")
    # More than a pipe holds, so that the closed end is met.
    done = subprocess.run(
        f"'{sys.executable}' -m data_prep inspect '{corpus}' --documents 60 --characters 1000000"
        " | head -n 1; exit ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("vocabulary")
