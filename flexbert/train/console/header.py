"""What a launch says of itself before it trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from composer.utils import dist
from torch import nn

from flexbert.config.recipe import Recipe
from flexbert.data.reading.corpora import Corpora
from flexbert.nn.attention import MultiHeadAttention
from flexbert.pictures import as_count
from flexbert.schedule.stages import Stage
from flexbert.train.speed_monitor import recipe_dtype


def model_text(model: nn.Module, recipe: Recipe) -> str:
    """The model and its size."""
    config = recipe.model
    name = "" if config.name == "custom" else f"{config.name}, "
    count = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{name}{as_count(count)} parameters: {config.num_layers} layers, hidden size "
        f"{config.hidden_size:,}, vocabulary {config.vocab_size:,}"
    )


def devices_text(recipe: Recipe, device: torch.device, peak_flops: float) -> str:
    """How many devices, of which kind, and what the MFU is held against."""
    processes = dist.get_world_size()
    kind = "CPU"
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    number = f"{processes} x {kind}" if processes > 1 else kind
    is_stated = recipe.logging.peak_tflops is not None
    peak = f"{peak_flops / 1e12:.3g} TFLOP/s"
    return f"{number}; peak {peak} {'as stated' if is_stated else 'as measured'}, for the MFU"


def attention_text(model: nn.Module, recipe: Recipe, device: torch.device) -> str:
    """Which backend serves each kind of layer."""
    found: dict[str, list[str]] = {}
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            kind = "global layers" if module.window is None else "local layers"
            name = module.backend_for(device, recipe_dtype(recipe))
            if name not in found.setdefault(kind, []):
                found[kind].append(name)
    if not found:
        return "of a plugin"
    return ", ".join(f"{kind} by {' and '.join(names)}" for kind, names in found.items())


def batch_text(stage: Stage, microbatch_rows: int) -> str:
    """How much an update reads, and a process at once."""
    batch = stage.recipe.batch
    size = f"{batch.size:,} sequences an update"
    if batch.warmup is not None:
        size += f", from {batch.warmup.start:,} on"
    suited = ", to suit the device" if batch.microbatch_rows is None else ""
    return f"{size}; micro-batches of at most {microbatch_rows} rows{suited}"


def corpora_text(corpora: Corpora) -> str:
    """Each corpus and what it holds."""
    lines = []
    for name, corpus in corpora.by_source.items():
        split = corpus.meta.splits["train"]
        source = f"{name}: " if len(corpora.by_source) > 1 else ""
        lines.append(
            f"{source}{corpus.folder}: {as_count(split.tokens)} tokens in "
            f"{split.documents:,} documents"
        )
    return "\n".join(lines)


def to_do_text(stages: Sequence[Stage], index: int, tokens: int, updates: int) -> str:
    """What is to be trained, and how much of it is done.

    Args:
        index: of the stage that begins or goes on.
        tokens, updates: of the whole run so far.
    """
    lines = [
        f"{stage.name}: {as_count(stage.nominal_tokens)} tokens in about "
        f"{stage.nominal_updates:,} updates"
        for stage in stages[index:]
    ]
    if updates:
        lines.append(f"done so far: {as_count(tokens)} tokens in {updates:,} updates")
    return "\n".join(lines)
