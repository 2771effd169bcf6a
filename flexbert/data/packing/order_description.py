"""Everything that a stage's data order depends on, so that a resumed run is sure to have the same.

What a row holds and what is masked in it follow from these values and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from flexbert.config.data import DataConfig
from flexbert.config.encode import encode
from flexbert.data.packing.position import OrderDescription, StreamKey
from flexbert.data.packing.row_stream import RowStream
from flexbert.data.reading.corpus import Split
from flexbert.errors import UserError

ORDER_FORMAT = 1  # changes whenever this code would give another order for the same values


def describe_order(
    stream: RowStream, splits: Mapping[str, Split], config: DataConfig, key: StreamKey
) -> OrderDescription:
    """Name and value of everything that the order, and the masks, of a stage depend on."""
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
    described |= {
        "data.max_length": config.max_length,
        "data.merge_below": config.merge_below,
        "data.row_length": config.row_length,
        "data.packing_window": config.packing_window,
        "data.mask_rate": config.mask_rate,
        **{f"data.mask_split.{name}": value for name, value in encode(config.mask_split).items()},
        **{f"data.sampler.{name}": value for name, value in encode(config.sampler).items()},
    }
    return described


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
