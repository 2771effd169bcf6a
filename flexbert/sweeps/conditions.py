"""What is held equal between a point of a sweep and its reference, from their recipes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.tree import flatten
from flexbert.schedule.stages import all_stages
from flexbert.sweeps.counts import KnownCorpora, RecipeCounts, counts_of
from flexbert.sweeps.data_conditions import (
    Conditions,
    evaluation_mask_conditions,
    evaluation_text_conditions,
    mask_conditions,
    names_of_changed,
    order_conditions,
)
from flexbert.sweeps.initial_weights import shared_weights

TOKENS, UPDATES = "tokens", "updates"
ORDER, MASKS, EVALUATION = "data order", "training masks", "evaluation"
WEIGHTS, PARAMETERS = "initial weights", "parameters"
FLOPS, ALL_FLOPS = "FLOPs a token", "FLOPs in all"
PRECISION = "precision"
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


# By the stage's name.
ByStage: TypeAlias = Mapping[str, Conditions]


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
    order: ByStage
    masks: ByStage
    texts: Conditions
    evaluation_masks: Conditions
    model: ModelConfig
    begins_from: Mapping[str, Any]
    arithmetic: ByStage


def conditions_of(loaded: LoadedRecipe, corpora: KnownCorpora) -> PointConditions:
    """The conditions of a recipe.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    stages = all_stages(loaded.stages)
    first, last = stages[0].recipe, stages[-1].recipe

    return PointConditions(
        counts=counts_of(loaded, corpora),
        order={s.name: order_conditions(s, corpora.splits(s.recipe.data, "train")) for s in stages},
        masks={stage.name: mask_conditions(stage) for stage in stages},
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
        arithmetic={
            s.name: {
                "precision": s.recipe.precision,
                "deterministic": str(s.recipe.deterministic),
            }
            for s in stages
        },
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
    order = _changed_by_stage(own.order, reference.order)
    yield Finding(condition=ORDER, problem=order and f"another data order ({order})")
    masks = _changed_by_stage(own.masks, reference.masks)
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
    arithmetic = _arithmetic(own.arithmetic, reference.arithmetic)
    yield Finding(condition=PRECISION, problem=", ".join(arithmetic) or None)


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


def _changed_by_stage(own: ByStage, reference: ByStage) -> str | None:
    """The names of what differs in stages that both have, and of stages that one lacks."""
    return names_of_changed(_next_to(own, reference), _next_to(reference, own))


def _next_to(own: ByStage, other: ByStage) -> Conditions:
    """The conditions of all stages by name, to be held against the other's."""
    if len(own) == len(other) == 1:
        return next(iter(own.values()))
    found: dict[str, str] = {}
    for stage, conditions in own.items():
        if stage in other:
            found |= {f"stages.{stage}.{name}": value for name, value in conditions.items()}
        else:
            found[f"stages.{stage}"] = "there"
    return found


def _arithmetic(own: ByStage, reference: ByStage) -> list[str]:
    """What differs, each once; a stage that one lacks is held against that one's last stage."""
    single = len(own) == len(reference) == 1
    found: dict[str, None] = {}
    for stage in {**reference, **own}:
        now, was = (each.get(stage, list(each.values())[-1]) for each in (own, reference))
        for name, value in now.items():
            if value != was[name]:
                key = name if single else f"stages.{stage}.{name}"
                found[f"{key} {value}, not {was[name]}"] = None
    return list(found)


def _evaluation(own: PointConditions, reference: PointConditions) -> str | None:
    texts = names_of_changed(own.texts, reference.texts)
    masks = names_of_changed(own.evaluation_masks, reference.evaluation_masks)
    if texts is None:
        return masks and f"evaluated with other masks ({masks})"
    return "evaluated on other texts" + (f", with other masks ({masks})" if masks else "")


def _weights(own: PointConditions, reference: PointConditions) -> str | None:
    changed = names_of_changed(own.begins_from, reference.begins_from)
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
