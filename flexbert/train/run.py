"""A recipe's stages, one after the other, from wherever they were left."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from composer import Callback
from composer.utils import dist, get_device
from composer.utils.reproducibility import configure_deterministic_mode

from flexbert.checkpoint.beginnings import check_init_from, read_start
from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.config.encode import encode
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import ConfigError, UserError, did_you_mean
from flexbert.nn.flops import model_cost
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.report import plot
from flexbert.schedule.stages import Stage, all_stages, transition_text
from flexbert.stage_checks import check_transitions, open_corpora
from flexbert.train.callbacks import DataPosition, Preemption
from flexbert.train.checkpointing import (
    load_state,
    name_stage_end,
    newest_checkpoint,
    saved_data,
    saved_timestamp,
    tokenizer_texts,
    unchanging_contents,
)
from flexbert.train.composer_model import compile_as_asked, make_model
from flexbert.train.device_microbatch import suit_device
from flexbert.train.manifest import write_manifest
from flexbert.train.run_folder import RunFolder, refuse_changed_recipe
from flexbert.train.speed_monitor import SpeedMonitor, mfu_text
from flexbert.train.stage_data import StageData, open_stage_data
from flexbert.train.stage_run import StageRun
from flexbert.train.trainer import DIST_TIMEOUT_SECONDS, close, stage_trainer

DONE, PREEMPTED = 0, 75

Contents = dict[str, Any]


def train(loaded: LoadedRecipe, command: Sequence[str], callbacks: Sequence[Callback] = ()) -> int:
    """Train, or continue training, what the recipe describes.

    Args:
        command: the command line, for the manifest.
        callbacks: Composer callbacks beside FlexBERT's own; they run after these.

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
        contents = self._own_checkpoint()
        begins = f"continuing {self.folder.path}"
        if contents is not None:
            index, saved = self._place(contents)
        elif self.recipe.start_from:
            contents = self._foreign_checkpoint(self.recipe.start_from[0], corpora[0])
            # A stage that is asked for begins; otherwise the checkpoint's own goes on.
            index, saved = (0, None) if self.recipe.stage else self._place(contents)
            if index == len(self.stages):
                raise UserError(
                    f"start_from: {self.recipe.start_from[0]} has ended the last stage; name one "
                    "to begin: stage=..."
                )
            for note in self.loaded.notes(self.stages[index].name):
                _say(note)
            begins = f"{self.folder.path} begins from {self.recipe.start_from[0]}"
        else:
            index, saved = 0, None
            if self.recipe.init_from:
                check_init_from(self.recipe.model, self.recipe.init_from)
        if index == len(self.stages):
            _say(f"{self.folder.path} is finished; to train anew give another run_name")
            return DONE
        step = int(saved_timestamp(contents).batch.value) if contents else 0
        if contents is not None:
            _say(f"{begins} after update {step}")
        if dist.get_global_rank() == 0:
            self.folder.begin(self.resolved, after_step=step)
            write_manifest(self.folder, self.stages, corpora, step, self.command)
        while index < len(self.stages):
            self._train_stage(index, corpora[index], contents, saved)
            gc.collect()  # Composer's objects refer to each other
            if self.preemption.preempted:
                _say(f"stopped on request and saved; the same command continues {self.folder.path}")
                return PREEMPTED
            # The next stage begins as it would after a kill: from what is on the disk.
            contents = self._own_checkpoint()
            assert contents is not None, "a stage ends with a checkpoint"
            index, saved = self._place(contents)
        if dist.get_global_rank() == 0:
            picture = plot(self.folder.path)
            print(f"finished {self.folder.path}; picture: {picture}", flush=True)
        return DONE

    def _own_checkpoint(self) -> Contents | None:
        """The newest of this run's checkpoints, if the run is of this recipe.

        Raises:
            UserError: if it is not.
        """
        contents = newest_checkpoint(self.folder.checkpoints)
        if contents is not None:
            refuse_changed_recipe(
                self.folder.path,
                contents.get("run", contents["recipe"]),
                self.resolved,
                accept_changed_order=self.recipe.data.accept_changed_order,
            )
        return contents

    def _foreign_checkpoint(self, path: Path, corpora: Corpora) -> Contents:
        """The checkpoint of another run that this one goes on from.

        Raises:
            UserError: if there is nothing to go on from in it, or it is of another model or
                tokenizer.
        """
        contents = read_start(path, self.stages[0].recipe.model)
        if contents["tokenizer"] != tokenizer_texts(corpora):
            raise ConfigError(
                "start_from",
                f"{path} was trained with another tokenizer than that of {corpora.first.folder}; "
                "make the corpus with the checkpoint's",
            )
        return contents

    def _place(self, contents: Contents) -> tuple[int, Contents | None]:
        """Where to go on after a checkpoint: the stage's number, and the place in its data.

        A stage that the checkpoint has ended is followed by the next one, from its beginning; after
        the last stage the number is that of all stages.
        """
        saved = saved_data(contents)
        names = [stage.name for stage in self.stages]
        if saved["stage"] not in names:
            raise UserError(
                f"the checkpoint to go on from was saved in stage {saved['stage']!r}; "
                f"{did_you_mean(saved['stage'], names)}; or name a stage to begin: stage=..."
            )
        index = names.index(saved["stage"])
        position = saved["position"]
        clock = self.stages[index].clock(position["tokens"], position["update"])
        if not clock.finished:
            return index, saved
        step = int(saved_timestamp(contents).batch.value)
        if (
            dist.get_global_rank() == 0
            and (self.folder.checkpoints / checkpoint_name(step)).exists()
        ):
            name_stage_end(self.folder.checkpoints, names[index], step)
        return index + 1, None

    def _train_stage(
        self, index: int, corpora: Corpora, contents: Contents | None, saved: Contents | None
    ) -> None:
        """Train one stage to its end, or until preemption.

        Args:
            contents: the checkpoint to begin from; None begins from a new model.
            saved: what it holds of this stage's data; None begins the stage.
        """
        stage = self.stages[index]
        data = open_stage_data(stage, corpora, saved)
        device = get_device(None)
        run = _stage_run(stage, contents, data, suit_device(stage, device))
        if saved is None:
            before = self.stages[index - 1] if index else None
            _say(transition_text(stage, before, run.first_step, run.first_tokens))
        if stage.recipe.batch.microbatch_rows is None:
            _say(f"micro-batches of at most {run.microbatch_rows} rows, to suit the device")
        position = self._log_order(run, data)
        torch.manual_seed(self.recipe.seed)
        made, notes = make_model(stage.recipe, fresh=contents is None)
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
        trainer = stage_trainer(
            run,
            model,
            corpora,
            data,
            self.folder,
            speed_monitor=speed_monitor,
            position=position,
            contents=unchanging_contents(stage, self.resolved, corpora),
            preemption=self.preemption,
            more_callbacks=self.callbacks,
        )
        if contents is not None:
            load_state(trainer.state, trainer.logger, contents)
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
            first_step=run.first_step + start["update"],
            first_update=start["update"],
            first_tokens=start["tokens"],
            first_row=start["packing_window"]["row"] + start["row"],
            recipe=encode(run.recipe),
            order=data.order,
        )
        log = OrderLog(self.folder.orders)
        if dist.get_global_rank() == 0:
            segment = log.resume(segment.first_step, segment)
        return DataPosition(data, log.index(segment, len(data.stream.mixture.buckets)))


def _stage_run(
    stage: Stage, contents: Contents | None, data: StageData, microbatch_rows: int
) -> StageRun:
    """The stage within a run that stands at a checkpoint."""
    step = tokens = 0
    if contents is not None:
        timestamp = saved_timestamp(contents)
        step, tokens = int(timestamp.batch.value), int(timestamp.token.value)
    return StageRun(
        stage=stage,
        first_step=step - data.start["update"],
        first_tokens=tokens - data.start["tokens"],
        microbatch_rows=microbatch_rows,
    )


def _set_determinism(recipe: Recipe) -> None:
    """It has to come before anything runs on a GPU: cuBLAS reads its variable once."""
    if recipe.deterministic:
        configure_deterministic_mode()
    else:
        torch.use_deterministic_algorithms(False)


def _say(text: str) -> None:
    if dist.get_global_rank() == 0:
        print(text, flush=True)
