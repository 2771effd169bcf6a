"""Whether losses of two runs are over the same tokens: others do not compare at all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.components import register_all
from flexbert.config.by_metric import is_own_metric
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import decode_resolved
from flexbert.errors import UserError
from flexbert.manifest_file import Manifest
from flexbert.metrics_file import Record, read_metrics
from flexbert.report.recorded_run import recorded_recipe
from flexbert.sweeps.counts import KnownCorpora
from flexbert.sweeps.data_conditions import (
    evaluation_cut,
    evaluation_mask_conditions,
    evaluation_text_conditions,
    names_of_changed,
)
from flexbert.sweeps.outcomes import RunOutcome
from flexbert.sweeps.sweep_cells import ComparedPoints, Incomparable

COUNTED = "eval_masked_tokens"
_TRAINING_LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class EvaluatedTokens:
    """What a run's last evaluation was over.

    Attributes:
        tokenizers, validation: fingerprints of each source's tokenizer and validation split, in the
            order of their digits: names of sources decide nothing. Empty where not recorded.
        masked: tokens that the loss is a mean over; None where that is not recorded.
        recipe: of the stage; None where it cannot be read.
    """

    tokenizers: tuple[str, ...]
    validation: tuple[str, ...]
    masked: float | None
    recipe: Recipe | None = None

    @classmethod
    def of(
        cls, records: Sequence[Record], manifest: Manifest | None, recipe: Recipe | None = None
    ) -> EvaluatedTokens:
        """What a run has recorded of it; one without a manifest has its numbers all the same."""
        counts = [each.numbers[COUNTED] for each in records if COUNTED in each.numbers]
        stage = None if manifest is None else manifest.stages.get(evaluated_stage(records))
        corpora = [] if stage is None else list(stage.corpora.values())
        return cls(
            tokenizers=tuple(sorted(each.tokenizer_sha256 for each in corpora)),
            validation=tuple(sorted(each.splits.get("validation", "") for each in corpora)),
            masked=counts[-1] if counts and math.isfinite(counts[-1]) else None,
            recipe=recipe,
        )


def evaluated_stage(records: Sequence[Record]) -> str:
    """The stage of the last evaluation; without any, that of the last record."""
    evaluations = [each for each in records if each.event == "eval"]
    return (evaluations or records)[-1].stage


def other_corpus(own: EvaluatedTokens, reference: EvaluatedTokens) -> str | None:
    """How one was evaluated where its corpus is another one: "on another corpus"; None if not."""
    if other_tokenizer(own, reference):
        return "with another tokenizer"
    if own.validation and reference.validation and own.validation != reference.validation:
        return "on another corpus"
    return None


def other_tokenizer(own: EvaluatedTokens, reference: EvaluatedTokens) -> bool:
    """Whether both tokenizers are known, and are two."""
    # A tokenizer that two sources share counts once.
    ours, theirs = set(own.tokenizers), set(reference.tokenizers)
    return bool(ours and theirs) and ours != theirs


def other_count(own: EvaluatedTokens, reference: EvaluatedTokens) -> str | None:
    """The same of how many masked tokens there were."""
    if own.masked is None or reference.masked is None or own.masked == reference.masked:
        return None
    return f"over {own.masked:,.0f} masked tokens, not {reference.masked:,.0f}"


def incomparable_cells(sweep: ComparedPoints, outcomes: Sequence[RunOutcome]) -> Incomparable:
    """Cells of the table whose numbers do not compare with the reference's, and why.

    Of losses and accuracies of the run's own evaluations: with another tokenizer, or over other
    tokens. Of the training loss: with another tokenizer. Tasks' metrics and speeds compare.
    """
    measures = [each for each in sweep.measures if is_own_metric(each) or each == _TRAINING_LOSS]
    base = [each for each in outcomes if each.run.point.label == sweep.reference.label]
    if not measures or not base:
        return {}
    register_all()
    corpora = KnownCorpora()
    reference = _read(base[0].run.folder)
    found: dict[tuple[str, str], str] = {}
    for outcome in outcomes:
        label = outcome.run.point.label
        if label == sweep.reference.label:
            continue
        own = _read(outcome.run.folder)
        evaluated = _evaluated_otherwise(own, reference, corpora)
        for measure in measures:
            if is_own_metric(measure):
                if evaluated is not None:
                    found.setdefault((label, measure), f"it is evaluated {evaluated}")
            elif other_tokenizer(own, reference):
                found.setdefault((label, measure), "it has another tokenizer")
    return found


def _read(folder: Path) -> EvaluatedTokens:
    records = read_metrics(folder)
    _, resolved = recorded_recipe(folder)
    recipe = manifest = None
    with contextlib.suppress(UserError):
        manifest = Manifest.read(folder)
    # One with a plugin, or of another version, cannot be read here; the rest is compared.
    with contextlib.suppress(UserError):
        recipe = decode_resolved(resolved).get(evaluated_stage(records)) if resolved else None
    return EvaluatedTokens.of(records, manifest, recipe)


def _evaluated_otherwise(
    own: EvaluatedTokens, reference: EvaluatedTokens, corpora: KnownCorpora
) -> str | None:
    """How a run was evaluated, where the reference was otherwise."""
    if (corpus := other_corpus(own, reference)) is not None:
        return corpus
    if own.recipe is not None and reference.recipe is not None:
        masks = names_of_changed(
            evaluation_mask_conditions(own.recipe), evaluation_mask_conditions(reference.recipe)
        )
        if masks is not None:
            return f"with other masks ({masks})"
        cut = names_of_changed(evaluation_cut(own.recipe), evaluation_cut(reference.recipe))
        if cut is not None and not _same_chunks(own.recipe, reference.recipe, corpora):
            return f"on other texts ({cut})"
    return other_count(own, reference)


def _same_chunks(own: Recipe, reference: Recipe, corpora: KnownCorpora) -> bool:
    """Whether corpora that are still there give both the same, though they were cut otherwise."""
    texts = []
    for recipe in (own, reference):
        try:
            splits = [corpora.splits(recipe.data, name) for name in ("train", "validation")]
        except UserError:
            return False
        if None in splits:
            return False
        texts.append(evaluation_text_conditions(recipe, *splits))
    return texts[0] == texts[1]
