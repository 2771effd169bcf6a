"""Training one stage, from where a launch finds it to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch
from composer import Callback
from composer.loggers import LoggerDestination

from flexbert.config.encode import encode
from flexbert.config.recipe import Recipe
from flexbert.data.reading.corpora import Corpora
from flexbert.nn.flops import model_cost
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.schedule.stages import Stage, transition_text
from flexbert.train.callbacks import DataPosition, MovingAverage
from flexbert.train.checkpointing import Checkpointer, restore
from flexbert.train.composer_model import ComposerMaskedLM, compile_as_asked, make_model
from flexbert.train.console import header
from flexbert.train.console.console import Console
from flexbert.train.console.stage_costs import stage_costs
from flexbert.train.console.stage_display import StageDisplay
from flexbert.train.console.time_left import TimeLeft
from flexbert.train.device_checks import device_notes, training_device
from flexbert.train.device_microbatch import suit_device
from flexbert.train.health.roll_back import roll_back
from flexbert.train.health.stage_trainer import StageTrainer
from flexbert.train.live_tasks import LiveTasks, catch_up
from flexbert.train.processes.launch_agreement import require_same, weight_values
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.run_lock import RunLock
from flexbert.train.processes.stop_request import StopRequest
from flexbert.train.processes.stopping import EndStage, RollBack, StopBetween, Stopped
from flexbert.train.recipe_callbacks import build_callbacks
from flexbert.train.run_folder import RunFolder
from flexbert.train.speed_monitor import SpeedMonitor
from flexbert.train.stage_data import StageData, open_stage_data
from flexbert.train.stage_end import end_stage
from flexbert.train.stage_run import StageRun, stage_is_over
from flexbert.train.start import Start
from flexbert.train.trainer import close, stage_trainer


class Ending(Enum):
    """How training of a stage ended."""

    FINISHED = auto()
    STOPPED = auto()
    ROLLED_BACK = auto()


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the stages of a run share in one launch.

    Attributes:
        resolved: the resolved recipe of the whole run.
        recipe: the first stage's; what belongs to the run is the same in all.
        corpora: of each stage.
        lock: on the run folder, which the first process holds.
        callbacks: Composer's, which run last.
        loggers: Composer's, of the first process.
        live_tasks: that checkpoints are tried on, where the recipe asks for it.
    """

    resolved: Mapping[str, Any]
    recipe: Recipe
    stages: Sequence[Stage]
    corpora: Sequence[Corpora]
    folder: RunFolder
    console: Console
    peers: Peers
    request: StopRequest
    lock: RunLock | None
    callbacks: Sequence[Callback]
    loggers: Sequence[LoggerDestination] = ()
    live_tasks: LiveTasks | None = None


class StageTraining:
    """One stage in one launch."""

    def __init__(self, context: RunContext, start: Start) -> None:
        self.context = context
        self.start = start
        self.stage = context.stages[start.stage]
        self.corpora = context.corpora[start.stage]

    def train(self) -> Ending:
        """Train until the stage ends, the run is told to stop, or training is to go back.

        Raises:
            NumbersError: if the numbers went bad.
        """
        data = self._open_data()
        run = self._stage_run(data)
        stop = StopBetween(self.context.request, self.context.peers)
        trainer, checkpointer = self._trainer(run, data, stop)
        ending = Ending.FINISHED
        try:
            with self.context.console.live_bar():
                self._fit(trainer, checkpointer)
                if self.stage.recipe.evaluation.restores_best:
                    end_stage(run, trainer.state, checkpointer, self.context.console)
        except EndStage:
            end_stage(run, trainer.state, checkpointer, self.context.console)
        except Stopped:
            if stop.roll_back_asked:
                # What the last update left is not to be gone on from.
                self._roll_back(run, int(trainer.state.timestamp.batch.value), checkpointer)
            else:
                reason = self.context.request.reason or "another process"
                self.context.console.say(
                    f"{reason}: saving; another signal would end the run at once, unsaved"
                )
                checkpointer.save_stopped(trainer.state, evaluation_due=stop.in_evaluation)
            self.context.request.is_final = True
            ending = Ending.STOPPED
        except RollBack:
            self._roll_back(run, int(trainer.state.timestamp.batch.value), checkpointer)
            ending = Ending.ROLLED_BACK
        finally:
            WHEREABOUTS.reach("ending a stage", slow=True)
        close(trainer)
        return ending

    def _fit(self, trainer: StageTrainer, checkpointer: Checkpointer) -> None:
        if self.start.evaluation_due:
            trainer.evaluate_now()
            checkpointer.early_stopping.look(trainer.state)
            checkpointer.save_evaluated(trainer.state)
        elif self.stage.recipe.evaluation.at_start and self._begins_the_run():
            trainer.evaluate_now()
        if not self._begins_the_run():
            catch_up(trainer.state)
        if not stage_is_over(trainer.state):
            trainer.fit()

    def _begins_the_run(self) -> bool:
        checkpoint = self.start.checkpoint
        return checkpoint is None or checkpoint.parent != self.context.folder.checkpoints

    def _open_data(self) -> StageData:
        """The stage's data, the same on every process."""
        peers = self.context.peers
        with WHEREABOUTS.doing(f"making the order of stage {self.stage.name}", slow=True):
            data = open_stage_data(self.stage, self.corpora, self.start.data)
        peers.meet(f"the order of stage {self.stage.name}", slow=True)
        place = {"position": data.start.plain(), "skipped_rows": data.skipped_rows}
        require_same(peers, "data order", lambda: {**data.order, **place})
        return data

    def _stage_run(self, data: StageData) -> StageRun:
        context, start, stage = self.context, self.start, self.stage
        run = StageRun(
            stage=stage,
            first_step=start.clock.updates - data.start.update,
            first_tokens=start.clock.tokens - data.start.tokens,
            microbatch_rows=suit_device(stage, training_device()),
        )
        if start.data is None and start.clock.updates:
            before = context.stages[start.stage - 1] if start.stage else None
            context.console.say(transition_text(stage, before, run.first_step, run.first_tokens))
        return run

    def _trainer(
        self, run: StageRun, data: StageData, stop: StopBetween
    ) -> tuple[StageTrainer, Checkpointer]:
        """A trainer that stands where the launch starts."""
        context, start, recipe = self.context, self.start, self.stage.recipe
        position = self._log_order(run, data)
        model = self._model()
        speed_monitor = SpeedMonitor(
            run, model_cost(model, recipe.model), next(model.parameters()).device
        )
        tracing = recipe.logging.profiler
        if tracing and self.stage.nominal_updates <= tracing.before:
            context.console.say(
                f"warning: logging.profiler records nothing: {tracing.before} updates come before "
                f"the first that it records, and the stage has about {self.stage.nominal_updates}"
            )
        with WHEREABOUTS.doing("compiling", slow=True):
            compiled = compile_as_asked(model, recipe)
        self._print_header(run, model, speed_monitor.peak_flops, compiled)
        kept = recipe.moving_average
        moving_average = None if kept is None else MovingAverage(kept, model)
        callbacks = build_callbacks(recipe, context.folder.path)
        context.peers.meet(f"building stage {self.stage.name}", slow=True)
        # What one process compiles and another does not rounds in other ways.
        require_same(context.peers, "compiled parts", lambda: {"compile": compiled})
        trainer, checkpointer = stage_trainer(
            run,
            model,
            self.corpora,
            data,
            context.folder,
            speed_monitor=speed_monitor,
            display=StageDisplay(run, context.console, self._time_left()),
            position=position,
            moving_average=moving_average,
            resolved=context.resolved,
            stages=context.stages,
            stop=stop,
            peers=context.peers,
            lock=context.lock,
            due_step=start.due_step,
            is_overdue=start.is_overdue,
            saved_step=None if self._begins_the_run() else start.clock.updates,
            health=start.health,
            live_tasks=context.live_tasks,
            early_stopping=start.early_stopping,
            loggers=context.loggers,
            recipe_callbacks=callbacks,
            more_callbacks=context.callbacks,
        )
        if start.checkpoint is not None:
            with WHEREABOUTS.doing(f"restoring {start.checkpoint}", slow=True):
                average = restore(start.checkpoint, trainer.state, model, run, callbacks)
            if average is not None and moving_average is not None:
                moving_average.weights = average
        require_same(context.peers, "weights", lambda: weight_values(model))
        return trainer, checkpointer

    def _model(self) -> ComposerMaskedLM:
        torch.manual_seed(self.context.recipe.seed)
        made, notes = make_model(
            self.stage.recipe, self.corpora.tokenizer, fresh=self.start.checkpoint is None
        )
        for note in notes:
            self.context.console.say(note)
        model: ComposerMaskedLM = training_device().module_to_device(made)
        return model

    def _print_header(
        self, run: StageRun, model: ComposerMaskedLM, peak_flops: float, compiled: str
    ) -> None:
        context, start, recipe = self.context, self.start, self.stage.recipe
        device = next(model.parameters()).device
        precision, *notes = device_notes(recipe, device)
        clock = start.clock
        context.console.header(
            recipe.run_name,
            {
                "model": header.model_text(model, recipe),
                "devices": header.devices_text(recipe, device, peak_flops),
                "precision": precision.removeprefix("precision: "),
                "attention": header.attention_text(model, recipe, device),
                "torch.compile": compiled,
                "batch": header.batch_text(self.stage, run.microbatch_rows),
                "corpus": header.corpora_text(self.corpora),
                "to do": header.to_do_text(
                    context.stages, start.stage, clock.tokens, clock.updates
                ),
            },
        )
        for note in notes:
            context.console.say(note)
        context.console.complete_header()

    def _time_left(self) -> TimeLeft:
        """An estimate that knows what the later stages cost, where somebody reads it."""
        context, index = self.context, self.start.stage
        costs = dict.fromkeys((stage.name for stage in context.stages), 1.0)
        if context.console.speaks and index + 1 < len(context.stages):
            costs = stage_costs(context.stages[index:], context.corpora[index:])
        return TimeLeft(context.stages, index, costs)

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
            skipped_rows=data.skipped_rows,
        )
        log = OrderLog(self.context.folder.orders)
        if self.context.peers.rank.is_first:
            segment = log.resume(segment.first_step, segment)
        return DataPosition(data, log.index(segment, len(data.stream.mixture.buckets)))

    def _roll_back(self, run: StageRun, step: int, checkpointer: Checkpointer) -> None:
        """Let the last checkpoint before the spike go on behind the rows that were read since."""
        context = self.context
        spikes = run.recipe.health.spikes
        assert spikes is not None, "a spike was found"
        if context.peers.rank.is_first:
            rolled = roll_back(
                context.folder.checkpoints,
                run.stage.name,
                step,
                checkpointer.data().position,
                spikes.max_roll_backs,
            )
            checkpointer.guard.log.note(
                "rolled_back",
                f"back from step {step} to the checkpoint of step {rolled.step}; rows "
                f"{rolled.first_row:,} to {rolled.end_row - 1:,} of the stage are skipped",
                stage=run.stage.name,
                step=step,
                to_step=rolled.step,
                first_row=rolled.first_row,
                rows=rolled.end_row - rolled.first_row,
            )
            context.folder.begin(context.resolved, after_step=rolled.step)
        context.peers.meet("the roll-back", slow=True)
