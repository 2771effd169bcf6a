"""A plan as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flexbert.nn.flops import FORMULA
from flexbert.plan.plan import (
    BatchPlan,
    CorpusSummary,
    LayerSummary,
    MicrobatchPlan,
    Plan,
    StagePlan,
    WarmupBatch,
)
from flexbert.plan.remarks import clock_text
from flexbert.plan.stage_cost import Hardware


def plan_text(plan: Plan) -> str:
    """What ``flexbert plan`` prints."""
    sections = [_model(plan)]
    told: set[str] = set()
    for stage in plan.stages:
        corpora = _corpora(stage.corpora)
        # Said once where stages share their corpora.
        text = _stage(stage, plan.hardware)
        sections.append(text if corpora in told else f"{corpora}\n\n{text}")
        told.add(corpora)
    sections.append(_sum(plan))
    if plan.begins_from and plan.beginning_checked:
        sections.append(f"begins from {plan.begins_from}")
    if plan.begins_from and not plan.beginning_checked:
        where = plan.begins_from
        sections.append(f"not checked: whether a run can begin from {where}; it is not there")
    sections += plan.notes
    if plan.to_be_given:
        sections.append("still to be given before a run: " + ", ".join(plan.to_be_given))
    if plan.remarks:
        sections.append("\n".join(f"remark: {remark}" for remark in plan.remarks))
    return "\n\n".join(sections)


def _sum(plan: Plan) -> str:
    checkpoints = plan.checkpoints.text(plan.run_folder).replace("\n", "\n            ")
    unit, processes = plan.hardware.unit, plan.stages[0].batch.processes
    idle = ", if they share the rows at full speed" if processes > 1 else ""
    return (
        f"in all      {plan.tokens:,} tokens in {plan.steps:,} updates\n"
        f"            {_hours(plan.gpu_hours)} {unit}-hours at {plan.hardware.rate_text}\n"
        f"            {clock_text(plan.hours)} on {_count(processes, unit)}{idle}\n"
        f"            {checkpoints}"
    )


def _model(plan: Plan) -> str:
    counts, first = plan.parameters, plan.stages[0]
    lines = [
        f"{plan.run_name}  ->  {plan.run_folder}",
        *(f"plugin      {plugin}" for plugin in plan.plugins),
        "",
        f"parameters  {counts.total:,}: embedding {counts.embedding:,}, "
        f"encoder {counts.encoder:,}, head {counts.head:,}",
        f"            of the encoder's attention {counts.attention:,}, MLPs {counts.mlp:,}, "
        f"norms {counts.norms:,}",
        *(f"layers      {line}" for line in _layers(first.layers)),
        f"FLOPs       {first.cost.flops:.4g} a token, for {first.cost.lengths}",
        f"            = {FORMULA}",
    ]
    return "\n".join(lines)


def _layers(layers: Sequence[LayerSummary]) -> list[str]:
    """One line for each kind of layer: which they are. It names block and MLP where they differ."""
    parts = {(layer.block, layer.mlp) for layer in layers}
    kinds: dict[str, list[int]] = {}
    for layer in layers:
        made_of = f" {layer.block} {layer.mlp}" if len(parts) > 1 else ""
        window = "" if layer.window is None else f" window {layer.window}"
        theta = "" if layer.theta is None else f" theta {layer.theta:,.0f}"
        kind = f"{layer.attention}{window}{theta}{made_of}"
        kinds.setdefault(kind, []).append(layer.index)
    return [f"{kind}: {', '.join(map(str, indices))}" for kind, indices in kinds.items()]


def _corpora(corpora: Mapping[str, CorpusSummary] | None) -> str:
    if corpora is None:
        return "corpus      none given: packing, exact steps and epochs are not known"
    lines = []
    for corpus in corpora.values():
        splits = "; ".join(
            f"{name} {split.documents:,} documents, {split.tokens:,} tokens"
            for name, split in corpus.splits.items()
        )
        lines += [
            f"corpus      {corpus.path}, {corpus.vocab_size:,} token ids",
            f"            {splits}",
        ]
    return "\n".join(lines)


def _stage(stage: StagePlan, hardware: Hardware) -> str:
    length, batch = stage.length, stage.batch
    lines = [
        f"stage {stage.name}",
        f"  length    {length.tokens:,} tokens in {length.steps:,} updates ({length.steps_are})",
        f"  batch     {batch.size:,} sequences of {stage.max_length:,}: "
        f"{batch.rows:,} rows of {stage.row_length:,}, {batch.tokens:,} tokens",
        *_warmup(batch.warmup),
        _processes(batch),
        *_memory(stage.microbatch, hardware),
        f"  hours     {_hours(stage.gpu_hours)} on {hardware.unit}s, together",
        f"  lr        {stage.lr:g} at most{_decay(stage)}",
        f"  masked    {stage.mask_rate:.0%}",
    ]
    if stage.changes:
        lines.append(f"  FLOPs     {stage.cost.flops:.4g} a token")
        lines += [f"  changes   {key}: {old} -> {new}" for key, (old, new) in stage.changes.items()]
    if stage.packing is not None:
        lines.append(f"  packing   {stage.packing.efficiency:.2%} full")
        lines += [
            f"  source    {name}: {source.share:.2%} of tokens, {source.epochs:.3g} epochs"
            for name, source in stage.packing.sources.items()
        ]
    return "\n".join(lines)


def _decay(stage: StagePlan) -> str:
    if stage.decay_begins is None:
        return ""
    return f"; its decay begins after about {stage.decay_begins:,} updates of the stage"


def _processes(batch: BatchPlan) -> str:
    microbatches = _count(batch.num_microbatches, "micro-batch", "es")
    size = _count(batch.rows_per_microbatch, "row")
    return (
        f"  processes {batch.processes}: {microbatches} of {size} each, "
        f"{batch.idle_rows:.1%} of the rows idle"
    )


def _memory(microbatch: MicrobatchPlan, hardware: Hardware) -> list[str]:
    memory = microbatch.memory
    listed = ", ".join(
        f"{name.replace('_', ' ')} {size / 2**30:.2f}"
        for name, size in memory.parts.items()
        if size
    )
    lines = [
        f"  memory    about {memory.total / 2**30:.1f} GiB a {hardware.unit} for micro-batches of "
        f"{_count(microbatch.rows, 'row')} ({microbatch.rows_are}), uncompiled: {listed}"
    ]
    if memory.total > hardware.gpu_memory * 2**30:
        fitting = microbatch.fitting
        smaller = f"; {fitting} would" if fitting < microbatch.rows else ""
        lines.append(
            f"            more than a {hardware.unit} of {hardware.gpu_memory:g} GiB has{smaller}"
        )
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else "under 0.1"


def _count(number: int, thing: str, ending: str = "s") -> str:
    return f"{number:,} {thing}{ending if number != 1 else ''}"


def _warmup(warmup: Sequence[WarmupBatch]) -> list[str]:
    if not warmup:
        return []
    listed = ", ".join(f"{batch.batch_size:,}" for batch in warmup)
    return [f"  warmup    batches of {listed} for {warmup[0].steps:,} updates each"]
