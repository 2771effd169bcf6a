"""A recipe to a trained model: Composer's Trainer, assembled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from composer import Callback, DataSpec, Evaluator, Trainer
from composer.core import Event, State
from composer.loggers import LoggerDestination, TensorboardLogger, WandBLogger
from composer.utils import dist, get_device
from composer.utils.reproducibility import configure_deterministic_mode

from flexbert.config.load import LoadedRecipe
from flexbert.config.schema import Recipe
from flexbert.data.corpora import Corpora
from flexbert.data.loader import Loader, eval_loader, train_loader
from flexbert.data.mixture import Mixture
from flexbert.data.order_log import OrderLog, Stretch
from flexbert.data.rows import training_builder
from flexbert.plan import check_corpora
from flexbert.recipe.stages import Stage, stages
from flexbert.report import plot
from flexbert.train.callbacks import (
    DataPosition,
    Hyperparameters,
    Preemption,
    UpdateSeed,
    interval_ended,
    stage_clock,
)
from flexbert.train.checkpointing import (
    Checkpointer,
    newest_checkpoint,
    saved_data,
    saved_timestamp,
    unchanging_contents,
)
from flexbert.train.composer_model import build_composer_model, compile_as_asked
from flexbert.train.cpu_memory import return_freed_tensors
from flexbert.train.manifest import write_manifest
from flexbert.train.run_folder import ORDER_KEYS, RunFolder, refuse_changed_recipe
from flexbert.train.run_log import RunLog
from flexbert.train.stage_data import StageData, open_stage_data

DONE, PREEMPTED = 0, 75
# Generous: a slow disk under one process must not end the run of all.
DIST_TIMEOUT_SECONDS = 1800.0


def train(loaded: LoadedRecipe, command: Sequence[str], callbacks: Sequence[Callback] = ()) -> int:
    """Train, or continue training, what the recipe describes.

    Args:
        command: the command line, for the manifest.
        callbacks: Composer callbacks beside FlexBERT's own; they run after these.

    Returns:
        The process's exit code: 0 when the run is finished, 75 when it was told to stop and has
        saved a checkpoint from which the same command continues.

    Raises:
        UserError: before anything is built, if the corpus cannot be used for this recipe, or the
            run folder holds a run of another recipe.
    """
    recipe = loaded.recipe
    (stage,) = stages(recipe)
    corpora = Corpora.open(recipe.data)
    check_corpora(recipe, corpora)
    _set_determinism(recipe)
    folder = RunFolder(recipe.run_folder)

    dist.initialize_dist(get_device(None), timeout=DIST_TIMEOUT_SECONDS)
    checkpoint = newest_checkpoint(folder.checkpoints)
    if checkpoint is not None:
        accepted = ORDER_KEYS if recipe.data.accept_changed_order else ()
        refuse_changed_recipe(folder.path, checkpoint["recipe"], loaded.resolved, accepted)
        clock = stage_clock(stage, saved_timestamp(checkpoint))
        if clock.finished:
            _say(f"{folder.path} is finished; to train anew give another run_name")
            return DONE
        _say(f"continuing {folder.path} after update {clock.updates}")
    data = open_stage_data(stage, corpora, saved_data(checkpoint) if checkpoint else None)
    step = data.start["update"]
    stretch = Stretch(
        number=0,
        stage=stage.name,
        generation=data.key.generation,
        first_step=step,
        first_update=step,
        recipe=loaded.resolved,
        order=data.order,
    )
    log = OrderLog(folder.orders)
    if dist.get_global_rank() == 0:
        folder.begin(loaded.resolved, after_step=step)
        stretch = log.resume(step, stretch)
    position = DataPosition(data, log.index(stretch, len(data.stream.mixture.parts)))
    trainer, preemption = _assemble(stage, corpora, data, position, folder, loaded, callbacks)
    if checkpoint is not None:
        trainer.state.load_state_dict(checkpoint["state"], trainer.logger, strict=True)
    if dist.get_global_rank() == 0:
        write_manifest(folder, recipe, corpora, trainer.state, command)
    dist.barrier()
    trainer.fit()
    trainer.close()

    if preemption.preempted:
        _say(f"stopped on request and saved; the same command continues {folder.path}")
        return PREEMPTED
    if dist.get_global_rank() == 0:
        print(f"finished {folder.path}; picture: {plot(folder.path)}", flush=True)
    return DONE


def _assemble(
    stage: Stage,
    corpora: Corpora,
    data: StageData,
    position: DataPosition,
    folder: RunFolder,
    loaded: LoadedRecipe,
    more_callbacks: Sequence[Callback],
) -> tuple[Trainer, Preemption]:
    recipe = stage.recipe
    torch.manual_seed(recipe.seed)
    device = get_device(None)
    if device.name == "cpu":
        return_freed_tensors()
    model = device.module_to_device(build_composer_model(recipe))
    _say(compile_as_asked(model, recipe))
    preemption = Preemption()
    callbacks: list[Callback] = [
        Hyperparameters(stage),
        UpdateSeed(stage),
        position,
        RunLog(stage, folder, data.stream.mixture),
        Checkpointer(stage, folder.checkpoints, unchanging_contents(loaded.resolved, corpora)),
        preemption,
        *more_callbacks,
    ]
    trainer = Trainer(
        model=model,
        optimizers=recipe.optimizer.build(model),
        train_dataloader=_train_data(stage, data),
        eval_dataloader=_evaluators(stage, corpora, data.stream.mixture),
        max_duration=str(stage.duration),
        accumulate_train_batch_on_tokens=True,
        # Batches come in micro-batches; Composer only insists on a number.
        device_train_microbatch_size=recipe.batch.microbatch_rows,
        # Autocast is the model's own affair: see ComposerMaskedLM.
        precision="fp32",
        callbacks=callbacks,
        loggers=_loggers(recipe, folder),
        seed=recipe.seed,
        run_name=recipe.run_name,
        spin_dataloaders=False,
        progress_bar=False,
        auto_log_hparams=False,
        dist_timeout=DIST_TIMEOUT_SECONDS,
    )
    return trainer, preemption


def _train_data(stage: Stage, data: StageData) -> DataSpec:
    recipe = stage.recipe
    return _data_spec(
        train_loader(
            data.stream,
            training_builder(data.stream, data.splits, recipe.data, data.key),
            recipe.data,
            rows_per_update=stage.rows_per_update,
            microbatch_rows=recipe.batch.microbatch_rows,
            rank=dist.get_global_rank(),
            world_size=dist.get_world_size(),
            start=data.start,
        ),
        recipe.data.row_length,
    )


def _evaluators(stage: Stage, corpora: Corpora, mixture: Mixture) -> list[Evaluator]:
    """One for each source; their rows are shared out as training shares its tokens."""
    evaluation = stage.recipe.evaluation
    # Made in this process: a source more would be so many loader processes more.
    data = replace(stage.recipe.data, num_workers=0)

    def due(state: State, event: Event) -> bool:
        return event is Event.BATCH_END and interval_ended(stage, state, evaluation.interval)

    evaluators = []
    for name, split in corpora.splits("validation").items():
        share = mixture.source_shares[name]
        loader = eval_loader(
            split,
            data,
            mask_rate=evaluation.mask_rate,
            microbatch_rows=evaluation.microbatch_rows,
            rank=dist.get_global_rank(),
            world_size=dist.get_world_size(),
            max_rows=None if evaluation.rows is None else max(1, round(evaluation.rows * share)),
        )
        evaluators.append(
            Evaluator(
                label=name,
                dataloader=_data_spec(loader, data.row_length),
                eval_interval=due,
                device_eval_microbatch_size=evaluation.microbatch_rows,
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


def _loggers(recipe: Recipe, folder: RunFolder) -> list[LoggerDestination]:
    loggers: list[LoggerDestination] = []
    wandb = recipe.logging.wandb
    if wandb is not None:
        loggers.append(
            WandBLogger(
                project=wandb.project,
                entity=wandb.entity,
                group=wandb.group,
                name=recipe.run_name,
                init_kwargs={"mode": wandb.mode, "dir": str(folder.path)},
            )
        )
    if recipe.logging.tensorboard:
        loggers.append(TensorboardLogger(log_dir=str(folder.tensorboard)))
    return loggers


def _set_determinism(recipe: Recipe) -> None:
    """It has to come before anything runs on a GPU: cuBLAS reads its variable once."""
    if recipe.deterministic:
        configure_deterministic_mode()
    else:
        torch.use_deterministic_algorithms(False)


def _say(text: str) -> None:
    if dist.get_global_rank() == 0:
        print(text, flush=True)
