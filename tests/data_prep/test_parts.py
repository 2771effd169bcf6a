"""Parts on disk, the documents that repeat earlier ones, and which split a document is in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import duplicates, parts
from data_prep.duplicates import find_repeats
from data_prep.parts import COUNTS_FILE, HASHES_FILE, TOKENS_FILE, InputRows, Part
from data_prep.selection import Selection
from flexbert.data.format.corpus_format import LENGTHS_FILE
from flexbert.data.reading import split_documents

UINT16 = np.dtype(np.uint16)
Document = tuple[int, int]  # hash, length


def write_part(folder: Path, documents: Sequence[Document]) -> Part:
    """A part whose documents' tokens are their numbers in the part."""
    folder.mkdir()
    lengths = np.array([length for _, length in documents], "<u4")
    np.repeat(np.arange(len(documents)), lengths).astype(UINT16).tofile(folder / TOKENS_FILE)
    lengths.tofile(folder / LENGTHS_FILE)
    np.array([hash_ for hash_, _ in documents], "<u8").tofile(folder / HASHES_FILE)
    part = Part(
        folder=folder,
        documents=len(documents),
        tokens=int(lengths.sum()),
        characters=0,
        unknown=0,
        sampled=0,
        dropped=0,
        smallest_hash=min((hash_ for hash_, _ in documents), default=None),
        rejects={},
        labels=None,
        inputs={"a": InputRows(documents=len(documents), tokens=int(lengths.sum()))},
        runs=((0, len(documents)),),
    )
    part.write_counts()
    return part


def write_parts(folder: Path, documents: Sequence[Sequence[Document]]) -> list[Part]:
    return [write_part(folder / str(number), part) for number, part in enumerate(documents)]


def repeats_in_order(documents: Sequence[Document]) -> list[bool]:
    seen: set[Document] = set()
    found = []
    for document in documents:
        found.append(document in seen)
        seen.add(document)
    return found


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BLOCK_DOCUMENTS", 5)
    monkeypatch.setattr(split_documents, "BLOCK_TOKENS", 12)
    monkeypatch.setattr(duplicates, "BUCKET_DOCUMENTS", 8)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    documents=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 7, 1 << 60, 1 << 63, 2**64 - 1]) | st.integers(0, 2**64 - 1),
                st.integers(1, 4),
            ),
            max_size=40,
        ),
        min_size=1,
        max_size=4,
    )
)
@pytest.mark.usefixtures("small_blocks")
def test_repeats_are_the_documents_that_a_set_has_seen(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[Document]]
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    flat = [document for part in documents for document in part]
    (work := folder / "work").mkdir()
    found = find_repeats(write_parts(folder, documents), work)
    expected = repeats_in_order(flat)
    assert found.flags.tolist() == expected
    assert found.documents == sum(expected)
    assert found.tokens == sum(
        length for (_, length), again in zip(flat, expected, strict=True) if again
    )
    assert [path.name for path in work.iterdir()] == [duplicates.FLAGS_FILE]


@pytest.mark.usefixtures("small_blocks")
def test_one_text_that_occurs_in_more_blocks_than_fit_into_memory_is_kept_once(
    tmp_path: Path,
) -> None:
    documents = [[(9, 2)] * 50, [(9, 2)] * 30 + [(9, 3)]]
    (work := tmp_path / "work").mkdir()
    found = find_repeats(write_parts(tmp_path, documents), work)
    assert found.flags.tolist() == [False] + [True] * 79 + [False]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("deduplicate", [False, True])
def test_every_document_is_in_one_split_whatever_the_parts(
    tmp_path: Path, deduplicate: bool
) -> None:
    random = np.random.default_rng(0)
    flat = [
        (int(h) << 50, int(n)) for h, n in zip(*random.integers(1, 9000, (2, 300)), strict=True)
    ]
    flat = [(hash_, length % 17 + 1) for hash_, length in flat] + flat[:0]
    flat += flat[:40]
    for name, cuts in (("one", []), ("many", [0, 1, 90, 90, 211, 340])):
        bounds = [0, *cuts, len(flat)]
        folder = tmp_path / f"{name}"
        folder.mkdir()
        cut = [flat[begin:end] for begin, end in pairwise(bounds)]
        written = write_parts(folder, cut)
        (work := folder / "work").mkdir()
        repeats = find_repeats(written, work)
        splits = Selection.splits(written, validation=0.2, repeats=repeats if deduplicate else None)
        found = {name: [] for name in splits}
        for split, selection in splits.items():
            for chosen in selection.all_blocks():
                hashes = chosen.block.hashes[chosen.mask]
                found[split] += list(zip(hashes.tolist(), chosen.lengths.tolist(), strict=True))
                tokens = chosen.tokens(UINT16)
                assert len(tokens) == chosen.lengths.sum()
                runs = np.repeat(np.arange(len(chosen.lengths)), chosen.lengths)
                assert len(set(zip(tokens.tolist(), runs.tolist(), strict=True))) == len(hashes)
        expected = [
            document
            for document, again in zip(flat, repeats_in_order(flat), strict=True)
            if not (again and deduplicate)
        ]
        assert Counter(found["train"] + found["validation"]) == Counter(expected)
        limit = int(0.2 * 2.0**64)
        assert found["validation"] == [d for d in expected if d[0] <= limit]
        assert found["train"] == [d for d in expected if d[0] > limit]


def test_the_smallest_hash_is_held_out_even_where_all_are_large(tmp_path: Path) -> None:
    documents = [[(1 << 63, 1), (3 << 62, 2)], [], [(1 << 63, 1)]]
    splits = Selection.splits(write_parts(tmp_path, documents), validation=0.01, repeats=None)
    counts = {
        name: sum(int(chosen.mask.sum()) for chosen in selection.all_blocks())
        for name, selection in splits.items()
    }
    assert counts == {"train": 1, "validation": 2}


def test_a_part_is_whole_only_if_every_file_has_its_size(tmp_path: Path) -> None:
    part = write_part(tmp_path / "part", [(1, 2), (2, 3)])
    assert Part.read(part.folder) == part
    for name in (TOKENS_FILE, LENGTHS_FILE, HASHES_FILE):
        assert part.is_whole(UINT16)
        data = (part.folder / name).read_bytes()
        (part.folder / name).write_bytes(data[:-1])
        assert not part.is_whole(UINT16)
        (part.folder / name).unlink()
        assert not part.is_whole(UINT16)
        (part.folder / name).write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": {"a": {"dokuments": 2}}},
        {"inputs": {"a": 3}},
        {"runs": [[0, 1]]},
        {"runs": [[0]]},
        {"runs": None},
    ],
)
def test_a_part_whose_inputs_are_damaged_is_found(tmp_path: Path, change: dict[str, Any]) -> None:
    part = write_part(tmp_path / "part", [(1, 2), (2, 3)])
    file = part.folder / COUNTS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises((ValueError, TypeError, KeyError)):
        Part.read(part.folder)


@settings(max_examples=30, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=12))
def test_blocks_say_which_input_each_document_came_from(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]]
) -> None:
    expected = [number for number, count in runs for _ in range(count)]
    folder = tmp_path_factory.mktemp("runs") / "part"
    part = replace(write_part(folder, [(n, 1) for n in range(len(expected))]), runs=tuple(runs))
    with pytest.MonkeyPatch.context() as small:
        small.setattr(parts, "BLOCK_DOCUMENTS", 5)
        assert [n for block in part.blocks() for n in block.inputs.tolist()] == expected
