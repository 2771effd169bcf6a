"""What a run's corpora say of themselves, where they still lie where the run read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flexbert.config.plain_values import as_dict, dict_of
from flexbert.data.reading.corpus import Corpus
from flexbert.errors import UserError
from flexbert.files.regular import load_json
from flexbert.manifest_file import CorpusRecord

_HUB = "hf:"
_TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """
    Attributes:
        name: of its folder, which says nothing of where that lies.
        fingerprint: of the training split, as the run read it.
        documents, tokens: of the training split; None where the corpus is not there any more, or
            is another one by now.
        datasets: of the Hugging Face Hub that it was made of, as far as that is known.
    """

    name: str
    fingerprint: str
    documents: int | None = None
    tokens: int | None = None
    datasets: tuple[str, ...] = ()


def corpus_facts(recorded: Mapping[str, CorpusRecord]) -> dict[str, CorpusFacts]:
    """By source, as the run's manifest names them."""
    return {source: _facts(corpus) for source, corpus in recorded.items()}


def _facts(recorded: CorpusRecord) -> CorpusFacts:
    folder = Path(recorded.path)
    fingerprint = recorded.splits.get(_TRAIN, "")
    unknown = CorpusFacts(name=folder.name, fingerprint=fingerprint)
    try:
        corpus = Corpus.open(folder)
        split = corpus.split(_TRAIN, verify_hashes=False)
        try:
            if split.fingerprint != fingerprint:
                return unknown
        finally:
            split.close()
    except (UserError, OSError):
        return unknown
    counts = corpus.meta.splits[_TRAIN]
    return CorpusFacts(
        name=folder.name,
        fingerprint=fingerprint,
        documents=counts.documents,
        tokens=counts.tokens,
        datasets=_datasets(folder / "report.json"),
    )


def _datasets(report: Path) -> tuple[str, ...]:
    try:
        inputs = dict_of(as_dict(load_json(report)), "inputs")
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    names = {
        name.removeprefix(_HUB).split(":")[0].split("@")[0]
        for name in inputs
        if name.startswith(_HUB)
    }
    # A dataset that was a local folder has a name without an owner.
    return tuple(sorted(name for name in names if "/" in name))
