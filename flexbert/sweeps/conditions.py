"""What is held equal between a point of a sweep and its reference, from their recipes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.tree import changed_keys, flatten
from flexbert.schedule.stages import all_stages
from flexbert.sweeps.counts import KnownCorpora, RecipeCounts, counts_of
from flexbert.sweeps.data_conditions import (
    Conditions,
    evaluation_mask_conditions,
    evaluation_text_conditions,
    mask_conditions,
    order_conditions,
)
from flexbert.sweeps.initial_weights import shared_weights

TOKENS, UPDATES = "tokens", "updates"
ORDER, MASKS, EVALUATION = "data order", "training masks", "evaluation"
WEIGHTS, PARAMETERS = "initial weights", "parameters"
FLOPS, ALL_FLOPS = "FLOPs a token", "FLOPs in all"
PRECISION = "precision"
# Keys that a message shows of those that differ.
_MOST_KEYS = 3
# Of the reference's weights: fewer than that are biases and norms.
_FEW = 0.05


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Whether a point has a condition as the reference has it.

    Attributes:
        problem: None if it has; otherwise a clause about the point, "1.6 percent more parameters",
            or nothing where that of another condition says it.
    """

    condition: str
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """How long a run is, planned or recorded, and what a token of it costs."""

    tokens: int
    updates: int
    flops_per_token: float

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return self.tokens * self.flops_per_token


@dataclass(frozen=True, kw_only=True)
class PointConditions:
    """What is known of a point, with one seed, before it is trained.

    Attributes:
        order, masks: of the rows that training reads, by stage; see
            :mod:`flexbert.sweeps.data_conditions`.
        texts, evaluation_masks: of the last stage, whose last evaluation stands for the run.
        begins_from: where weights are taken from, if they are not drawn.
        arithmetic: in which numbers the model is computed.
    """

    counts: RecipeCounts
    order: Conditions
    masks: Conditions
    texts: Conditions
    evaluation_masks: Conditions
    model: ModelConfig
    begins_from: Mapping[str, Any]
    arithmetic: Mapping[str, str]


def conditions_of(loaded: LoadedRecipe, corpora: KnownCorpora) -> PointConditions:
    """The conditions of a recipe.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    stages = all_stages(loaded.stages)
    first, last = stages[0].recipe, stages[-1].recipe

    def by_stage(conditions: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        if len(stages) == 1:
            return conditions[0]
        return {
            f"stages.{stage.name}.{name}": value
            for stage, own in zip(stages, conditions, strict=True)
            for name, value in own.items()
        }

    return PointConditions(
        counts=counts_of(loaded, corpora),
        order=by_stage(
            [order_conditions(s, corpora.splits(s.recipe.data, "train")) for s in stages]
        ),
        masks=by_stage([mask_conditions(stage) for stage in stages]),
        texts=evaluation_text_conditions(
            last,
            corpora.splits(last.data, "train"),
            corpora.splits(last.data, "validation"),
        ),
        evaluation_masks=evaluation_mask_conditions(last),
        model=first.model,
        begins_from=flatten(
            {"init_from": encode(first.init_from), "start_from": encode(first.start_from)}
        ),
        arithmetic=by_stage(
            [
                {"precision": s.recipe.precision, "deterministic": str(s.recipe.deterministic)}
                for s in stages
            ]
        ),
    )


def compare_conditions(
    own: PointConditions, reference: PointConditions, tolerance: float
) -> Iterator[Finding]:
    """Every condition, held or not.

    Args:
        tolerance: by which share two counts may differ and be called equal.
    """
    lengths = [
        RunLength(
            tokens=counts.tokens, updates=counts.updates, flops_per_token=counts.flops_per_token
        )
        for counts in (own.counts, reference.counts)
    ]
    yield from compare_lengths(lengths[0], lengths[1], tolerance)
    order = _changed(own.order, reference.order)
    yield Finding(condition=ORDER, problem=order and f"another data order ({order})")
    masks = _changed(own.masks, reference.masks)
    other_masks = masks and f"other masks in training ({masks})"
    # Other rows have other masks, which goes without saying.
    yield Finding(condition=MASKS, problem=other_masks if order is None else "")
    yield Finding(condition=EVALUATION, problem=_evaluation(own, reference))
    yield Finding(condition=WEIGHTS, problem=_weights(own, reference))
    yield Finding(
        condition=PARAMETERS, problem=_parameters(own.counts, reference.counts, tolerance)
    )
    yield Finding(
        condition=FLOPS,
        problem=more_or_fewer(
            own.counts.flops_per_token, reference.counts.flops_per_token, FLOPS, tolerance
        ),
    )
    arithmetic = changed_keys(dict(reference.arithmetic), dict(own.arithmetic))
    shown = ", ".join(f"{key} {now}, not {was}" for key, (was, now) in arithmetic.items())
    yield Finding(condition=PRECISION, problem=shown or None)


def compare_lengths(own: RunLength, reference: RunLength, tolerance: float) -> Iterator[Finding]:
    """The findings of tokens, updates and FLOPs in all."""
    tokens = more_or_fewer(own.tokens, reference.tokens, TOKENS, tolerance)
    updates = more_or_fewer(own.updates, reference.updates, UPDATES, tolerance)
    each = more_or_fewer(own.flops_per_token, reference.flops_per_token, FLOPS, tolerance)
    if updates is not None and tokens is None:
        updates += " at the same tokens"
    yield Finding(condition=TOKENS, problem=tokens)
    yield Finding(condition=UPDATES, problem=updates)
    whole = more_or_fewer(own.flops, reference.flops, ALL_FLOPS, tolerance)
    if whole is not None and (tokens is None or each is None):
        whole = ""  # only one of the two differs, and says it
    yield Finding(condition=ALL_FLOPS, problem=whole)


def more_or_fewer(own: float, reference: float, what: str, tolerance: float) -> str | None:
    """In words by how much a count is off; None where it is equal within the tolerance."""
    if abs(own - reference) <= tolerance * reference:
        return None
    if reference == 0 or own == 0:
        return f"{own:,g} {what}, not {reference:,g}"
    ratio = own / reference
    if ratio >= 2:
        return f"{ratio:.3g} times as many {what}"
    if ratio <= 0.5:
        return f"{1 / ratio:.3g} times fewer {what}"
    return f"{100 * abs(ratio - 1):.2g} percent {'more' if ratio > 1 else 'fewer'} {what}"


def _parameters(own: RecipeCounts, reference: RecipeCounts, tolerance: float) -> str | None:
    whole, encoder = (
        more_or_fewer(getattr(own, name), getattr(reference, name), what, tolerance)
        for name, what in (
            ("parameters", PARAMETERS),
            ("encoder_parameters", "parameters in the encoder"),
        )
    )
    if whole is not None and encoder is not None:
        return f"{whole} ({encoder.removesuffix(' parameters in the encoder')} in the encoder)"
    return whole or encoder


def _evaluation(own: PointConditions, reference: PointConditions) -> str | None:
    texts = _changed(own.texts, reference.texts)
    masks = _changed(own.evaluation_masks, reference.evaluation_masks)
    if texts is None:
        return masks and f"evaluated with other masks ({masks})"
    return "evaluated on other texts" + (f", with other masks ({masks})" if masks else "")


def _weights(own: PointConditions, reference: PointConditions) -> str | None:
    changed = _changed(own.begins_from, reference.begins_from)
    if changed is not None:
        return f"begins from other weights ({changed})"
    if own.model == reference.model:
        return None
    shared = shared_weights(own.model, reference.model)
    if shared.count < _FEW * reference.counts.parameters:
        return "next to no weights of the same shape"
    if shared.equal == shared.count:
        return None
    return f"{shared.equal / shared.count:.0%} of the weights that both have begin equal"


def _changed(own: Mapping[str, Any], reference: Mapping[str, Any]) -> str | None:
    """The names of what differs."""
    changed = [name for name in {**reference, **own} if own.get(name) != reference.get(name)]
    more = f" and {len(changed) - _MOST_KEYS} more" if len(changed) > _MOST_KEYS else ""
    return ", ".join(changed[:_MOST_KEYS]) + more if changed else None
