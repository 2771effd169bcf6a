"""Options of inputs: on the command line after a colon, in YAML, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.cli import main
from data_prep.input_options import Input, fields_of, parse_input, read_inputs_file
from data_prep.rows import Document, Fields, Reject
from data_prep.sources import cut_pieces, find_inputs
from flexbert.errors import UserError
from tests.data_prep.reading import read, read_rows


@pytest.mark.parametrize(
    ("text", "path", "options"),
    [
        ("a.jsonl", "a.jsonl", {}),
        ("a.jsonl:field=body", "a.jsonl", {"text_field": "body"}),
        ("a:text_field=b:label=x", "a", {"text_field": "b", "label": "x"}),
        (r"C:\data\a.tsv:field=b", r"C:\data\a.tsv", {"text_field": "b"}),
        ("C:/data/a.tsv", "C:/data/a.tsv", {}),
        ("hf:a/b@v1:en:test", "hf:a/b@v1:en:test", {}),
        ("hf:a/b:en:test:field=content", "hf:a/b:en:test", {"text_field": "content"}),
        ("https://host:80/a?b=c", "https://host:80/a?b=c", {}),
        ("s3://bucket/a.csv:delimiter=semicolon", "s3://bucket/a.csv", {"delimiter": ";"}),
        (r"a.csv:template={a}: {b}\n{c}", "a.csv", {"template": "{a}: {b}\n{c}"}),
        ("a:delimiter=::quotes=false", "a", {"delimiter": ":", "quotes": False}),
        ("a.jsonl:html=true", "a.jsonl", {"html": True}),
        (r"a.csv:delimiter=\t", "a.csv", {"delimiter": "\t"}),
    ],
)
def test_options_follow_a_path_whatever_colons_it_has(
    text: str, path: str, options: dict[str, Any]
) -> None:
    found = parse_input(text)
    assert (found.path, found.options) == (path, options)


def test_a_file_of_that_very_name_is_taken_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "a.txt:field=body"
    file.write_text("text")
    assert parse_input(str(file)) == Input(path=str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:filed=x", "filed: no such option; did you mean 'field'"),
        ("a:path=x", "path: no such option"),
        ("a:weight=2", "a corpus has no weights.*upsample.labels.*data.sources.NAME.weight"),
        ("a:format=tvs", "format tvs: did you mean 'tsv'"),
        ("a:field=", "text_field: expected a text"),
        ("a:field=b:field=c", "text_field is given twice"),
        ("a:field=b:template={c}", "text_field and template exclude each other"),
        ("a:label=b:label_field=c", "label_field and label exclude each other"),
        ("a:delimiter=ab", "delimiter 'ab': expected one character, or tab, comma"),
        ("a:template=x", "names no field"),
        ("a:template={a", "expected '}'"),
        ("a:template={a:>3}", "the name of a field and nothing else"),
        ("a:html=yes", "html: expected true or false"),
    ],
)
def test_a_wrong_option_is_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_input(text)


def test_inputs_are_listed_in_yaml_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\tbody\n1\t"Hi", she said\n')
    (tmp_path / "b.txt").write_text("one\n\ntwo\r\n")
    (tmp_path / "inputs.yaml").write_text(
        "- {path: a.tsv, text_field: body, quotes: false, label: news}\n"
        "- {path: b.txt, format: lines, text_field: null}\n"
    )
    found = find_inputs(read_inputs_file(tmp_path / "inputs.yaml"))
    assert found.counts == {"a.tsv": 1, "b.txt": 1}
    rows = [
        row
        for file in found.files
        for piece in cut_pieces(file, 100)
        for row in read_piece_of(piece)
    ]
    assert rows == [
        Document('"Hi", she said', "news"),
        Document("one"),
        Reject.EMPTY,
        Document("two"),
    ]


def read_piece_of(piece: Any) -> list[Any]:
    from data_prep.readers import read_piece

    return list(read_piece(piece, Fields()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.txt", "expected a list of inputs"),
        ("path: a.txt", "expected a list of inputs, each a path or"),
        ("[]", "expected a list of inputs"),
        ("- 3", "input 1: expected a path or a mapping, got 3"),
        ("- {text_field: a}", "input 1: path: expected a file"),
        ("- a.txt\n- {path: b, field: c}", r"input 2 \(b\): field: no such option"),
        ("- {path: b, weight: 2}", "a corpus has no weights"),
        ("- {path: b, text_field: 3}", "text_field: expected a text, got 3"),
        ("- {path: b, html: 1}", "html: expected true or false, got 1"),
        ("- {path: b, path: c}", "not a list of inputs in YAML"),
        ("- [", "not a list of inputs in YAML"),
        (b"\xff", "not a list of inputs in YAML"),
        (None, "No such file"),
    ],
)
def test_a_list_that_cannot_be_is_one_line(
    tmp_path: Path, text: str | bytes | None, words: str
) -> None:
    file = tmp_path / "inputs.yaml"
    if text is not None:
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=words) as got:
        read_inputs_file(file)
    assert "\n" not in str(got.value)


def test_an_inputs_own_options_go_before_the_commands() -> None:
    defaults = Fields(template="{a}", label="q", max_characters=9)
    own = fields_of(parse_input("x:field=b:label=news"), defaults)
    assert own == Fields(text="b", constant_label="news", max_characters=9)
    assert fields_of(Input(path="x"), defaults) == defaults


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["{tmp}/a.txt:field=b"], "text_field does nothing for text; it is for"),
        (["{tmp}/a.txt:delimiter=tab"], "delimiter does nothing for text; it is for csv, tsv"),
        (["{tmp}/a.txt", "--delimiter", "tab"], "--delimiter: delimiter does nothing for text"),
        (["{tmp}/a.txt", "--template", "{{x}}"], "--template: template does nothing for text"),
        (["{tmp}/a.txt", "--delimiter", "ab"], "expected one character"),
        (["{tmp}/a.txt", "--template", "x"], "names no field"),
        (["{tmp}/a.txt", "--template", "{{x}}", "--text-field", "y"], "not allowed with"),
        (["s3://bucket/a.jsonl"], "inputs are files and folders of this machine"),
        (["hf://datasets/a/b:field=c"], "hf://datasets/a/b: write hf:NAME.* without slashes"),
        (["{tmp}/*.csv"], "no such file or folder"),
        ([], "give INPUT"),
        (["{tmp}/empty:field=b"], "holds no file that can be read"),
    ],
)
def test_an_option_that_does_nothing_is_refused(
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    import re

    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    filled = [option.format(tmp=tmp_path) for option in options]
    base = ["corpus", "--tokenizer", str(tokenizer), "--out", str(tmp_path / "c")]
    assert main([*base, *filled]) == 2
    message = capsys.readouterr().err
    assert re.search(words, message), message
    assert message.count("\n") == 1


def test_a_pattern_is_one_input(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("body\nx\n")
    found = find_inputs([parse_input(f"{tmp_path}/*.csv:field=body")])
    assert [file.name for file in found.files] == ["a.csv", "b.csv"]
    assert found.counts == {f"{tmp_path.name}/*.csv": 2}


def test_inputs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "x").mkdir(parents=True)
        (tmp_path / folder / "x" / "t.txt").write_text("text")
    found = find_inputs([tmp_path / "a" / "x", tmp_path / "b" / "x"])
    assert [file.input for file in found.files] == ["x/*.txt", "x (2)/*.txt"]


def test_a_file_named_with_options_is_not_read_twice(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.csv").write_text("body\ny\n")
    own = parse_input(f"{tmp_path / 'b.csv'}:field=body")
    found = find_inputs([tmp_path, own])
    assert [file.name for file in found.files] == [f"{tmp_path.name}/a.csv", "b.csv"]
    with pytest.raises(UserError, match="twice"):
        find_inputs([own, own])
    with pytest.raises(UserError, match="twice"):
        find_inputs([tmp_path, tmp_path / "b.csv"])


def test_html_in_a_field_is_read_as_text(tmp_path: Path) -> None:
    pytest.importorskip("resiliparse")
    (tmp_path / "a.jsonl").write_text('{"text": "<p>one <b>two</b></p>"}\n{"text": "<p></p>"}\n')
    assert read(tmp_path / "a.jsonl", html=True) == ["one two", Reject.NO_HTML_TEXT]
    assert read_rows(tmp_path / "a.jsonl")[0] == Document("<p>one <b>two</b></p>")


def test_files_of_a_pattern_with_options_are_not_read_twice(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.txt", "d.pm"):
        (tmp_path / name).write_text("body\nx\n")
    own = [
        parse_input(f"{tmp_path}/{pattern}") for pattern in ("*.csv:field=body", "*.pm:format=text")
    ]
    for given in ([tmp_path, *own], [*own, tmp_path]):
        found = find_inputs(given)
        assert sorted(Path(file.path).name for file in found.files) == [
            *("a.csv", "b.csv", "c.txt", "d.pm"),
        ]
        # What another input reads was not passed over.
        assert not found.skipped
