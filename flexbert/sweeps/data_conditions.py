"""What decides which rows a run trains on, what is masked in them, and what it is evaluated on.

Each is name and value of all that it depends on, so that two recipes with the same have the same.
Rows come in the order of a stage's stream, whatever the batch is: a larger one takes more of them
in an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flexbert.config.encode import encode
from flexbert.config.fields import ORDER
from flexbert.config.keys import leaves
from flexbert.config.recipe import Recipe
from flexbert.config.tree import flatten
from flexbert.data.packing.order_description import describe_order
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import sampling_stream
from flexbert.data.reading.corpus import Split
from flexbert.schedule.stages import Stage

# Keys of ``data`` that decide masks and not rows.
_MASKS = ("data.mask_rate", "data.masking", "data.mask_split")
Conditions = Mapping[str, Any]


def order_conditions(stage: Stage, train: Mapping[str, Split] | None) -> Conditions:
    """What the rows of a stage follow from, and their order.

    Args:
        train: the training split of each source; where None, its path stands for it.
    """
    data = stage.recipe.data
    if train is None:
        described = {"stage": stage.name, "seed": stage.recipe.seed, **_places(stage.recipe)}
        described |= {leaf.path: leaf.value for leaf in leaves(data, "data") if leaf.role is ORDER}
    else:
        key = StreamKey(stage.recipe.seed, stage.name)
        described = describe_order(sampling_stream(train, data), train, data, key)
    return {name: value for name, value in described.items() if not _of_masks(name)}


def mask_conditions(stage: Stage) -> Conditions:
    """What the masks of a stage's training follow from, besides its rows."""
    recipe = stage.recipe
    described = {
        leaf.path: leaf.value for leaf in leaves(recipe.data, "data") if _of_masks(leaf.path)
    }
    if recipe.mask_rate_schedule is not None:
        # The rate follows the stage's clock.
        described |= flatten({"mask_rate_schedule": encode(recipe.mask_rate_schedule)})
        described |= {"duration": str(recipe.duration), **flatten({"batch": encode(recipe.batch)})}
        described.pop("batch.microbatch_rows", None)
    return described


def evaluation_conditions(
    recipe: Recipe, train: Mapping[str, Split] | None, validation: Mapping[str, Split] | None
) -> Conditions:
    """What the texts and masks of a stage's evaluations follow from; a seed is not in it.

    Args:
        train, validation: of each source; where None, its path stands for it.
    """
    data, evaluation = recipe.data, recipe.evaluation
    described: dict[str, Any] = {
        **flatten({"data.mask_split": encode(data.mask_split)}),
        **flatten({"evaluation.masking": encode(evaluation.masking_of(data))}),
        "data.max_length": data.max_length,
        "data.merge_below": data.merge_below,
        "evaluation.mask_rate": evaluation.mask_rate,
        "evaluation.rows": evaluation.rows,
    }
    if evaluation.rows is not None:
        # The first rows of a split: which chunks they hold is a matter of packing.
        described["data.row_length"] = data.row_length
        described["data.packing_window"] = data.packing_window
    if validation is None or train is None:
        return {**described, **_places(recipe)}
    shares = sampling_stream(train, data).mixture.source_shares
    for name, split in validation.items():
        described[f"{name}.tokenizer"] = split.meta.tokenizer_sha256
        described[f"{name}.validation"] = split.fingerprint
        described[f"{name}.evaluation_rows"] = evaluation.rows_of(shares[name])
    return described


def _places(recipe: Recipe) -> dict[str, Any]:
    return {
        f"{name}.{what}": str(value)
        for name, source in recipe.data.all_sources.items()
        for what, value in (("path", source.path), ("remote", source.remote))
        if value is not None
    }


def _of_masks(name: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in _MASKS)
