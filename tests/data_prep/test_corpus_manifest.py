"""A folder is continued only with what it was begun with; the message names the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus_manifest import MANIFEST_FILE, CorpusManifest
from flexbert.errors import UserError


def file(name: str, size: int = 10) -> dict[str, Any]:
    return {"name": name, "format": "text", "size": size, "modified": 1}


BEGUN = CorpusManifest(
    tokenizer_sha256="0" * 64,
    fields={"text": "text", "label": None},
    validation=0.1,
    deduplicate=False,
    shard_bytes=1 << 20,
    part_bytes=1 << 20,
    files=[file("a"), file("b"), file("same", 1), file("same", 2)],
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer_sha256": "1" * 64}, "tokenizer_sha256 was"),
        (
            {"fields": {"text": "body", "label": None}},
            r"fields\.text was 'text', now 'body'",
        ),
        ({"deduplicate": True}, "deduplicate was False, now True"),
        ({"task": "0/2"}, "task was '0/1', now '0/2'"),
        ({"validation": 0.2}, "validation was 0.1, now 0.2"),
        ({"shard_bytes": 1}, "shard_bytes was 1048576, now 1"),
        ({"part_bytes": 1}, "part_bytes was 1048576, now 1"),
        ({"files": [*BEGUN.files, file("c")]}, "input c is new"),
        ({"files": [file("c"), *BEGUN.files[1:]]}, "input c is new"),
        ({"files": BEGUN.files[1:]}, "input a is missing"),
        ({"files": BEGUN.files[:-1]}, "input same is missing"),
        ({"files": [*BEGUN.files, file("same")]}, "input same is new"),
        ({"files": [file("b"), file("a"), *BEGUN.files[2:]]}, "in another order"),
        (
            {"files": [file("a", 11), *BEGUN.files[1:]]},
            "a has changed .size was 10, now 11",
        ),
        ({"files": [*BEGUN.files[:2], file("same", 3), file("same", 2)]}, "input same has changed"),
    ],
)
def test_a_difference_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    BEGUN.claim(tmp_path)
    BEGUN.claim(tmp_path)
    before = (tmp_path / MANIFEST_FILE).read_bytes()
    with pytest.raises(UserError, match=words):
        replace(BEGUN, **changes).claim(tmp_path)
    assert (tmp_path / MANIFEST_FILE).read_bytes() == before


def test_a_folder_that_holds_something_else_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="neither empty nor a corpus"):
        BEGUN.claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    BEGUN.claim(tmp_path)
    assert CorpusManifest.read(tmp_path) == BEGUN


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), ("{", "not a manifest"), ("{}", "not a manifest")],
)
def test_a_manifest_that_cannot_be_read_is_named(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(UserError, match=rf"{MANIFEST_FILE}: .*{words}"):
        CorpusManifest.read(tmp_path)


def test_what_another_version_began_is_not_continued(tmp_path: Path) -> None:
    replace(BEGUN, parts_format=1).claim(tmp_path)
    with pytest.raises(UserError, match="another version"):
        CorpusManifest.read(tmp_path)
    with pytest.raises(UserError, match="parts_format was 1"):
        BEGUN.claim(tmp_path)
