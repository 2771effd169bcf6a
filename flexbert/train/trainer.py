"""Composer's Trainer for one stage of a run, assembled."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from composer import Callback, DataSpec, Evaluator, Trainer
from composer.core import Event, State
from composer.loggers import LoggerDestination
from composer.profiler import JSONTraceHandler, Profiler, cyclic_schedule
from composer.utils import dist

from flexbert.checkpoint.checkpoint import EarlyStoppingState, HealthState
from flexbert.config.profiler import ProfilerConfig
from flexbert.config.recipe import Recipe
from flexbert.data.packing.loader import Loader, eval_loader, train_loader
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.reading.corpora import Corpora
from flexbert.data.sampling.mixture import Mixture
from flexbert.schedule.stages import Stage
from flexbert.train.callbacks import (
    DataPosition,
    Gradients,
    Hyperparameters,
    MovingAverage,
    UpdateSeed,
)
from flexbert.train.checkpointing import Checkpointer
from flexbert.train.composer_model import ComposerMaskedLM
from flexbert.train.console.stage_display import StageDisplay
from flexbert.train.device_checks import training_device
from flexbert.train.early_stopping import EarlyStopper
from flexbert.train.health.stage_trainer import StageTrainer
from flexbert.train.health.update_guard import UpdateGuard
from flexbert.train.live_tasks import LiveTasks, TasksAtCheckpoints
from flexbert.train.mask_examples import MaskExamples
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.progress import Progress
from flexbert.train.processes.run_lock import RunLock
from flexbert.train.processes.stopping import StopBetween
from flexbert.train.retention import Retention
from flexbert.train.run_folder import RunFolder
from flexbert.train.run_log import RunLog
from flexbert.train.speed_monitor import SpeedMonitor
from flexbert.train.stage_data import StageData
from flexbert.train.stage_run import StageRun


def stage_trainer(
    run: StageRun,
    model: ComposerMaskedLM,
    corpora: Corpora,
    data: StageData,
    folder: RunFolder,
    *,
    speed_monitor: SpeedMonitor,
    display: StageDisplay,
    position: DataPosition,
    moving_average: MovingAverage | None,
    resolved: Mapping[str, Any],
    stages: Sequence[Stage],
    stop: StopBetween,
    peers: Peers,
    lock: RunLock | None,
    due_step: int,
    is_overdue: bool,
    saved_step: int | None,
    health: HealthState,
    live_tasks: LiveTasks | None,
    early_stopping: EarlyStoppingState,
    loggers: Sequence[LoggerDestination],
    recipe_callbacks: Mapping[str, Callback],
    more_callbacks: Sequence[Callback],
) -> tuple[StageTrainer, Checkpointer]:
    """A trainer that stands at the stage's beginning; a checkpoint's state is loaded into it.

    Args:
        model: on the device that it is trained on.
        speed_monitor, display: of this stage.
        moving_average: of the weights, where the recipe keeps one.
        resolved: the resolved recipe of the whole run, for checkpoints.
        stages: of the run.
        lock: on the run folder, which the first process holds.
        due_step: updates in the run's last checkpoint that was due, 0 if there is none.
        is_overdue: whether another is due.
        saved_step: of the run's own checkpoint that the launch goes on from, if it does.
        health: what a checkpoint remembers of the run's numbers.
        live_tasks: that checkpoints are tried on, where the recipe asks for it.
        early_stopping: what it remembers of the stage's evaluations.
        loggers: of the launch.
        recipe_callbacks: those that the recipe names; they run after FlexBERT's own.
        more_callbacks: run last.
    """
    recipe = run.recipe
    tracing = recipe.logging.profiler
    gradients = Gradients(run, model.parameters())
    guard = UpdateGuard(run, model, gradients, position, folder, stop, peers, health)
    stopping = EarlyStopper(run, folder, stop, peers, early_stopping)
    checkpointer = Checkpointer(
        run,
        folder,
        model,
        guard,
        peers,
        Retention(folder, stages, run.stage),
        stopping,
        lock,
        due_step,
        is_overdue,
        saved_step,
        resolved=resolved,
        tokenizer=corpora.tokenizer,
        data=position.state,
        moving_average=lambda: moving_average.weights if moving_average else None,
        callbacks=recipe_callbacks,
    )
    callbacks: list[Callback] = [
        # First, so that an update that is not finished has changed nothing.
        stop,
        Progress(),
        Hyperparameters(run),
        UpdateSeed(run),
        gradients,
        # Before the position moves on: it names the rows of the update.
        guard,
        position,
    ]
    if moving_average is not None:
        callbacks.append(moving_average)
    callbacks += [
        # Last of what belongs to an update, so that its end is the update's.
        speed_monitor.times,
        speed_monitor,
        # Before the log: it knows the pace of the update that a record ends with.
        display,
        RunLog(run, folder, data.stream.mixture, gradients, speed_monitor, guard, display),
        MaskExamples(run, folder, model, corpora.tokenizer),
        # Before the checkpointer, whose checkpoints hold what it has counted.
        stopping,
        checkpointer,
        *(
            # Behind it: what is tried is what it has saved.
            [TasksAtCheckpoints(run, folder, checkpointer, live_tasks, loggers)]
            if live_tasks
            else []
        ),
        *recipe_callbacks.values(),
        *more_callbacks,
    ]
    trainer = StageTrainer(
        model=model,
        optimizers=recipe.optimizer.build(model),
        train_dataloader=_train_data(run, data),
        eval_dataloader=_evaluators(run, corpora, data.stream.mixture),
        max_duration=run.max_duration,
        accumulate_train_batch_on_tokens=True,
        # Batches come in micro-batches; Composer only insists on a number.
        device_train_microbatch_size=run.microbatch_rows,
        # Autocast is the model's own affair: see ComposerMaskedLM.
        precision="fp32",
        # Given, because the one that Composer would make turns TF32 on.
        device=training_device(),
        callbacks=callbacks,
        loggers=list(loggers),
        profiler=_profiler(tracing, folder.traces / run.stage.name) if tracing else None,
        seed=recipe.seed,
        run_name=recipe.run_name,
        spin_dataloaders=False,
        progress_bar=False,
        auto_log_hparams=False,
        dist_timeout=collective_seconds(recipe),
    )
    guard.can_roll_back = lambda: checkpointer.due_step > run.first_step
    trainer.guard_updates(guard)
    return trainer, checkpointer


def collective_seconds(recipe: Recipe) -> float:
    """How long torch waits in a collective: longer than whoever watches it, who can say why."""
    return 2 * recipe.timeouts.slow


def close(trainer: Trainer) -> None:
    """Let go of a trainer, so that its model's memory and its loader's processes can be freed."""
    trainer.close()
    # Composer leaves this until the process ends, and with it the model.
    atexit.unregister(trainer.engine._close)


def _train_data(run: StageRun, data: StageData) -> DataSpec:
    recipe, stage = run.recipe, run.stage
    return _data_spec(
        train_loader(
            data.stream,
            training_builder(data.stream, data.splits, recipe.data, data.key),
            recipe.data,
            rows_per_update=stage.batches.rows,
            microbatch_rows=run.microbatch_rows,
            mask_rate=stage.mask_rate,
            rank=dist.get_global_rank(),
            world_size=dist.get_world_size(),
            start=data.start,
        ),
        recipe.data.row_length,
    )


def _evaluators(run: StageRun, corpora: Corpora, mixture: Mixture) -> list[Evaluator]:
    """One for each source; their rows are shared out as training shares its tokens."""
    evaluation = run.recipe.evaluation
    microbatch_rows = evaluation.microbatch_rows or run.microbatch_rows
    # Made in this process: otherwise each source would add its loader processes.
    data = replace(run.recipe.data, num_workers=0)

    def due(state: State, event: Event) -> bool:
        return event is Event.BATCH_END and run.completed(evaluation.interval, state)

    evaluators = []
    for name, split in corpora.splits("validation").items():
        share = mixture.source_shares[name]
        loader = eval_loader(
            split,
            data,
            mask_rate=evaluation.mask_rate,
            masking=evaluation.masking_of(data),
            microbatch_rows=microbatch_rows,
            rank=dist.get_global_rank(),
            world_size=dist.get_world_size(),
            max_rows=evaluation.rows_of(share),
        )
        evaluators.append(
            Evaluator(
                label=name,
                dataloader=_data_spec(loader, data.row_length),
                eval_interval=due,
                device_eval_microbatch_size=microbatch_rows,
            )
        )
    return evaluators


def _data_spec(loader: Loader, row_length: int) -> DataSpec:
    def num_rows(batch: dict[str, Any]) -> int:
        return sum(len(m["input_ids"]) // row_length for m in _microbatches(batch))

    return DataSpec(
        loader,
        split_batch=lambda batch, size: batch["microbatches"],
        get_num_samples_in_batch=num_rows,
        get_num_tokens_in_batch=_num_tokens,
    )


def _num_tokens(batch: dict[str, Any]) -> dict[str, int]:
    """Real tokens, and those that the loss is a mean over, of a device batch or a micro-batch."""
    microbatches = _microbatches(batch)
    return {
        "total": sum(microbatch["num_tokens"] for microbatch in microbatches),
        "loss_generating": sum(microbatch["num_masked"] for microbatch in microbatches),
    }


def _microbatches(batch: dict[str, Any]) -> list[dict[str, Any]]:
    microbatches: list[dict[str, Any]] = batch.get("microbatches", [batch])
    return microbatches


def _profiler(config: ProfilerConfig, folder: Path) -> Profiler:
    """One that writes traces to ``folder``: torch's, and Composer's of its events.

    Traces of a stage that is run again replace those from before.
    """
    return Profiler(
        schedule=cyclic_schedule(
            skip_first=config.skip,
            wait=config.wait,
            warmup=config.warmup,
            active=config.record,
            repeat=config.cycles,
        ),
        trace_handlers=[
            JSONTraceHandler(
                folder=str(folder / "composer"),
                remote_file_name=None,
                merged_trace_remote_file_name=None,
                overwrite=True,
            )
        ],
        sys_prof_cpu=False,
        torch_prof_folder=str(folder / "torch"),
        torch_prof_remote_file_name=None,
        torch_prof_memory_remote_file_name=None,
        torch_prof_overwrite=True,
        torch_prof_record_shapes=config.shapes,
        torch_prof_profile_memory=config.memory,
        torch_prof_with_stack=config.stacks,
        # Composer leaves torch's profiler out where all four are off.
        torch_prof_with_flops=True,
    )
