"""What decides which rows a run trains on, what is masked in them, and what it is evaluated on.

Each is name and value of all that it depends on, so that two recipes with the same have the same.
Rows come in the order of a stage's stream, whatever the batch is: a larger one takes more of them
in an update.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from flexbert.config.data import DataConfig
from flexbert.config.encode import encode
from flexbert.config.fields import ORDER
from flexbert.config.keys import leaves
from flexbert.config.recipe import Recipe
from flexbert.config.tree import flatten
from flexbert.data.packing.order_description import describe_order
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import evaluation_stream, sampling_stream
from flexbert.data.reading.corpus import Split
from flexbert.schedule.stages import Stage

# Keys of ``data`` that decide masks and not rows.
_MASKS = ("data.mask_rate", "data.masking", "data.mask_split")
# Of what differs, in a message.
_MOST_NAMES = 3
# Each value as text.
Conditions: TypeAlias = Mapping[str, str]


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
    return _texts({name: value for name, value in described.items() if not _of_masks(name)})


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
    return _texts(described)


def evaluation_text_conditions(
    recipe: Recipe, train: Mapping[str, Split] | None, validation: Mapping[str, Split] | None
) -> Conditions:
    """Which chunks of the validation splits a stage's evaluations read; a seed is not in it.

    Args:
        train, validation: of each source. Where they are there, the chunks themselves count, not
            how they came to be chosen.
    """
    data = recipe.data
    if validation is None or train is None:
        return {**evaluation_cut(recipe), **_texts(_places(recipe))}
    shares = sampling_stream(train, data).mixture.source_shares
    described: dict[str, Any] = {}
    for name, split in validation.items():
        described[f"{name}.tokenizer"] = split.meta.tokenizer_sha256
        described[f"{name}.shards"] = split.fingerprint
        described[f"{name}.chunks"] = _chunks(split, data, recipe.evaluation.rows_of(shares[name]))
    return _texts(described)


def evaluation_cut(recipe: Recipe) -> Conditions:
    """Keys that decide which chunks of a corpus a stage's evaluations read."""
    data, rows = recipe.data, recipe.evaluation.rows
    cut = {f"data.{key}": getattr(data, key) for key in ("max_length", "merge_below")}
    packed = {f"data.{key}": getattr(data, key) for key in ("row_length", "packing_window")}
    # All of a split is the same in any rows.
    return _texts({**cut, **(packed if rows else {}), "evaluation.rows": rows})


def evaluation_mask_conditions(recipe: Recipe) -> Conditions:
    """What the masks of a stage's evaluations follow from, besides the chunks.

    A chunk is masked in the same way in every row, run and step; a seed is not in it.
    """
    return _texts(
        {
            "data.mask_split": encode(recipe.data.mask_split),
            "evaluation.mask_rate": recipe.evaluation.mask_rate,
            "evaluation.masking": encode(recipe.evaluation.masking_of(recipe.data)),
        }
    )


def names_of_changed(own: Mapping[str, Any], reference: Mapping[str, Any]) -> str | None:
    """The names of what differs, the first few of many; None where nothing does."""
    changed = [name for name in {**reference, **own} if own.get(name) != reference.get(name)]
    more = f" and {len(changed) - _MOST_NAMES} more" if len(changed) > _MOST_NAMES else ""
    return ", ".join(changed[:_MOST_NAMES]) + more if changed else None


def _chunks(split: Split, data: DataConfig, rows: int | None) -> str:
    """A hash of the chunks of the first rows, or of all, in no order: number and length of each."""
    stream = evaluation_stream(split, data)
    windows = itertools.islice(stream.packing_windows(), stream.packing_windows_per_epoch)
    chosen = itertools.islice((w.row(i) for w in windows for i in range(w.num_rows)), rows)
    drawn = [row.drawn for row in chosen]
    numbers = np.concatenate([each.numbers for each in drawn])
    lengths = np.concatenate([each.lengths for each in drawn])
    documents, starts, _ = stream.mixture.buckets[0].chunks.locate(numbers)
    order = np.lexsort((starts, documents))
    found = np.stack([documents[order], starts[order], lengths[order]]).astype(np.int64)
    return hashlib.sha256(found.tobytes()).hexdigest()


def _texts(values: Mapping[str, Any]) -> Conditions:
    return {name: repr(value) for name, value in flatten(values).items()}


def _places(recipe: Recipe) -> dict[str, Any]:
    return {
        f"{name}.{what}": str(value)
        for name, source in recipe.data.all_sources.items()
        for what, value in (("path", source.path), ("remote", source.remote))
        if value is not None
    }


def _of_masks(name: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in _MASKS)
