"""Everything that a stage's data order depends on, so that a resumed run is sure to have the same.

What a row holds and what is masked in it follow from these values and, where the recipe has one,
from ``mask_rate_schedule``, with which no run may resume changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from flexbert.config.data import DataConfig
from flexbert.config.fields import ORDER
from flexbert.config.keys import leaves
from flexbert.data.packing.position import OrderDescription, StreamKey
from flexbert.data.packing.row_stream import RowStream
from flexbert.data.reading.corpus import Split
from flexbert.errors import UserError

ORDER_FORMAT = 1  # changes whenever this code would give another order for the same values


def describe_order(
    stream: RowStream, splits: Mapping[str, Split], config: DataConfig, key: StreamKey
) -> OrderDescription:
    """Name and value of everything that the order, and the masks, of a stage depend on.

    Of ``config`` those are the keys that declare it (:data:`flexbert.config.fields.ORDER`) and are
    not null.
    """
    described: OrderDescription = {"format": ORDER_FORMAT, "seed": key.seed, "stage": key.stage}
    for name, split in splits.items():
        described |= {
            f"{name}.tokenizer": split.meta.tokenizer_sha256,
            f"{name}.documents": split.num_documents,
            f"{name}.tokens": split.num_tokens,
            f"{name}.shards": split.fingerprint,
        }
        upsample = config.all_sources[name].upsample
        if upsample is not None and upsample.labels:
            described[f"{name}.labels"] = split.labels_hash
    for bucket, share in zip(stream.mixture.buckets, stream.mixture.shares.of_all, strict=True):
        described[f"{bucket.name}.share"] = float(f"{share:.12g}")
    return described | _order_keys(config)


def with_new_defaults(before: OrderDescription, config: DataConfig) -> OrderDescription:
    """A description from before some keys were there: with their defaults, as it was made.

    Args:
        config: of now; only its defaults count.
    """
    defaults: dict[str, Any] = {
        field.name: field.default for field in fields(config) if field.default is not MISSING
    }
    with_defaults = _order_keys(replace(config, **defaults))
    new = {path: value for path, value in with_defaults.items() if path.split(".")[1] in defaults}
    return {**new, **before}


def _order_keys(config: DataConfig) -> OrderDescription:
    return {
        leaf.path: leaf.value
        for leaf in leaves(config, "data")
        if leaf.role is ORDER and leaf.value is not None
    }


def require_same_order(before: OrderDescription, now: OrderDescription) -> None:
    """A run continues with the data it began with.

    Raises:
        UserError: naming everything that differs.
    """
    differences = [
        f"{name} ({before.get(name, 'absent')} -> {now.get(name, 'absent')})"
        for name in (*before, *(name for name in now if name not in before))
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise UserError(
            f"the data is not what this run was trained on so far: {', '.join(differences)}. Give "
            "it back what it had, or accept a new order that knows nothing of what was seen: "
            "data.accept_changed_order=true"
        )
