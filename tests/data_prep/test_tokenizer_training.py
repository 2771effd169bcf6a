"""Tokenizers: lossless, with BERT's special tokens, and loaded by AutoTokenizer."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_prep.cli import main
from data_prep.encoding import CorpusTokenizer
from data_prep.training_text import LONGEST_RUN, cut_long_runs
from tests.conftest import VOCAB_SIZE, run_data_prep

HARD_TEXTS = [
    "\tdef f(x):\n\t\treturn {x: {}}\r\n",
    "  two  spaces   and trailing ",
    "na\u0308ive cafe\u0301"
    " \u1f600 \U0001f9d1\u200d\U0001f680 \u4f60\u597d \u0645\u0631\u062d\u0628\u0627",
    "\x00\x01\x7f\ufeff\u2028\u200b",
    "[MASK] [CLS] [SEP] [PAD] [UNK] [unused0]",
]


@pytest.fixture(scope="module")
def loaded(tokenizer: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tokenizer)


@pytest.mark.parametrize("hard", HARD_TEXTS)
def test_hard_text_comes_back_unchanged(tokenizer: Path, hard: str) -> None:
    corpus_tokenizer = CorpusTokenizer(tokenizer)
    ids = corpus_tokenizer.backend.encode(hard, add_special_tokens=False).ids
    assert corpus_tokenizer.backend.decode(ids, skip_special_tokens=False) == hard
    assert not set(ids) & set(corpus_tokenizer.reserved_ids)


@settings(max_examples=200, deadline=None)
@given(any_text=st.text())
def test_any_text_comes_back_unchanged(tokenizer: Path, any_text: str) -> None:
    backend = CorpusTokenizer(tokenizer).backend
    ids = backend.encode(any_text, add_special_tokens=False).ids
    assert backend.decode(ids, skip_special_tokens=False) == any_text


def test_the_vocabulary_is_as_large_as_asked_with_the_stated_unused_tokens(
    loaded: PreTrainedTokenizerFast,
) -> None:
    assert len(loaded) == VOCAB_SIZE
    unused = [token for token in loaded.get_vocab() if token.startswith("[unused")]
    assert len(unused) == 8
    assert max(loaded.get_vocab().values()) == VOCAB_SIZE - 1


def test_pairs_take_berts_template(loaded: PreTrainedTokenizerFast) -> None:
    a, b = loaded("a", "b").input_ids[1], loaded("b").input_ids[1]
    cls, sep = loaded.cls_token_id, loaded.sep_token_id
    pair = loaded("a", "b", return_token_type_ids=True)
    assert pair.input_ids == [cls, a, sep, b, sep]
    assert pair.token_type_ids == [0, 0, 0, 1, 1]
    assert set(loaded("a")) == {"input_ids", "attention_mask"}


def test_a_mask_typed_by_a_user_is_the_mask(loaded: PreTrainedTokenizerFast) -> None:
    ids = loaded(f"import {loaded.mask_token}").input_ids
    assert ids.count(loaded.mask_token_id) == 1
    assert loaded.mask_token == "[MASK]"


def test_the_same_text_gives_the_same_tokenizer(
    tokenizer: Path, text: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    run_data_prep("tokenizer", "--vocab-size", VOCAB_SIZE, "--unused", 8, "--out", again, text)
    assert (again / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()


def test_text_too_small_for_the_vocabulary_leaves_more_unused_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("abc")
    run_data_prep(
        "tokenizer", "--vocab-size", 384, "--unused", 3, "--out", tmp_path / "t", tmp_path / "a.txt"
    )
    assert "becomes unused tokens" in capsys.readouterr().out
    assert len(AutoTokenizer.from_pretrained(tmp_path / "t")) == 384


def save(tokenizer: Tokenizer, folder: Path, **special: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def gpt2_like(folder: Path) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: id_ for id_, token in enumerate([*alphabet, "<|endoftext|>"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = "<|endoftext|>"
    return save(backend, folder, eos_token=end, bos_token=end, pad_token=end, unk_token=end)


def bert_like(folder: Path) -> Path:
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdef",
        *("##" + c for c in "abcdef"),
    ]
    backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return save(backend, folder, **roles)


@pytest.mark.parametrize("make", [gpt2_like, bert_like])
def test_adapting_keeps_ids_and_adds_what_is_missing(tmp_path: Path, make: object) -> None:
    original = make(tmp_path / "original")  # type: ignore[operator]
    before = AutoTokenizer.from_pretrained(original).get_vocab()
    run_data_prep("tokenizer", "--adapt", original, "--unused", 5, "--out", tmp_path / "adapted")
    adapted = AutoTokenizer.from_pretrained(tmp_path / "adapted")
    after = adapted.get_vocab()
    assert {token: after[token] for token in before} == before
    assert len(after) % 64 == 0
    assert sum(token.startswith("[unused") for token in after) >= 5
    roles = [adapted.cls_token_id, adapted.sep_token_id, adapted.mask_token_id]
    assert len({*roles, adapted.pad_token_id}) == 4
    ids = adapted("a b").input_ids
    assert (ids[0], ids[-1]) == (adapted.cls_token_id, adapted.sep_token_id)
    if make is bert_like:
        assert [after[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == list(range(5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vocab-size", "500", "{text}"], ["500", "448 or 512"]),
        (["--vocab-size", "256", "{text}"], ["bytes alone"]),
        (["--vocab-size", "512"], ["give INPUT"]),
        (["--adapt", "{tmp}/none"], ["cannot be loaded"]),
        (["--vocab-size", "512", "{tmp}/nothing"], ["nothing"]),
        (["--vocab-sise", "512"], ["--vocab-sise"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    filled = [argument.format(text=text, tmp=tmp_path) for argument in arguments]
    assert main(["tokenizer", "--out", str(tmp_path / "out"), *filled]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert all(word in message for word in words), message


def test_a_folder_in_use_is_not_overwritten(
    tokenizer: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokenizer", "--out", str(tokenizer), str(text)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_adapting_what_has_all_that_training_needs_adds_no_id(tmp_path: Path) -> None:
    original = bert_like(tmp_path / "original")
    run_data_prep("tokenizer", "--adapt", original, "--out", tmp_path / "adapted")
    adapted = AutoTokenizer.from_pretrained(tmp_path / "adapted")
    assert adapted.get_vocab() == AutoTokenizer.from_pretrained(original).get_vocab()


def test_a_tokenizer_file_alone_is_adapted_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    file = tmp_path / "alone" / "tokenizer.json"
    file.write_bytes((bert_like(tmp_path / "original") / "tokenizer.json").read_bytes())
    for number, source in enumerate((file, file.parent)):
        run_data_prep("tokenizer", "--adapt", source, "--out", tmp_path / str(number))
        adapted = AutoTokenizer.from_pretrained(tmp_path / str(number))
        expected = Tokenizer.from_file(str(file)).encode("ABC d").ids
        assert adapted("ABC d").input_ids == [2, *expected, 3]
        assert adapted.mask_token_id == 4


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", " ", "b" * 600, " " * 700, "\n"])).map("".join))
def test_long_runs_are_cut_for_training_and_nothing_is_lost(some_text: str) -> None:
    pieces = list(cut_long_runs(some_text))
    assert "".join(pieces) == some_text
    words = [word for piece in pieces for word in re.findall(r"\S+|\s+", piece)]
    assert max(map(len, words), default=0) <= 2 * LONGEST_RUN
    if max(map(len, re.findall(r"\S+|\s+", some_text)), default=0) <= LONGEST_RUN:
        assert pieces == [some_text]


def test_training_ends_on_a_text_without_a_space(tmp_path: Path) -> None:
    """Before runs were cut, ten times less took minutes."""
    letters = random.Random(0).choices("acgt", k=2_000_000)
    (tmp_path / "a.txt").write_text("".join(letters))
    run_data_prep(
        "tokenizer", "--vocab-size", 384, "--unused", 3, "--out", tmp_path / "t", tmp_path / "a.txt"
    )
