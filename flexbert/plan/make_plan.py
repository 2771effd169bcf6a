"""A plan: everything about a recipe that can be known beforehand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flexbert.checkpoint.restart import read_restart
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.packing.loader import Share
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import config_errors_under
from flexbert.nn.build import build_model, parameter_counts
from flexbert.nn.flops import FORMULA
from flexbert.nn.masked_lm import MaskedLM
from flexbert.optim.groups import parameter_groups
from flexbert.plan.memory import Activations, activations_of, memory
from flexbert.plan.microbatch import SHARE, fitting_rows, largest_microbatch
from flexbert.plan.packing_efficiency import pack_stage
from flexbert.plan.stage_cost import Hardware, token_cost
from flexbert.pretrained.warm_start import check_init_from
from flexbert.schedule.stages import Stage, all_stages, changes
from flexbert.stage_checks import check_transitions, open_corpora


def make_plan(
    loaded: LoadedRecipe, processes: int = 1, hardware: Hardware | None = None
) -> dict[str, Any]:
    """Everything that is known beforehand, as plain containers.

    Args:
        processes: number of processes to plan the rows of a batch for.
        hardware: what hours and micro-batches are for.

    Raises:
        UserError: if a corpus is there and cannot be used for its stage, one stage cannot follow
            another, an optimizer's groups do not fit the model, or the weights to begin from, if at
            hand, cannot fill it.
    """
    hardware = hardware or Hardware()
    stages = all_stages(loaded.stages)
    corpora = [_corpora_at_hand(stage.recipe) for stage in stages]
    check_transitions(stages, corpora)
    activations = activations_of([stage.recipe for stage in stages])
    planned = [
        _plan_stage(stage, before, opened, kept, processes, hardware)
        for stage, before, opened, kept in zip(
            stages, (None, *stages), corpora, activations, strict=False
        )
    ]
    recipe = stages[0].recipe
    beginning = _beginning(recipe)
    return {
        "run_name": recipe.run_name,
        "run_folder": str(recipe.run_folder),
        "plugins": [str(plugin) for plugin in recipe.plugins],
        "to_be_given": list(loaded.missing),
        "notes": loaded.notes(recipe.stage) if recipe.stage else [],
        "begins_from": None if beginning is None else str(beginning),
        "beginning_checked": _check_beginning(recipe, beginning),
        "parameters": parameter_counts(recipe.model),
        **{key: planned[0][key] for key in ("layers", "flops_per_token", "flops_lengths")},
        "flops_formula": FORMULA,
        "hardware": dataclasses.asdict(hardware),
        **{key: sum(stage[key] for stage in planned) for key in ("tokens", "steps", "gpu_hours")},
        "stages": planned,
        "recipe": loaded.resolved,
    }


def _beginning(recipe: Recipe) -> Path | None:
    """The checkpoint that a run begins from, if from any."""
    if recipe.start_from:
        return recipe.start_from[0]
    return recipe.init_from.checkpoint if recipe.init_from else None


def _check_beginning(recipe: Recipe, beginning: Path | None) -> bool:
    """Whether it is at hand, and so was checked."""
    if beginning is None or not beginning.exists():
        return False
    if recipe.start_from:
        read_restart(beginning, recipe.model)
    elif recipe.init_from:
        check_init_from(recipe.model, recipe.init_from)
    return True


def _corpora_at_hand(recipe: Recipe) -> Corpora | None:
    """A stage's corpora; None while the recipe does not name them all."""
    named = all(source.path is not None for source in recipe.data.all_sources.values())
    return open_corpora(recipe) if named else None


def _plan_stage(
    stage: Stage,
    before: Stage | None,
    corpora: Corpora | None,
    activations: Activations,
    processes: int,
    hardware: Hardware,
) -> dict[str, Any]:
    recipe = stage.recipe
    train = corpora.splits("train") if corpora else None
    model = build_model(recipe.model, device="meta")
    assert isinstance(model, MaskedLM), "what a recipe trains"
    with config_errors_under("optimizer"):
        parameter_groups(model, recipe.optimizer)
    fitting = fitting_rows(stage, model, activations, processes, hardware.gpu_bytes)
    rows = recipe.batch.microbatch_rows or fitting
    largest = largest_microbatch(stage, processes, rows)
    planned = {
        "name": stage.name,
        "tokens": stage.nominal_tokens,
        "steps": stage.nominal_updates,
        "steps_are": "nominal: as if every row were full",
        "lr": recipe.optimizer.lr,
        **_batches(stage, processes, rows),
        "max_length": recipe.data.max_length,
        "row_length": recipe.data.row_length,
        "mask_rate": recipe.data.mask_rate,
        "changes": changes(before, stage) if before else {},
        "layers": _layers(recipe.model),
        **token_cost(recipe, model, train),
        "microbatch_rows": largest,
        "microbatch_rows_are": _whose_rows(recipe, hardware),
        "fitting_rows": fitting,
        "memory": memory(recipe, model, activations, processes, largest),
        "corpora": _describe(corpora) if corpora else None,
        "packing_efficiency": None,
        "sources": None,
        **(pack_stage(stage, train) if train is not None else {}),
    }
    planned["gpu_hours"] = hardware.hours(planned["tokens"] * planned["flops_per_token"])
    return planned


def _whose_rows(recipe: Recipe, hardware: Hardware) -> str:
    if recipe.batch.microbatch_rows is not None:
        return "the recipe's"
    return f"as many as suit {SHARE:.0%} of {hardware.gpu_memory:g} GiB"


def _batches(stage: Stage, processes: int, microbatch_rows: int) -> dict[str, Any]:
    """The global batch, and its share of rows that each process makes."""
    recipe, batches = stage.recipe, stage.batches
    rows = batches.rows(batches.warmup_updates)
    num_microbatches, size = Share(0, processes, microbatch_rows).split(rows)
    return {
        "batch_size": recipe.batch.size,
        "batch_tokens": stage.nominal_tokens_per_update,
        "batch_warmup": [
            {"batch_size": smaller, "steps": batches.updates_each} for smaller in batches.warmup
        ],
        "rows_per_batch": rows,
        "processes": processes,
        "microbatches": num_microbatches,
        "rows_per_microbatch": size,
        "idle_rows": 1 - rows / (processes * num_microbatches * size),
    }


def _layers(model: ModelConfig) -> list[dict[str, Any]]:
    return [
        {
            "index": layer.index,
            "attention": layer.attention,
            "window": layer.window,
            "theta": layer.theta,
            "block": layer.parts.block.name,
            "mlp": layer.parts.mlp.name,
        }
        for layer in layer_plan(model)
    ]


def _describe(corpora: Corpora) -> dict[str, Any]:
    return {
        name: {
            "path": str(corpus.folder),
            "vocab_size": corpus.meta.vocab_size,
            "splits": {name: dataclasses.asdict(meta) for name, meta in corpus.meta.splits.items()},
        }
        for name, corpus in corpora.by_source.items()
    }
