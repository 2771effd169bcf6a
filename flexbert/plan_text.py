"""A plan as text for people."""

from __future__ import annotations

from typing import Any

Plan = dict[str, Any]


def plan_text(plan: Plan) -> str:
    """What ``flexbert plan`` prints."""
    sections = [_model(plan), _corpora(plan), *(_stage(stage) for stage in plan["stages"])]
    if plan["to_be_given"]:
        sections.append("still to be given before a run: " + ", ".join(plan["to_be_given"]))
    return "\n\n".join(sections)


def _model(plan: Plan) -> str:
    counts = plan["parameters"]
    lines = [
        f"{plan['run_name']}  ->  {plan['run_folder']}",
        "",
        f"parameters  {counts['total']:,}: embedding {counts['embedding']:,}, "
        f"encoder {counts['encoder']:,}, head "
        f"{counts['total'] - counts['embedding'] - counts['encoder']:,}",
        *(f"layers      {line}" for line in _layers(plan["layers"])),
        f"FLOPs       {plan['flops_per_token']:.4g} a token, for {plan['flops_lengths']}",
        f"            = {plan['flops_formula']}",
    ]
    return "\n".join(lines)


def _layers(layers: list[Plan]) -> list[str]:
    """One line for each kind of layer: which they are. Block and MLP are told where they differ."""
    parts = {(layer["block"], layer["mlp"]) for layer in layers}
    kinds: dict[str, list[int]] = {}
    for layer in layers:
        made_of = f" {layer['block']} {layer['mlp']}" if len(parts) > 1 else ""
        window = "" if layer["window"] is None else f" window {layer['window']}"
        theta = "" if layer["theta"] is None else f" theta {layer['theta']:,.0f}"
        kind = f"{layer['attention']}{window}{theta}{made_of}"
        kinds.setdefault(kind, []).append(layer["index"])
    return [f"{kind}: {', '.join(map(str, indices))}" for kind, indices in kinds.items()]


def _corpora(plan: Plan) -> str:
    corpora = plan["corpora"]
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


def _stage(stage: Plan) -> str:
    lines = [
        f"stage {stage['name']}",
        f"  length    {stage['tokens']:,} tokens in {stage['steps']:,} updates "
        f"({stage['steps_are']})",
        f"  batch     {stage['batch_size']:,} sequences of {stage['max_length']:,}: "
        f"{stage['rows_per_batch']:,} rows of {stage['row_length']:,}, "
        f"{stage['batch_tokens']:,} tokens",
        f"  processes {stage['processes']}: {stage['microbatches']} micro-batches of "
        f"{stage['rows_per_microbatch']} rows each, {stage['idle_rows']:.1%} of the rows idle",
        f"  lr        {stage['lr']:g} at most",
        f"  masked    {stage['mask_rate']:.0%}",
    ]
    if stage["packing_efficiency"] is not None:
        lines.append(f"  packing   {stage['packing_efficiency']:.2%} full")
        lines += [
            f"  source    {name}: {source['share']:.2%} of tokens, {source['epochs']:.3g} epochs"
            for name, source in stage["sources"].items()
        ]
    return "\n".join(lines)
