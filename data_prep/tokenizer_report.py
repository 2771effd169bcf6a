"""What a tokenizer was trained on, and how much text a token of it stands for, by input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from data_prep.corpus_report import MANY_UNKNOWN
from data_prep.input_report import listed
from data_prep.tokenizer_kinds import TokenizerKind
from data_prep.training_text import InputText, TrainingText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHOWN_INPUTS = 20


def describe_tokenizer(
    tokenizer: PreTrainedTokenizerFast, kind: TokenizerKind, text: TrainingText
) -> dict[str, Any]:
    """Describe a trained tokenizer; every value is plain JSON.

    ``fertility`` is measured on beginnings of documents that it was trained on; words are what
    white space separates.
    """
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    unknown = tokenizer.unk_token_id
    by_input = {
        name: {
            **_counts([of_name]),
            "fertility": _fertility(backend, of_name.kept, unknown),
        }
        for name, of_name in text.inputs.items()
    }
    measured: Counter[str] = Counter()
    for described in by_input.values():
        measured.update({k: v for k, v in described["fertility"].items() if isinstance(v, int)})
    return {
        **asdict(kind),
        "vocab_size": len(tokenizer),
        "input_bytes": text.size,
        "sampled_share": text.share,
        **_counts(text.inputs.values()),
        "skipped_files": dict(sorted(text.skipped.items())),
        "fertility": _with_ratios(measured),
        "inputs": by_input,
    }


def _counts(inputs: Collection[InputText]) -> dict[str, Any]:
    rejects: Counter[str] = Counter()
    for each in inputs:
        rejects.update(each.rejects)
    documents = sum(each.documents for each in inputs)
    return {
        "rows": documents + sum(rejects.values()),
        "documents": documents,
        "characters": sum(each.characters for each in inputs),
        "rejects": dict(sorted(rejects.items())),
    }


def _fertility(backend: Tokenizer, texts: Sequence[str], unknown: int | None) -> dict[str, Any]:
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    ids = [encoding.ids for encoding in encodings]
    return _with_ratios(
        {
            "measured_characters": sum(map(len, texts)),
            "words": sum(len(text.split()) for text in texts),
            "tokens": sum(map(len, ids)),
            "unknown_tokens": 0 if unknown is None else sum(each.count(unknown) for each in ids),
        }
    )


def _with_ratios(counts: Mapping[str, int]) -> dict[str, Any]:
    tokens = max(counts.get("tokens", 0), 1)
    return {
        **counts,
        "characters_per_token": counts.get("measured_characters", 0) / tokens,
        "words_per_token": counts.get("words", 0) / tokens,
        "unknown_share": counts.get("unknown_tokens", 0) / tokens,
    }


def format_tokenizer_report(report: Mapping[str, Any]) -> str:
    """The report as lines for people."""
    return "\n".join([*_training(report), *_table(report), *_warnings(report)])


def _training(report: Mapping[str, Any]) -> Iterator[str]:
    of = "all"
    if report["sampled_share"] < 1:
        of = (
            f"a sample, {report['sampled_share']:.2%} of {report['input_bytes']:,} bytes, the same "
            "share from every part of every input"
        )
    yield f"trained on     {of}"
    yield f"documents      {report['documents']:,}"
    yield f"characters     {report['characters']:,}"
    yield f"rejected rows  {listed(report['rejects'])}"
    yield f"skipped files  {listed(report['skipped_files'])}"


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    rows = dict(list(report["inputs"].items())[:SHOWN_INPUTS])
    shown = {name: described["fertility"] for name, described in rows.items()}
    if len(report["inputs"]) > 1:
        shown = {**shown, "all": report["fertility"]}
    width = min(max(map(len, (*shown, "input"))), 40)
    yield f"{'input':<{width}}  characters/token  words/token  unknown tokens"
    for name, measured in shown.items():
        yield (
            f"{name[-width:]:<{width}}  {measured['characters_per_token']:>16.2f}  "
            f"{measured['words_per_token']:>11.3f}  {measured['unknown_share']:>14.2%}"
        )
    if len(report["inputs"]) > SHOWN_INPUTS:
        yield f"({len(report['inputs']) - SHOWN_INPUTS} more inputs are in report.json)"


def _warnings(report: Mapping[str, Any]) -> Iterator[str]:
    share = report["fertility"]["unknown_share"]
    if share > MANY_UNKNOWN:
        yield (
            f"warning: {share:.1%} of the tokens are unknown ones, which are never predicted; a "
            "larger --vocab-size has more characters, --model bpe and unigram know every text"
        )
