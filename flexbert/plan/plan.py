"""What a plan says, typed: ``make_plan`` fills it, ``plan_text`` and ``--json`` print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.encode import encode
from flexbert.config.model import AttentionKind
from flexbert.config.plugins import Plugin
from flexbert.data.format.corpus_format import SplitMeta
from flexbert.nn.build import ParameterCounts
from flexbert.nn.flops import FORMULA
from flexbert.plan.checkpoint_sizes import CheckpointRoom, StageCheckpoints
from flexbert.plan.memory import Memory
from flexbert.plan.packing_efficiency import PackingEfficiency, StageLength
from flexbert.plan.stage_cost import Hardware, TokenCost


@dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """One layer of the model.

    Attributes:
        index: counted from 0.
        attention: ``global`` or ``local``.
        window: tokens that a local layer sees in all; None in a global one.
        theta: rotary base; None without rotary embeddings.
        block: name of its block in a recipe.
        mlp: name of its MLP in a recipe.
    """

    index: int
    attention: AttentionKind
    window: int | None
    theta: float | None
    block: str
    mlp: str


@dataclass(frozen=True, kw_only=True)
class WarmupBatch:
    """A global batch of the batch warmup: its sequences, and the updates that take it."""

    batch_size: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The global batch after its warmup, and how processes share it.

    Attributes:
        size: sequences of the stage's ``max_length``.
        tokens: of the batch, if every row were full.
        warmup: the smaller batches before it, in order.
        rows: packed rows of the batch.
        processes: how many share the rows.
        num_microbatches: that each process makes of its share.
        rows_per_microbatch: packed rows of each of them.
        idle_rows: share of the computed rows that are padding, between 0 and 1.
    """

    size: int
    tokens: int
    warmup: tuple[WarmupBatch, ...]
    rows: int
    processes: int
    num_microbatches: int
    rows_per_microbatch: int
    idle_rows: float


@dataclass(frozen=True, kw_only=True)
class MicrobatchPlan:
    """The largest micro-batch, and the memory that it takes.

    Attributes:
        rows: packed rows.
        rows_are: who chose them, in words.
        fitting: packed rows that the hardware's memory would take.
        memory: of one GPU with ``rows``.
    """

    rows: int
    rows_are: str
    fitting: int
    memory: Memory


@dataclass(frozen=True, kw_only=True)
class CorpusSummary:
    """A corpus that a stage draws from.

    Attributes:
        path: its folder.
        vocab_size: number of token ids.
        splits: counts of documents and tokens, by the split's name.
    """

    path: Path
    vocab_size: int
    splits: Mapping[str, SplitMeta]


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What one stage will do and cost.

    Attributes:
        lr: the peak learning rate.
        decay_begins: about which update the schedule's decay begins after, if it has one.
        max_length: tokens of a sequence, special tokens included.
        row_length: positions of a packed row.
        mask_rate: share of tokens to predict, before any schedule.
        changes: by dotted key, the value of the stage before and the stage's own.
        corpora: by source; None where the recipe does not name them all.
        packing: None without corpora.
        gpu_hours: of all GPUs together, if none had rows that are padding.
        checkpoints: that the stage writes.
    """

    name: str
    length: StageLength
    lr: float
    decay_begins: int | None
    batch: BatchPlan
    max_length: int
    row_length: int
    mask_rate: float
    changes: Mapping[str, tuple[Any, Any]]
    layers: tuple[LayerSummary, ...]
    cost: TokenCost
    microbatch: MicrobatchPlan
    corpora: Mapping[str, CorpusSummary] | None
    packing: PackingEfficiency | None
    gpu_hours: float
    checkpoints: StageCheckpoints

    @property
    def hours(self) -> float:
        """By the clock, with one GPU a process, idle rows included."""
        return self.gpu_hours / self.batch.processes / (1 - self.batch.idle_rows)

    def plain(self) -> dict[str, Any]:
        """One level of keys, as ``flexbert plan --json`` prints a stage."""
        batch, microbatch, packing = self.batch, self.microbatch, self.packing
        return {
            "name": self.name,
            **encode(self.length),
            "lr": self.lr,
            "decay_begins": self.decay_begins,
            "batch_size": batch.size,
            "batch_tokens": batch.tokens,
            "batch_warmup": encode(batch.warmup),
            "rows_per_batch": batch.rows,
            "processes": batch.processes,
            "microbatches": batch.num_microbatches,
            "rows_per_microbatch": batch.rows_per_microbatch,
            "idle_rows": batch.idle_rows,
            "max_length": self.max_length,
            "row_length": self.row_length,
            "mask_rate": self.mask_rate,
            "changes": encode(self.changes),
            "layers": encode(self.layers),
            "flops_per_token": self.cost.flops,
            "flops_lengths": self.cost.lengths,
            "microbatch_rows": microbatch.rows,
            "microbatch_rows_are": microbatch.rows_are,
            "fitting_rows": microbatch.fitting,
            "memory": encode(microbatch.memory),
            "corpora": encode(self.corpora),
            "packing_efficiency": packing and packing.efficiency,
            "sources": packing and encode(packing.sources),
            "gpu_hours": self.gpu_hours,
            "hours": self.hours,
            "checkpoints": encode(self.checkpoints),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe will do and cost.

    Attributes:
        plugins: what the recipe imports for its components, with versions.
        to_be_given: dotted keys that a run needs and the recipe leaves open.
        notes: what to know before beginning with the stage that was asked for.
        begins_from: the checkpoint that the run takes its weights from, if from any.
        beginning_checked: whether that checkpoint was there, and so was checked.
        hardware: what hours and micro-batches are for.
        stages: in order, at least one.
        checkpoints: what those of all stages take together.
        remarks: what looks wrong and is no error.
        recipe: the resolved recipe, plain containers.
    """

    run_name: str
    run_folder: Path
    plugins: tuple[Plugin, ...]
    to_be_given: tuple[str, ...]
    notes: tuple[str, ...]
    begins_from: Path | None
    beginning_checked: bool
    parameters: ParameterCounts
    hardware: Hardware
    stages: tuple[StagePlan, ...]
    checkpoints: CheckpointRoom
    remarks: tuple[str, ...]
    recipe: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """Real tokens of all stages."""
        return sum(stage.length.tokens for stage in self.stages)

    @property
    def steps(self) -> int:
        """Updates of all stages."""
        return sum(stage.length.steps for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """Of all stages, all GPUs together."""
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def hours(self) -> float:
        """Of all stages by the clock, with one GPU a process."""
        return sum(stage.hours for stage in self.stages)

    def plain(self) -> dict[str, Any]:
        """The JSON of ``flexbert plan --json``; layers and FLOPs are those of the first stage."""
        stages = [stage.plain() for stage in self.stages]
        return {
            "run_name": self.run_name,
            "run_folder": str(self.run_folder),
            "plugins": [str(plugin) for plugin in self.plugins],
            "to_be_given": list(self.to_be_given),
            "notes": list(self.notes),
            "begins_from": encode(self.begins_from),
            "beginning_checked": self.beginning_checked,
            "parameters": encode(self.parameters),
            **{key: stages[0][key] for key in ("layers", "flops_per_token", "flops_lengths")},
            "flops_formula": FORMULA,
            "hardware": encode(self.hardware),
            "tokens": self.tokens,
            "steps": self.steps,
            "gpu_hours": self.gpu_hours,
            "hours": self.hours,
            "checkpoints": encode(self.checkpoints),
            "remarks": list(self.remarks),
            "stages": stages,
            "recipe": self.recipe,
        }
