"""Where words begin, against what each kind of tokenizer itself says of its words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from flexbert.config.masking_choice import SpanMasking, TokenMasking, WholeWordMasking
from flexbert.data.format.corpus_format import TOKENIZER_FOLDER, CorpusError, CorpusMeta, SpecialIds
from flexbert.data.packing.masking import BEGINS_WORD, NEXT_BEGINS_WORD
from flexbert.data.packing.word_borders import unit_borders, word_borders
from flexbert.errors import ConfigError
from flexbert.recipes import load_recipe
from flexbert.stage_checks import open_corpora
from tests.conftest import TINY_RECIPE
from tests.data.corpora import write_corpus
from tests.huggingface.forty_tokenizers import FORTY, SPECIAL, TEXTS


def borders_of(backend: Tokenizer) -> np.ndarray | None:
    size = max(backend.get_vocab().values()) + 1
    reserved = tuple(id_ for token in SPECIAL if (id_ := backend.token_to_id(token)) is not None)
    meta = CorpusMeta(
        tokenizer_sha256="",
        vocab_size=size,
        special_ids=SpecialIds(cls=0, sep=0, pad=0, mask=0, unk=None),
        reserved_ids=reserved,
        splits={},
    )
    return word_borders(json.loads(backend.to_str()), meta)


def words(backend: Tokenizer, text: str) -> list[str]:
    """The words of a text as the borders cut it, white space left out."""
    borders = borders_of(backend)
    assert borders is not None
    encoding = backend.encode(text, add_special_tokens=False)
    found = [""]
    next_begins, done = True, 0
    for id_, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if next_begins or borders[id_] & BEGINS_WORD:
            found.append("")
        next_begins = bool(borders[id_] & NEXT_BEGINS_WORD)
        # A blank put before the text has the place of its first character.
        found[-1] += text[max(begin, done) : end]
        done = max(end, done)
    return [word.strip() for word in found if word.strip()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizers = {}
    for name in ("bytes", "bytes prefix", "wordpiece", "unigram", "unigram prefix", "bytes added"):
        FORTY[name].write(folder / name)
        tokenizers[name] = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
    return tokenizers


TEXT = "The Cat sat on\nthe Mat,  and looked\n\tat it. def f(x):\n    return"


@pytest.mark.parametrize("kind", ["bytes", "bytes prefix"])
def test_byte_level_words_lie_between_blanks(made: dict[str, Tokenizer], kind: str) -> None:
    assert words(made[kind], TEXT) == TEXT.split()


@pytest.mark.parametrize("kind", ["unigram", "unigram prefix"])
def test_unigram_words_lie_between_blanks(made: dict[str, Tokenizer], kind: str) -> None:
    text = "The Cat sat on the Mat,  and looked at it"
    assert words(made[kind], text) == text.split()


def test_wordpiece_words_are_those_of_its_pre_tokenizer(made: dict[str, Tokenizer]) -> None:
    for text in TEXTS[:3]:
        encoding = made["wordpiece"].encode(text, add_special_tokens=False)
        borders = borders_of(made["wordpiece"])
        assert borders is not None
        for before, after in itertools.pairwise(range(len(encoding))):
            known = encoding.ids[after] != made["wordpiece"].token_to_id("[UNK]")
            same_word = encoding.word_ids[before] == encoding.word_ids[after]
            if known:
                assert bool(borders[encoding.ids[after]] & BEGINS_WORD) != same_word


def test_an_added_token_is_a_word(made: dict[str, Tokenizer]) -> None:
    assert words(made["bytes added"], "a<new>cat") == ["a", "<new>", "cat"]


def test_a_suffix_ends_a_word() -> None:
    vocabulary = {"lo": 0, "w</w>": 1, "er</w>": 2, "low</w>": 3}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>"))
    borders = borders_of(backend)
    assert borders is not None
    assert borders.tolist() == [0, NEXT_BEGINS_WORD, NEXT_BEGINS_WORD, NEXT_BEGINS_WORD]


def corpus_with(backend: Tokenizer, folder: Path) -> Path:
    write_corpus(folder, [np.arange(10, 20)], vocab_size=60)
    (folder / TOKENIZER_FOLDER / "tokenizer.json").write_text(backend.to_str())
    return folder


def test_a_tokenizer_that_drops_blanks_is_refused_with_the_way_out(tmp_path: Path) -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 10, "b": 11}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    corpus = corpus_with(backend, tmp_path / "corpus")
    for masking in (WholeWordMasking(), SpanMasking()):
        with pytest.raises(ConfigError, match=r"data\.masking: .*unit: token") as caught:
            unit_borders(masking, corpus)
        assert "\n" not in str(caught.value)
    assert unit_borders(SpanMasking(unit="token"), corpus) is None
    assert unit_borders(TokenMasking(), corpus) is None


def test_what_is_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [np.arange(10, 20)])
    for text in ("[]", "{", '{"model": 3}', '{"model": {"vocab": 3}}'):
        (corpus / TOKENIZER_FOLDER / "tokenizer.json").write_text(text)
        with pytest.raises(CorpusError, match="not a tokenizer"):
            unit_borders(WholeWordMasking(), corpus)


def test_a_stage_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path / "corpus", [np.arange(10, 20)], [np.arange(10, 20)], vocab_size=60
    )
    overrides = [f"data.path={corpus}", "data.masking={name: whole_word}"]
    recipe = load_recipe(TINY_RECIPE, overrides).first
    with pytest.raises(ConfigError, match=r"data\.masking: the tokenizer of .* does not show"):
        open_corpora(recipe)
    with pytest.raises(ConfigError, match=r"data\.masking\.name: unknown masking 'spans'.*span"):
        load_recipe(TINY_RECIPE, [overrides[0], "data.masking={name: spans}"])
