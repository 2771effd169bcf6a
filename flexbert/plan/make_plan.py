"""A plan: everything about a recipe that can be known beforehand."""

from __future__ import annotations

from pathlib import Path

from flexbert.checkpoint.restart import read_restart
from flexbert.config.duration import Duration
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.packing.loader import RankRows
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import config_errors_under
from flexbert.nn.build import meta_masked_lm, parameter_counts
from flexbert.optim.groups import parameter_groups
from flexbert.plan.checkpoint_sizes import checkpoint_room, stage_checkpoints
from flexbert.plan.memory import Activations, activations_of, memory
from flexbert.plan.microbatch import SHARE, fitting_rows, largest_microbatch
from flexbert.plan.packing_efficiency import PackingEfficiency, nominal_length, pack_stage
from flexbert.plan.plan import (
    BatchPlan,
    CorpusSummary,
    LayerSummary,
    MicrobatchPlan,
    Plan,
    StagePlan,
    WarmupBatch,
)
from flexbert.plan.remarks import plan_remarks, recipe_remarks
from flexbert.plan.stage_cost import Hardware, token_cost
from flexbert.pretrained.warm_start import check_init_from
from flexbert.schedule.stages import Stage, all_stages, changes
from flexbert.stage_checks import check_transitions, open_corpora


def make_plan(loaded: LoadedRecipe, processes: int = 1, hardware: Hardware | None = None) -> Plan:
    """Work out everything that is known beforehand.

    Args:
        processes: number of processes to plan the rows of a batch for.
        hardware: what hours and micro-batches are for.

    Raises:
        UserError: if a corpus is there and cannot be used for its stage, one stage cannot follow
            another, an optimizer's groups do not fit the model, or the weights to begin from are
            there and cannot fill it.
    """
    hardware = hardware or Hardware()
    stages = all_stages(loaded.stages)
    corpora = [_corpora_at_hand(stage.recipe) for stage in stages]
    check_transitions(stages, corpora)
    activations = activations_of([stage.recipe for stage in stages])
    planned = tuple(
        _plan_stage(stage, before, opened, kept, processes, hardware)
        for stage, before, opened, kept in zip(
            stages, (None, *stages), corpora, activations, strict=False
        )
    )
    recipe = stages[0].recipe
    beginning = _beginning(recipe)
    notes = _check_beginning(loaded, beginning, corpora[0])
    return Plan(
        run_name=recipe.run_name,
        run_folder=recipe.run_folder,
        plugins=recipe.plugins,
        to_be_given=loaded.missing,
        notes=(*(loaded.notes(recipe.stage) if recipe.stage else ()), *(notes or ())),
        begins_from=beginning,
        beginning_checked=notes is not None,
        parameters=parameter_counts(recipe.model),
        hardware=hardware,
        stages=planned,
        checkpoints=checkpoint_room(
            (stage.checkpoints for stage in planned), recipe.run_folder / "checkpoints"
        ),
        remarks=(*recipe_remarks(stages, corpora), *plan_remarks(planned, hardware)),
        recipe=loaded.resolved,
    )


def _beginning(recipe: Recipe) -> Path | None:
    """The checkpoint that a run begins from, if from any."""
    if recipe.start_from:
        return recipe.start_from[0]
    return recipe.init_from.checkpoint if recipe.init_from else None


def _check_beginning(
    loaded: LoadedRecipe, beginning: Path | None, corpora: Corpora | None
) -> list[str] | None:
    """Check the checkpoint if it is there: what is to be said of it; None if it is not there."""
    recipe = loaded.first
    if beginning is None or not beginning.exists():
        return None
    if recipe.start_from:
        read_restart(beginning, recipe.model)
        return []
    assert recipe.init_from is not None, "what else a run begins from"
    tokenizer = corpora.tokenizer if corpora else None
    return check_init_from(
        recipe.model, recipe.init_from, tokenizer, loaded.given, recipe.data.max_length
    )


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
) -> StagePlan:
    recipe = stage.recipe
    train = corpora.splits("train") if corpora else None
    model = meta_masked_lm(recipe.model)
    with config_errors_under("optimizer"):
        parameter_groups(model, recipe.optimizer)
    fitting = fitting_rows(stage, model, activations, processes, hardware.gpu_bytes)
    rows = recipe.batch.microbatch_rows or fitting
    largest = largest_microbatch(stage, processes, rows)
    cost = token_cost(recipe, model, train)
    packing = None if train is None else pack_stage(stage, train)
    length = nominal_length(stage) if packing is None else packing.length
    return StagePlan(
        name=stage.name,
        length=length,
        lr=recipe.optimizer.lr,
        decay_begins=_decay_begins(stage, length.steps, packing),
        batch=_batches(stage, processes, rows),
        max_length=recipe.data.max_length,
        row_length=recipe.data.row_length,
        mask_rate=recipe.data.mask_rate,
        changes=changes(before, stage) if before else {},
        layers=_layers(recipe.model),
        cost=cost,
        microbatch=MicrobatchPlan(
            rows=largest,
            rows_are=_whose_rows(recipe, hardware),
            fitting=fitting,
            memory=memory(recipe, model, activations, processes, largest),
        ),
        corpora=_summarize(corpora) if corpora else None,
        packing=packing,
        gpu_hours=hardware.hours(length.tokens, cost.flops),
        checkpoints=stage_checkpoints(stage, length, model, corpora),
    )


def _decay_begins(stage: Stage, steps: int, packing: PackingEfficiency | None) -> int | None:
    """After how many updates; counted back from the end, where batches have their full size."""
    recipe = stage.recipe
    decay = getattr(recipe.schedule, "decay", None)
    if not isinstance(decay, Duration) or decay.value == 0:
        return None
    span = decay.of(stage.duration)
    if span.unit == "ba":
        return max(0, steps - round(span.value))
    efficiency = 1.0 if packing is None else packing.efficiency
    tokens = recipe.batch.size * recipe.data.max_length * efficiency
    return max(0, steps - round(span.value / tokens))


def _whose_rows(recipe: Recipe, hardware: Hardware) -> str:
    if recipe.batch.microbatch_rows is not None:
        return "the recipe's"
    return f"as many as suit {SHARE:.0%} of {hardware.gpu_memory:g} GiB"


def _batches(stage: Stage, processes: int, microbatch_rows: int) -> BatchPlan:
    """The global batch, and its share of rows that each process makes."""
    recipe, batches = stage.recipe, stage.batches
    rows = batches.rows(batches.warmup_updates)
    num_microbatches, size = RankRows(0, processes, microbatch_rows).split(rows)
    return BatchPlan(
        size=recipe.batch.size,
        tokens=stage.nominal_tokens_per_update,
        warmup=tuple(
            WarmupBatch(batch_size=smaller, steps=batches.updates_each)
            for smaller in batches.warmup
        ),
        rows=rows,
        processes=processes,
        num_microbatches=num_microbatches,
        rows_per_microbatch=size,
        idle_rows=1 - rows / (processes * num_microbatches * size),
    )


def _layers(model: ModelConfig) -> tuple[LayerSummary, ...]:
    return tuple(
        LayerSummary(
            index=layer.index,
            attention=layer.attention,
            window=layer.window,
            theta=layer.theta,
            block=layer.parts.block.name,
            mlp=layer.parts.mlp.name,
        )
        for layer in layer_plan(model)
    )


def _summarize(corpora: Corpora) -> dict[str, CorpusSummary]:
    return {
        name: CorpusSummary(
            path=corpus.folder, vocab_size=corpus.meta.vocab_size, splits=corpus.meta.splits
        )
        for name, corpus in corpora.by_source.items()
    }
