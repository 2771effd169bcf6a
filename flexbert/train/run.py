"""A recipe's stages, one after the other, from wherever they were left."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch
from composer import Callback
from composer.utils import dist, get_device
from composer.utils.reproducibility import configure_deterministic_mode

from flexbert.config.encode import encode
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import UserError
from flexbert.files.set_aside import set_aside
from flexbert.nn.flops import model_cost
from flexbert.plan.checkpoint_sizes import room_of
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.report import plot
from flexbert.schedule.stages import all_stages, transition_text
from flexbert.stage_checks import check_transitions, open_corpora
from flexbert.train.callbacks import DataPosition, MovingAverage, Preemption
from flexbert.train.checkpointing import restore
from flexbert.train.composer_model import compile_as_asked, make_model
from flexbert.train.device_microbatch import suit_device
from flexbert.train.manifest import write_manifest
from flexbert.train.plugin_agreement import check_same_plugins
from flexbert.train.recipe_callbacks import build_callbacks
from flexbert.train.run_folder import RunFolder, name_stage_end
from flexbert.train.speed_monitor import SpeedMonitor, mfu_text
from flexbert.train.stage_data import StageData, open_stage_data
from flexbert.train.stage_run import StageRun
from flexbert.train.start import Start, find_start
from flexbert.train.trainer import DIST_TIMEOUT_SECONDS, close, stage_trainer

DONE, PREEMPTED = 0, 75


def train(loaded: LoadedRecipe, command: Sequence[str], callbacks: Sequence[Callback] = ()) -> int:
    """Train, or continue training, what the recipe describes.

    Args:
        command: the command line, for the manifest.
        callbacks: Composer callbacks that run after FlexBERT's own.

    Returns:
        The process's exit code: 0 when the run is finished, 75 when it was told to stop and has
        saved a checkpoint from which the same command continues.

    Raises:
        UserError: before anything is built, if a stage's corpus cannot be used for it, a checkpoint
            to start from does not fit, or the run folder holds a run of another recipe.
    """
    for one in loaded.runs():
        with Preemption() as preemption:
            code = _Run(one, command, callbacks, preemption).train()
        if code != DONE:
            return code
    return DONE


class _Run:
    """One run, in one folder."""

    def __init__(
        self,
        loaded: LoadedRecipe,
        command: Sequence[str],
        callbacks: Sequence[Callback],
        preemption: Preemption,
    ) -> None:
        self.loaded = loaded
        self.resolved = loaded.resolved
        self.recipe = loaded.first
        self.stages = all_stages(loaded.stages)
        self.folder = RunFolder(self.recipe.run_folder)
        self.command = command
        self.callbacks = callbacks
        self.preemption = preemption

    def train(self) -> int:
        """See :func:`train`."""
        corpora = [open_corpora(stage.recipe) for stage in self.stages]
        check_transitions(self.stages, corpora)
        _set_determinism(self.recipe)
        dist.initialize_dist(get_device(None), timeout=DIST_TIMEOUT_SECONDS)
        check_same_plugins(self.recipe)
        start = self._find_start(corpora)
        if start.summary is not None:
            _say(start.summary)
        if start.stage == len(self.stages):
            return DONE
        if dist.get_global_rank() == 0:
            self.folder.begin(self.resolved, after_step=start.clock.updates)
            write_manifest(self.folder, self.stages, corpora, start.clock.updates, self.command)
            room = room_of(self.stages, corpora, self.folder.checkpoints)
            _say(room.text(self.folder.path))
        while start.stage < len(self.stages):
            self._train_stage(start, corpora[start.stage])
            gc.collect()  # Composer's objects refer to each other
            if self.preemption.preempted:
                _say(f"stopped on request and saved; the same command continues {self.folder.path}")
                return PREEMPTED
            # The next stage begins as it would after a kill: from what is on the disk.
            start = self._find_start(corpora)
            assert start.checkpoint is not None, "a stage ends with a checkpoint"
        if dist.get_global_rank() == 0:
            print(f"finished {self.folder.path}; picture: {_picture(self.folder)}", flush=True)
        return DONE

    def _find_start(self, corpora: Sequence[Corpora]) -> Start:
        """Where to go on; a stage's end that is found gets the stage's name."""
        start = find_start(self.loaded, self.folder, corpora)
        for note in start.notes:
            _say(note)
        if dist.get_global_rank() == 0:
            for path in start.damaged:
                _say(f"{path} is kept as {set_aside(path).name}")
        if start.ended is not None and dist.get_global_rank() == 0:
            name_stage_end(self.folder.checkpoints, start.ended, start.clock.updates)
        return start

    def _train_stage(self, start: Start, corpora: Corpora) -> None:
        """Train one stage to its end, or until preemption."""
        stage = self.stages[start.stage]
        data = open_stage_data(stage, corpora, start.data)
        device = get_device(None)
        run = StageRun(
            stage=stage,
            first_step=start.clock.updates - data.start.update,
            first_tokens=start.clock.tokens - data.start.tokens,
            microbatch_rows=suit_device(stage, device),
        )
        if start.data is None:
            before = self.stages[start.stage - 1] if start.stage else None
            _say(transition_text(stage, before, run.first_step, run.first_tokens))
        if stage.recipe.batch.microbatch_rows is None:
            _say(f"micro-batches of at most {run.microbatch_rows} rows, to suit the device")
        position = self._log_order(run, data)
        torch.manual_seed(self.recipe.seed)
        made, notes = make_model(stage.recipe, fresh=start.checkpoint is None)
        for note in notes:
            _say(note)
        model = device.module_to_device(made)
        speed_monitor = SpeedMonitor(
            run, model_cost(model, stage.recipe.model), next(model.parameters()).device
        )
        _say(mfu_text(stage.recipe, speed_monitor.peak_flops))
        tracing = stage.recipe.logging.profiler
        if tracing and stage.nominal_updates <= tracing.before:
            _say(
                f"warning: logging.profiler records nothing: {tracing.before} updates come before "
                f"the first that it records, and the stage has about {stage.nominal_updates}"
            )
        _say(compile_as_asked(model, stage.recipe))
        kept = stage.recipe.moving_average
        moving_average = None if kept is None else MovingAverage(kept, model)
        callbacks = build_callbacks(stage.recipe, self.folder.path)
        trainer = stage_trainer(
            run,
            model,
            corpora,
            data,
            self.folder,
            speed_monitor=speed_monitor,
            position=position,
            moving_average=moving_average,
            resolved=self.resolved,
            preemption=self.preemption,
            recipe_callbacks=callbacks,
            more_callbacks=self.callbacks,
        )
        if start.checkpoint is not None:
            average = restore(start.checkpoint, trainer.state, model, run, callbacks)
            if average is not None and moving_average is not None:
                moving_average.weights = average
        dist.barrier()
        trainer.fit()
        close(trainer)

    def _log_order(self, run: StageRun, data: StageData) -> DataPosition:
        """Note which order the stage's rows come in, for looking back."""
        start = data.start
        segment = RunSegment(
            number=0,
            stage=run.stage.name,
            generation=data.key.generation,
            first_step=run.first_step + start.update,
            first_update=start.update,
            first_tokens=start.tokens,
            first_row=start.packing_window.row + start.row,
            recipe=encode(run.recipe),
            order=data.order,
        )
        log = OrderLog(self.folder.orders)
        if dist.get_global_rank() == 0:
            segment = log.resume(segment.first_step, segment)
        return DataPosition(data, log.index(segment, len(data.stream.mixture.buckets)))


def _set_determinism(recipe: Recipe) -> None:
    """It has to come before anything runs on a GPU: cuBLAS reads its variable once."""
    if recipe.deterministic:
        configure_deterministic_mode()
    else:
        torch.use_deterministic_algorithms(False)


def _picture(folder: RunFolder) -> str:
    """Draw the run; what is wrong with its records, or the disk, does not undo the training."""
    try:
        return str(plot(folder.path))
    except UserError as error:
        return f"none ({error})"


def _say(text: str) -> None:
    if dist.get_global_rank() == 0:
        print(text, flush=True)
