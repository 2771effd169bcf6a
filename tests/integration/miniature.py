"""The shipped base recipe at a size that trains in seconds: three stages, shrunk by overrides."""

from __future__ import annotations

from tests.conftest import REPOSITORY, VOCAB_SIZE

BASE = REPOSITORY / "yamls" / "base.yaml"
LARGE = REPOSITORY / "yamls" / "large.yaml"

_SHRUNK = (
    "precision=fp32",
    f"model.vocab_size={VOCAB_SIZE}",
    "model.attention.windows.repeat=[global,16,16]",
    "data.max_length=64",
    "data.row_length=256",
    "data.packing_window=64",
    "batch.microbatch_rows=2",
    "schedule.warmup=3000tok",
    "evaluation={interval: 8ba, rows: 4}",
    "checkpoints.interval=5ba",
    "logging.interval=1ba",
    "stages.extend.data.max_length=256",
)
# 14 updates of 16 to 48 sequences of 64, then 8 and 6 of 12 of 256.
MINIATURE = (
    *_SHRUNK,
    "model.hidden_size=32",
    "model.num_layers=4",
    "model.attention.num_heads=2",
    "model.mlp.intermediate_size=48",
    "batch.size=48",
    "batch.warmup={start: 16, duration: 9000tok}",
    "stages.pretrain.duration=30000tok",
    "stages.extend.duration=24000tok",
    "stages.extend.batch.size=12",
    "stages.decay.duration=6ba",
    "stages.decay.evaluation.interval=2ba",
    "stages.decay.checkpoints.interval=2ba",
)
# The same for large, which begins from a miniature base.
LARGE_MINIATURE = (
    *_SHRUNK,
    "model.hidden_size=48",
    "model.num_layers=5",
    "model.attention.num_heads=3",
    "model.mlp.intermediate_size=80",
    "batch.size=48",
    "batch.warmup={start: 16, duration: 9000tok}",
    "stages.pretrain.duration=10ba",
    "stages.pretrain_lower.duration=3ba",
    "stages.extend={duration: 3ba, batch.size: 12}",
    "stages.decay={duration: 3ba, batch.size: 8}",
)
