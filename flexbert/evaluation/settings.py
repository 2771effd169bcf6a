"""What is evaluated on what: as the run evaluated itself, or as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flexbert.config.data import DataConfig
from flexbert.config.decode import decode
from flexbert.config.masking_choice import SINGLE_TOKENS, MaskingConfig
from flexbert.config.recipe import Precision
from flexbert.config.recipe_files import DEFAULTS
from flexbert.config.training import EvaluationConfig
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.mixture import training_mixture
from flexbert.errors import ConfigError, UserError
from flexbert.files.private_folder import default_cache
from flexbert.pretrained.load_model import ReadModel
from flexbert.pretrained.vocabulary import vocabulary_difference

DEFAULT_MASK_RATE = 0.15
# Of a model that does not say how long its documents were.
DEFAULT_LENGTH = 512
# Rows of about this many tokens fill a forward pass.
TOKENS_PER_FORWARD = 1 << 14
VALIDATION = "validation"


@dataclass(frozen=True, kw_only=True)
class LmRequest:
    """What was asked for; None is as in the run that trained the model, or a default without one.

    Attributes:
        corpora: folder of each source; empty means those of the run.
        split: of each corpus.
        max_length: longer documents are cut, in tokens.
        mask_rate: share of the ordinary tokens to predict.
        rows: packed rows of each source at most; ``"all"`` of them.
        floors: whether counts of the training split predict the same tokens too.
        pseudo_perplexity: number of sequences of each source to mask token by token.
        device: as torch names it; None is a GPU where there is one.
    """

    corpora: Mapping[str, Path] = field(default_factory=dict)
    split: str = VALIDATION
    max_length: int | None = None
    mask_rate: float | None = None
    rows: int | str | None = None
    precision: Precision | None = None
    floors: bool = False
    pseudo_perplexity: int = 0
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class LmSource:
    """One corpus to evaluate on.

    Attributes:
        training: the split that counts are made of; None where the corpus has none.
        rows: packed rows at most; None is all.
    """

    split: Split
    training: Split | None
    rows: int | None


@dataclass(frozen=True, kw_only=True)
class LmSettings:
    """What is evaluated, settled."""

    data: DataConfig
    mask_rate: float
    masking: MaskingConfig
    precision: Precision
    sources: Mapping[str, LmSource]
    notes: tuple[str, ...]


def settle(read: ReadModel, request: LmRequest) -> LmSettings:
    """Raises UserError if there is no corpus, or the model cannot read it or sequences so long."""
    notes: list[str] = []
    data = _data(read, request)
    most = read.config.embedding.max_length
    if most is not None and data.max_length > most:
        raise UserError(
            f"--max-length {data.max_length}: the model has positions for {most} tokens; give "
            f"--max-length {most}"
        )
    if read.max_length is not None and data.max_length > read.max_length:
        notes.append(f"sequences of up to {data.max_length} tokens; trained on {read.max_length}")
    corpora = Corpora.open(data)
    _check_vocabulary(read, corpora, notes)
    evaluation = _evaluation_of_run(read)
    rows = _rows(request, evaluation, data, corpora)
    splits = corpora.splits(request.split)
    rate = request.mask_rate
    if rate is None:
        rate = DEFAULT_MASK_RATE if evaluation is None else evaluation.mask_rate
    return LmSettings(
        data=data,
        mask_rate=rate,
        masking=SINGLE_TOKENS if evaluation is None else evaluation.masking_of(data),
        precision=request.precision or read.recipe.get("precision", "fp32"),
        sources={
            name: LmSource(
                split=split,
                training=_training_split(corpora, name) if request.floors else None,
                rows=rows[name],
            )
            for name, split in splits.items()
        },
        notes=tuple(notes),
    )


def _rows(
    request: LmRequest, evaluation: EvaluationConfig | None, data: DataConfig, corpora: Corpora
) -> dict[str, int | None]:
    """How many rows of each source at most; those of a run are shared out as its tokens are."""
    if request.rows is None and not request.corpora and evaluation is not None and evaluation.rows:
        cache = data.cache or default_cache()
        mixture = training_mixture(corpora.splits("train"), data, 0, "", cache)
        return {name: evaluation.rows_of(share) for name, share in mixture.source_shares.items()}
    rows = request.rows if isinstance(request.rows, int) else None
    return dict.fromkeys(corpora.by_source, rows)


def _data(read: ReadModel, request: LmRequest) -> DataConfig:
    """The run's ``data``, with what was asked for in its place."""
    trained = read.recipe.get("data", {})
    # A model that was saved alone says no more of its data than their length.
    known: dict[str, Any] = dict(trained) if "row_length" in trained else {}
    if not request.corpora and not (known.get("path") or known.get("sources")):
        raise UserError(f"{read.path}: names no corpus to evaluate on; give --corpus FOLDER")
    tree: dict[str, Any] = {
        **DEFAULTS["data"],
        "mask_rate": DEFAULT_MASK_RATE,
        "max_length": read.max_length or read.config.embedding.max_length or DEFAULT_LENGTH,
        **known,
    }
    if request.max_length is not None:
        tree["max_length"] = request.max_length
        tree["merge_below"] = min(tree.get("merge_below", 0), max(request.max_length - 2, 0))
    # A row is what one forward pass of a process takes at least.
    tree["row_length"] = max(tree.get("row_length", 0), tree["max_length"])
    if request.corpora:
        for key in ("path", "remote", "cache_limit", "tokenizer", "size_exponent"):
            tree.pop(key, None)
        tree["sources"] = {name: {"path": str(path)} for name, path in request.corpora.items()}
    try:
        data = decode(DataConfig, tree)
    except ConfigError as error:
        raise UserError(f"{read.path}: its data cannot be evaluated on ({error})") from None
    # Read in this process: to start others takes longer than most evaluations read.
    return replace(data, num_workers=0)


def _evaluation_of_run(read: ReadModel) -> EvaluationConfig | None:
    tree = read.recipe.get("evaluation")
    return None if tree is None else decode(EvaluationConfig, tree)


def _check_vocabulary(read: ReadModel, corpora: Corpora, notes: list[str]) -> None:
    folder = corpora.first.folder
    if corpora.meta.vocab_size > read.config.vocab_size:
        raise UserError(
            f"{folder}: its tokenizer has {corpora.meta.vocab_size:,} ids, and the model "
            f"{read.config.vocab_size:,}; make the corpus with the model's tokenizer"
        )
    if not read.tokenizer:
        notes.append(f"{read.path} has no tokenizer to compare the corpus's with")
    elif difference := vocabulary_difference(corpora.tokenizer, read.tokenizer):
        raise UserError(
            f"{folder}: made with another tokenizer than the model's: {difference}; make the "
            "corpus with the model's (python -m data_prep corpus --tokenizer)"
        )


def _training_split(corpora: Corpora, name: str) -> Split | None:
    corpus = corpora.by_source[name]
    if "train" not in corpus.meta.splits or not corpus.meta.splits["train"].documents:
        return None
    return corpus.split("train", verify_hashes=False)
