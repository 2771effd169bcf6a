"""Byte-level BPE, WordPiece and Unigram: each trained so that the same text gives the same bytes.

- ``bpe``: on bytes, without a normalizer. Every text is encoded without loss.
- ``wordpiece``: BERT's, with case and accents. White space becomes single blanks, and a character
  that is too rare makes its whole word unknown.
- ``unigram``: SentencePiece's, without a normalizer or a blank before the text. What it has no
  token for becomes bytes, so every text is encoded without loss (but for U+2581, which is a blank).
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from data_prep.training_text import READ
from flexbert.errors import UserError, first_line

# One pass over the training text; its argument says what for.
Texts: TypeAlias = Callable[[str], Iterator[str]]

UNKNOWN = "[UNK]"
# Runs that have a token each where code is kept; of blanks, those of GPT-NeoX and ModernBERT.
RUNS = {" ": 24, "\t": 8, "\n": 4}
RUN = "|".join(f"{character}{{2,{longest}}}" for character, longest in RUNS.items())
CONTINUING = "##"
# The characters of WordPiece; the rarer ones of a text are unknown.
CHARACTERS_SHARE = 4
IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF))
COUNTED_CHARACTERS = 1 << 20
# SentencePiece: sums depend on the number of threads, and so would the bytes.
THREADS = 16
LONGEST_SENTENCE = 1 << 20
# Lines are SentencePiece's sentences; what ends or indents them has a token of its own.
LINE_CONTROLS = "\n\t\r"
CONTROL_SCORE = -2.0
# So low that a text which spells the name of a byte's token, or of the unknown one, is not encoded
# as that.
NAME_SCORE = -1000.0
# Known however rare they are, so that no digit becomes a byte.
ASCII = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, kw_only=True)
class TokenizerKind:
    """What kind of tokenizer is trained.

    Attributes:
        model: a name of ``TRAINERS``.
        split_digits: every digit is a token of its own.
        code: runs of blanks, tabs and newlines have a token each.
    """

    model: str = "bpe"
    split_digits: bool = False
    code: bool = False

    @property
    def runs(self) -> list[str]:
        """The runs of white space that are tokens whatever the text has."""
        if not self.code:
            return []
        return [c * n for c, longest in RUNS.items() for n in range(2, longest + 1)]


def learn(kind: TokenizerKind, texts: Texts, size: int) -> Tokenizer:
    """A tokenizer of at most ``size`` tokens, those of runs included, without special ones.

    An unknown token is among them where the model has one.

    Raises:
        UserError: if there is no text, or it needs more tokens.
    """
    if kind.code and kind.model == "wordpiece":
        raise UserError("--code: WordPiece drops white space; take --model bpe or unigram")
    runs = kind.runs
    backend = TRAINERS[kind.model](kind, texts, size - len(runs))
    # Found in a text before it is cut into words, so training leaves them out.
    backend.add_tokens([AddedToken(run, normalized=False) for run in runs])
    return backend


def _bpe(kind: TokenizerKind, texts: Texts, size: int) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _check_size(size, len(alphabet), "the 256 bytes")
    digits = [pre_tokenizers.Digits(individual_digits=True)] if kind.split_digits else []
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    without_runs = [pre_tokenizers.Split(Regex(RUN), "removed")] if kind.code else []
    backend = Tokenizer(models.BPE())
    backend.decoder = decoders.ByteLevel()
    backend.pre_tokenizer = _in_turn([*without_runs, *digits, by_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    backend.train_from_iterator(_some(texts(READ)), trainer)
    backend.pre_tokenizer = _in_turn([*digits, by_bytes])
    return backend


def _wordpiece(kind: TokenizerKind, texts: Texts, size: int) -> Tokenizer:
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    by_words = pre_tokenizers.BertPreTokenizer()
    normalized = map(normalizer.normalize_str, _some(texts("count characters")))
    characters = _common_characters(normalized, size // CHARACTERS_SHARE)
    # Their numbers decide between equally frequent pairs. The trainer would give them as its hash
    # table has the words, another time in another order.
    inner = [f"{CONTINUING}{c}" for c in characters if not _is_ideograph(c)]
    initial = [UNKNOWN, *characters, *inner]
    _check_size(size, len(initial), f"the {len(characters)} characters of the text")
    backend = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    backend.normalizer = normalizer
    digits = [pre_tokenizers.Digits(individual_digits=True)] if kind.split_digits else []
    backend.pre_tokenizer = _in_turn([by_words, *digits])
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=initial,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        continuing_subword_prefix=CONTINUING,
        show_progress=False,
    )
    backend.train_from_iterator(texts(READ), trainer)
    vocabulary = json.loads(backend.to_str())["model"]["vocab"]
    made = Tokenizer(
        models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=CONTINUING)
    )
    made.normalizer = normalizer
    # Digits were apart in training, so no token has two of them, and none has to be cut out of a
    # word: 2024 is 2 ##0 ##2 ##4, which decodes as it was.
    made.pre_tokenizer = by_words
    made.decoder = decoders.WordPiece(prefix=CONTINUING)
    return made


def _unigram(kind: TokenizerKind, texts: Texts, size: int) -> Tokenizer:
    try:
        import sentencepiece
    except ModuleNotFoundError:
        raise UserError(
            "--model unigram trains with the package sentencepiece: uv pip install sentencepiece"
        ) from None
    _check_size(size - len(LINE_CONTROLS), 2 * 256, "the 256 bytes and as many characters")
    failed: list[BaseException] = []
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_kept_error(_lines(_some(texts(READ)), kind), failed),
            model_writer=written,
            model_type="unigram",
            vocab_size=size - len(LINE_CONTROLS),
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            byte_fallback=True,
            required_chars=ASCII,
            split_digits=kind.split_digits,
            max_sentence_length=LONGEST_SENTENCE,
            train_extremely_large_corpus=True,
            num_threads=THREADS,
            unk_id=0,
            unk_piece=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=3,
        )
    except (RuntimeError, StopIteration) as error:
        if failed:
            raise failed[0] from None
        raise UserError(
            f"the text and --vocab-size do not fit together ({first_line(error)})"
        ) from None
    if failed:
        raise failed[0]
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    is_name = [model.is_byte(i) or model.is_unknown(i) for i in range(model.get_piece_size())]
    vocabulary = [
        (model.id_to_piece(i), NAME_SCORE if named else model.get_score(i))
        for i, named in enumerate(is_name)
    ]
    known = {token for token, _ in vocabulary}
    vocabulary += [(c, CONTROL_SCORE) for c in LINE_CONTROLS if c not in known]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if kind.split_digits else []
    made.pre_tokenizer = _in_turn(
        [
            pre_tokenizers.Split(Regex(f"[{LINE_CONTROLS}]"), "isolated"),
            *digits,
            pre_tokenizers.Metaspace(prepend_scheme="never"),
        ]
    )
    made.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")]
    )
    return made


TRAINERS: dict[str, Callable[[TokenizerKind, Texts, int], Tokenizer]] = {
    "bpe": _bpe,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
}


def _in_turn(steps: list[pre_tokenizers.PreTokenizer]) -> pre_tokenizers.PreTokenizer:
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def _some(texts: Iterator[str]) -> Iterator[str]:
    """Raises UserError if there are none."""
    first = next(texts, None)
    if first is None:
        raise UserError("the inputs hold no usable text to train a tokenizer on")
    return itertools.chain([first], texts)


def _check_size(size: int, smallest: int, what: str) -> None:
    if size < smallest:
        raise UserError(
            f"--vocab-size leaves {max(size, 0)} tokens for text; {what} alone need {smallest}"
        )


def _common_characters(texts: Iterator[str], most: int) -> list[str]:
    """The most frequent characters of texts but white space, sorted."""
    counts = np.zeros(0x110000, np.int64)
    batch: list[str] = []
    size = 0
    for text in itertools.chain(texts, [""]):
        batch.append(text)
        size += len(text)
        if size >= COUNTED_CHARACTERS or not text:
            codes = np.frombuffer("".join(batch).encode("utf-32-le"), np.uint32)
            counts += np.bincount(codes, minlength=len(counts))
            batch, size = [], 0
    found = np.flatnonzero(counts)
    by_frequency = found[np.argsort(-counts[found], kind="stable")]
    characters = [chr(code) for code in by_frequency.tolist() if not chr(code).isspace()]
    return sorted(characters[:most])


def _is_ideograph(character: str) -> bool:
    """Whether BERT's normalizer puts blanks around it, so that it is always a word."""
    return any(first <= ord(character) <= last for first, last in IDEOGRAPHS)


def _lines(texts: Iterator[str], kind: TokenizerKind) -> Iterator[str]:
    cut = re.compile(f"[{LINE_CONTROLS}]+" + (f"|{RUN}" if kind.code else ""))
    for text in texts:
        for line in filter(None, cut.split(text)):
            for start in range(0, len(line), LONGEST_SENTENCE // 4):
                yield line[start : start + LONGEST_SENTENCE // 4]


def _kept_error(lines: Iterator[str], failed: list[BaseException]) -> Iterator[str]:
    """The lines; an exception ends them and is kept, since C++ would give another in its place."""
    try:
        yield from lines
    except BaseException as error:
        failed.append(error)
