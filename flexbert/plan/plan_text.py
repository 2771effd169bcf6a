"""A plan as text for people."""

from __future__ import annotations

from typing import Any

Plan = dict[str, Any]


def plan_text(plan: Plan) -> str:
    """What ``flexbert plan`` prints."""
    sections = [_model(plan)]
    told: set[str] = set()
    for stage in plan["stages"]:
        corpora = _corpora(stage["corpora"])
        # Said once where stages share their corpora.
        text = _stage(stage, plan["hardware"])
        sections.append(text if corpora in told else f"{corpora}\n\n{text}")
        told.add(corpora)
    sections.append(_sum(plan))
    if plan["begins_from"] and not plan["beginning_checked"]:
        where = plan["begins_from"]
        sections.append(f"not checked: whether a run can begin from {where}; it is not at hand")
    sections += plan["notes"]
    if plan["to_be_given"]:
        sections.append("still to be given before a run: " + ", ".join(plan["to_be_given"]))
    return "\n\n".join(sections)


def _sum(plan: Plan) -> str:
    hardware = plan["hardware"]
    return (
        f"in all      {plan['tokens']:,} tokens in {plan['steps']:,} updates\n"
        f"            {_hours(plan['gpu_hours'])} GPU-hours at an MFU of {hardware['mfu']:.0%} of "
        f"{hardware['peak_tflops']:g} TFLOP/s"
    )


def _model(plan: Plan) -> str:
    counts = plan["parameters"]
    lines = [
        f"{plan['run_name']}  ->  {plan['run_folder']}",
        *(f"plugin      {plugin}" for plugin in plan["plugins"]),
        "",
        f"parameters  {counts['total']:,}: embedding {counts['embedding']:,}, "
        f"encoder {counts['encoder']:,}, head {counts['head']:,}",
        f"            of the encoder's attention {counts['attention']:,}, MLPs {counts['mlp']:,}, "
        f"norms {counts['norms']:,}",
        *(f"layers      {line}" for line in _layers(plan["layers"])),
        f"FLOPs       {plan['flops_per_token']:.4g} a token, for {plan['flops_lengths']}",
        f"            = {plan['flops_formula']}",
    ]
    return "\n".join(lines)


def _layers(layers: list[Plan]) -> list[str]:
    """One line for each kind of layer: which they are. Block and MLP are told where they differ."""
    buckets = {(layer["block"], layer["mlp"]) for layer in layers}
    kinds: dict[str, list[int]] = {}
    for layer in layers:
        made_of = f" {layer['block']} {layer['mlp']}" if len(buckets) > 1 else ""
        window = "" if layer["window"] is None else f" window {layer['window']}"
        theta = "" if layer["theta"] is None else f" theta {layer['theta']:,.0f}"
        kind = f"{layer['attention']}{window}{theta}{made_of}"
        kinds.setdefault(kind, []).append(layer["index"])
    return [f"{kind}: {', '.join(map(str, indices))}" for kind, indices in kinds.items()]


def _corpora(corpora: Plan | None) -> str:
    if corpora is None:
        return "corpus      none given: packing, exact steps and epochs are not known"
    lines = []
    for corpus in corpora.values():
        splits = "; ".join(
            f"{name} {split['documents']:,} documents, {split['tokens']:,} tokens"
            for name, split in corpus["splits"].items()
        )
        lines += [
            f"corpus      {corpus['path']}, {corpus['vocab_size']:,} token ids",
            f"            {splits}",
        ]
    return "\n".join(lines)


def _stage(stage: Plan, hardware: Plan) -> str:
    lines = [
        f"stage {stage['name']}",
        f"  length    {stage['tokens']:,} tokens in {stage['steps']:,} updates "
        f"({stage['steps_are']})",
        f"  batch     {stage['batch_size']:,} sequences of {stage['max_length']:,}: "
        f"{stage['rows_per_batch']:,} rows of {stage['row_length']:,}, "
        f"{stage['batch_tokens']:,} tokens",
        *_warmup(stage["batch_warmup"]),
        *_processes(stage),
        *_memory(stage, hardware),
        f"  hours     {_hours(stage['gpu_hours'])} on GPUs, together",
        f"  lr        {stage['lr']:g} at most",
        f"  masked    {stage['mask_rate']:.0%}",
    ]
    if stage["changes"]:
        lines.append(f"  FLOPs     {stage['flops_per_token']:.4g} a token")
        lines += [
            f"  changes   {key}: {old} -> {new}" for key, (old, new) in stage["changes"].items()
        ]
    if stage["packing_efficiency"] is not None:
        lines.append(f"  packing   {stage['packing_efficiency']:.2%} full")
        lines += [
            f"  source    {name}: {source['share']:.2%} of tokens, {source['epochs']:.3g} epochs"
            for name, source in stage["sources"].items()
        ]
    return "\n".join(lines)


def _processes(stage: Plan) -> list[str]:
    microbatches = _count(stage["microbatches"], "micro-batch", "es")
    size = _count(stage["rows_per_microbatch"], "row")
    return [
        f"  processes {stage['processes']}: {microbatches} of {size} each, "
        f"{stage['idle_rows']:.1%} of the rows idle"
    ]


def _memory(stage: Plan, hardware: Plan) -> list[str]:
    buckets = {name: size for name, size in stage["memory"].items() if size}
    total = buckets.pop("total")
    listed = ", ".join(
        f"{name.replace('_', ' ')} {size / 2**30:.2f}" for name, size in buckets.items()
    )
    lines = [
        f"  memory    about {total / 2**30:.1f} GiB a GPU for micro-batches of "
        f"{_count(stage['microbatch_rows'], 'row')} ({stage['microbatch_rows_are']}), uncompiled: "
        f"{listed}"
    ]
    if total > hardware["gpu_memory"] * 2**30:
        fitting = stage["fitting_rows"]
        smaller = f"; {fitting} would" if fitting < stage["microbatch_rows"] else ""
        gpu = f"a GPU of {hardware['gpu_memory']:g} GiB"
        lines.append(f"            more than {gpu} has{smaller}")
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.1 else "under 0.1"


def _count(number: int, thing: str, ending: str = "s") -> str:
    return f"{number:,} {thing}{ending if number != 1 else ''}"


def _warmup(sizes: list[Plan]) -> list[str]:
    if not sizes:
        return []
    listed = ", ".join(f"{size['batch_size']:,}" for size in sizes)
    return [f"  warmup    batches of {listed} for {sizes[0]['steps']:,} updates each"]
