"""What a recipe will do and cost, known before a GPU is used."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from flexbert.config.load import LoadedRecipe
from flexbert.config.model import ModelConfig
from flexbert.config.schema import Recipe
from flexbert.data.corpora import Corpora
from flexbert.data.corpus import Split
from flexbert.data.loader import Share
from flexbert.data.stream import StreamKey, sampling_stream, training_stream
from flexbert.errors import ConfigError
from flexbert.nn.build import build_model, parameter_counts
from flexbert.nn.layer_plan import layer_plan
from flexbert.recipe.clock import StageClock
from flexbert.recipe.flops import FORMULA, flops_per_token, mean_keys_attended
from flexbert.recipe.stages import Stage, stages

# Up to so many rows a stage is packed from end to end and its steps counted; beyond, its first
# rows tell how full the others will be.
MAX_ROWS_PACKED = 100_000
SAMPLED_PIECES = 100_000


def make_plan(loaded: LoadedRecipe, processes: int) -> dict[str, Any]:
    """Everything that is known beforehand, as plain containers.

    Args:
        processes: number of processes to plan the rows of a batch for.

    Raises:
        UserError: if the corpus is there and cannot be used for this recipe.
    """
    recipe = loaded.recipe
    train = None
    corpora = None
    if all(source.path is not None for source in recipe.data.all_sources.values()):
        corpora = Corpora.open(recipe.data)
        check_corpora(recipe, corpora)
        train = corpora.splits("train")
    return {
        "run_name": recipe.run_name,
        "run_folder": str(recipe.run_folder),
        "to_be_given": list(loaded.missing),
        "parameters": parameter_counts(recipe.model),
        "layers": [
            {
                "index": layer.index,
                "attention": layer.attention,
                "window": layer.window,
                "theta": layer.theta,
                "block": layer.parts.block.name,
                "mlp": layer.parts.mlp.name,
            }
            for layer in layer_plan(recipe.model)
        ],
        **_cost(recipe, train),
        "corpora": _describe_corpora(corpora) if corpora else None,
        "stages": [_plan_stage(stage, train, processes) for stage in stages(recipe)],
    }


def check_corpora(recipe: Recipe, corpora: Corpora) -> None:
    """Refuse corpora that this recipe cannot train on.

    Raises:
        ConfigError: if they hold ids that the model has no embedding for.
        CorpusError: if a split is empty or damaged.
    """
    vocab_size = corpora.meta.vocab_size
    if vocab_size > recipe.model.vocab_size:
        raise ConfigError(
            "model.vocab_size",
            f"{recipe.model.vocab_size} is too small for the tokenizer of {corpora.first.folder}, "
            f"which has {vocab_size} entries; nearest multiple of 64: "
            f"{math.ceil(vocab_size / 64) * 64}",
        )
    for name in ("train", "validation"):
        for split in corpora.splits(name).values():
            split.require_documents()


def _cost(recipe: Recipe, train: Mapping[str, Split] | None) -> dict[str, Any]:
    if train is None:
        lengths = np.array([recipe.data.max_length])
        source = f"sequences of {recipe.data.max_length} tokens (no corpus given)"
    else:
        mixture = sampling_stream(train, recipe.data).mixture
        lengths = mixture.sample_lengths(SAMPLED_PIECES)
        source = "the corpus's lengths"
    layers = layer_plan(recipe.model)
    encoder, head = _matrices(recipe.model)
    hidden_size = recipe.model.hidden_size
    flops = flops_per_token(
        encoder_matrices=encoder,
        head_matrices=head,
        mask_rate=recipe.data.mask_rate,
        attention=[
            (
                attention.num_heads * attention.size_of_head(hidden_size),
                mean_keys_attended(lengths, layer.window),
            )
            for layer in layers
            for attention in (layer.parts.attention,)
        ],
    )
    return {"flops_per_token": flops, "flops_formula": FORMULA, "flops_lengths": source}


def _matrices(model: ModelConfig) -> tuple[int, int]:
    """Weights in the matrices of the encoder's layers, and in those that masked tokens pass."""
    masked_lm = build_model(model, device="meta")
    encoder = sum(p.numel() for p in masked_lm.encoder.layers.parameters() if p.ndim >= 2)
    # Counted by running it: a tied decoder's matrix is no parameter of the head.
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        hidden = torch.empty(1, model.hidden_size, device="meta")
        masked_lm.head(hidden, masked_lm.encoder.token_matrix)
    return encoder, counter.get_total_flops() // 2


def _describe_corpora(corpora: Corpora) -> dict[str, Any]:
    return {
        name: {
            "path": str(corpus.folder),
            "vocab_size": corpus.meta.vocab_size,
            "splits": {name: dataclasses.asdict(meta) for name, meta in corpus.meta.splits.items()},
        }
        for name, corpus in corpora.by_source.items()
    }


def _plan_stage(stage: Stage, train: Mapping[str, Split] | None, processes: int) -> dict[str, Any]:
    recipe = stage.recipe
    rows = stage.rows_per_update(0)
    num_microbatches, size = Share(0, processes, recipe.batch.microbatch_rows).split(rows)
    planned = {
        "name": stage.name,
        "tokens": stage.nominal_tokens,
        "steps": stage.nominal_updates,
        "steps_are": "nominal: as if every row were full",
        "lr": recipe.optimizer.lr,
        "batch_size": recipe.batch.size,
        "batch_tokens": stage.nominal_tokens_per_update,
        "max_length": recipe.data.max_length,
        "row_length": recipe.data.row_length,
        "rows_per_batch": rows,
        "mask_rate": recipe.data.mask_rate,
        "processes": processes,
        "microbatches": num_microbatches,
        "rows_per_microbatch": size,
        "idle_rows": 1 - rows / (processes * num_microbatches * size),
        "packing_efficiency": None,
        "sources": None,
    }
    if train is not None:
        planned |= _pack(stage, train)
    return planned


def _pack(stage: Stage, train: Mapping[str, Split]) -> dict[str, Any]:
    """Steps, fullness of rows and epochs, from the real lengths of documents."""
    recipe = stage.recipe
    nominal_rows = sum(stage.rows_per_update(u) for u in range(min(stage.nominal_updates, 10**6)))
    stream = sampling_stream(train, recipe.data)
    countable = (
        nominal_rows <= MAX_ROWS_PACKED and stream.mixture.num_pieces <= 100 * MAX_ROWS_PACKED
    )
    if countable:
        stream = training_stream(train, recipe.data, StreamKey(recipe.seed, stage.name))
    # Otherwise the corpora's own order will do for a sample, and needs no file to be built.
    all_rows = stream.rows()
    tokens = rows = updates = 0
    clock = StageClock(tokens=0, updates=0, duration=stage.duration)
    while not clock.finished and (countable or rows < MAX_ROWS_PACKED):
        for row in itertools.islice(all_rows, stage.rows_per_update(updates)):
            tokens += row.num_tokens
            rows += 1
        updates += 1
        clock = dataclasses.replace(clock, tokens=tokens, updates=updates)
    efficiency = tokens / (rows * recipe.data.row_length)
    if not clock.finished:
        if stage.duration.unit == "tok":
            updates = math.ceil(stage.nominal_updates / efficiency)
            tokens = stage.nominal_tokens
        else:
            updates = stage.nominal_updates
            tokens = round(stage.nominal_tokens * efficiency)
    return {
        "tokens": tokens,
        "steps": updates,
        "steps_are": "exact" if clock.finished else "estimated from a sample of packed rows",
        "packing_efficiency": efficiency,
        "sources": stream.mixture.describe(tokens),
    }
