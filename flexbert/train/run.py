"""A recipe's stages, one after the other, from wherever they were left."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from composer import Callback
from composer.utils import dist
from composer.utils.reproducibility import configure_deterministic_mode
from torch.distributed import DistError

from flexbert import __version__
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.checkpoint.file_hash import file_digest
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.packing.loader_workers import worker_ended
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import UserError
from flexbert.files.progress_bar import ProgressBar
from flexbert.files.set_aside import set_aside
from flexbert.plan.checkpoint_sizes import room_of
from flexbert.plan.remarks import cpu_remarks, recipe_remarks
from flexbert.report.reports import draw_runs, write_page
from flexbert.schedule.stages import all_stages
from flexbert.stage_checks import check_transitions, open_corpora
from flexbert.tasks.checkpoint_tasks import TriedCheckpoint
from flexbert.train.console.console import Console
from flexbert.train.console.same_command import same_command
from flexbert.train.device_checks import memory_advice, training_device
from flexbert.train.live_tasks import LiveTasks
from flexbert.train.loggers.run_loggers import RunLoggers
from flexbert.train.manifest import write_manifest
from flexbert.train.plugin_agreement import check_same_plugins
from flexbert.train.processes.launch_agreement import recipe_values, require_same, version_values
from flexbert.train.processes.peers import Peers, join_peers
from flexbert.train.processes.place import WHEREABOUTS
from flexbert.train.processes.run_errors import DONE, PREEMPTED, PeerError
from flexbert.train.processes.run_lock import RunLock, hold_run_folder
from flexbert.train.processes.stop_request import StopRequest
from flexbert.train.processes.stopping import Stopped
from flexbert.train.processes.watch import Watch
from flexbert.train.run_folder import RunFolder, name_stage_end
from flexbert.train.stage_training import Ending, RunContext, StageTraining
from flexbert.train.start import Start, find_start
from flexbert.train.trainer import collective_seconds

_LOOK_SECONDS = 0.2


def train(
    loaded: LoadedRecipe,
    command: Sequence[str],
    callbacks: Sequence[Callback] = (),
    *,
    quiet: bool = False,
) -> int:
    """Train, or continue training, what the recipe describes.

    Args:
        command: the command line, for the manifest.
        callbacks: Composer callbacks that run after FlexBERT's own.
        quiet: print errors, warnings and the end alone.

    Returns:
        The process's exit code: 0 when the run is finished, 75 when it was told to stop and has
        saved a checkpoint from which the same command continues.

    Raises:
        UserError: before anything is built, if a stage's corpus cannot be used for it, a checkpoint
            to start from does not fit, the run folder holds a run of another recipe or is in use,
            or the processes do not agree.
        NumbersError: if training was stopped because its numbers went bad.
        OthersFailedError: if another process ended the run.
        WorkerError: if a process that prepares batches ended.
    """
    try:
        return _train(loaded, command, callbacks, quiet)
    except Exception as error:
        if (ended := worker_ended(error)) is not None:
            raise ended from None
        raise


def _train(
    loaded: LoadedRecipe, command: Sequence[str], callbacks: Sequence[Callback], quiet: bool
) -> int:
    timeouts = loaded.first.timeouts
    ProgressBar.is_silent = quiet
    # Composer sets a launcher's variables where there is none.
    go_on = same_command()
    with StopRequest() as request:
        WHEREABOUTS.reach("joining the other processes", slow=True)
        peers = _join(timeouts.peer)
        with Watch(peers, timeouts, request) as watch:
            for one in loaded.runs():
                console = Console(is_first=peers.rank.is_first, quiet=quiet)
                code = _Run(one, command, callbacks, peers, request, watch, console, go_on).train()
                if code != DONE:
                    break
            watch.fall_silent()
            peers.leave()
    return code


class _Run:
    """One run, in one folder."""

    def __init__(
        self,
        loaded: LoadedRecipe,
        command: Sequence[str],
        callbacks: Sequence[Callback],
        peers: Peers,
        request: StopRequest,
        watch: Watch,
        console: Console,
        go_on: str,
    ) -> None:
        self.loaded = loaded
        self.resolved = loaded.resolved
        self.recipe = loaded.first
        self.stages = all_stages(loaded.stages)
        self.folder = RunFolder(self.recipe.run_folder)
        self.command = command
        self.callbacks = callbacks
        self.peers = peers
        self.request = request
        self.watch = watch
        self.console = console
        self.go_on = go_on

    def train(self) -> int:
        """See :func:`train`."""
        corpora = [open_corpora(stage.recipe) for stage in self.stages]
        check_transitions(self.stages, corpora)
        check_same_plugins(self.recipe, self.peers)
        require_same(self.peers, "recipe", lambda: recipe_values(self.resolved))
        require_same(self.peers, "versions", version_values)
        _set_determinism(self.recipe)
        dist.initialize_dist(training_device(), timeout=collective_seconds(self.recipe))
        with contextlib.ExitStack() as held:
            lock = None
            if self.peers.rank.is_first:
                lock = held.enter_context(hold_run_folder(self.folder.path))
                held.enter_context(self.watch.regularly(lock.touch))
            return self._train_stages(corpora, lock)

    def _train_stages(self, corpora: Sequence[Corpora], lock: RunLock | None) -> int:
        live_tasks = self._live_tasks(corpora)
        start = self._find_start(corpora)
        untried = self._untried_end(start)
        if start.stage == len(self.stages) and not (
            live_tasks is not None and untried is not None and live_tasks.is_due(untried)
        ):
            self.console.end(start.summary or "")
            return DONE
        if start.summary is not None:
            self.console.say(start.summary)
        with self._open_loggers(start, corpora) as loggers:
            context = RunContext(
                resolved=self.resolved,
                recipe=self.recipe,
                stages=self.stages,
                corpora=corpora,
                folder=self.folder,
                console=self.console,
                peers=self.peers,
                request=self.request,
                lock=lock,
                callbacks=self.callbacks,
                loggers=loggers.destinations,
                live_tasks=live_tasks,
            )
            loggers.exit_code = self._train_from(start, context)
            return loggers.exit_code

    def _live_tasks(self, corpora: Sequence[Corpora]) -> LiveTasks | None:
        """The tasks that the recipe has checkpoints tried on, read before anything is trained."""
        config = self.recipe.evaluation.suite
        if config is None:
            return None
        with WHEREABOUTS.doing("reading tasks", slow=True):
            live = LiveTasks(config, self.folder, self.peers, self.request, self.console.say)
            live.check(self.stages, corpora)
            return live

    def _untried_end(self, start: Start) -> TriedCheckpoint | None:
        """The end of a stage that comes before the place to go on from, which may not be tried on
        tasks yet: it ended early, or the launch was stopped then."""
        path = start.checkpoint
        if start.ended is None or path is None or path.parent != self.folder.checkpoints:
            return None
        return TriedCheckpoint(
            path=path,
            stage=start.ended,
            step=start.clock.updates,
            tokens=start.clock.tokens,
            ends_stage=True,
        )

    def _open_loggers(self, start: Start, corpora: Sequence[Corpora]) -> RunLoggers:
        """Make the folder ready and open what is recorded to, on the first process."""
        if not self.peers.rank.is_first:
            return RunLoggers()
        self.folder.begin(self.resolved, after_step=start.clock.updates)
        write_manifest(self.folder, self.stages, corpora, start.clock.updates, self.command)
        size, *warnings = (
            room_of(self.stages, corpora, self.folder.checkpoints)
            .text(self.folder.path)
            .splitlines()
        )
        with WHEREABOUTS.doing("opening loggers", slow=True):
            loggers = RunLoggers.open(self.recipe, self.folder, self.resolved, start.clock.updates)
        self.console.header(
            f"FlexBERT {__version__}: {self.recipe.run_name}",
            {"run folder": f"{self.folder.path}, {size}", **loggers.entries},
        )
        for line in (*warnings, *loggers.warnings):
            self.console.say(line)
        for remark in self._remarks(corpora):
            self.console.say_after_header(f"remark: {remark}")
        return loggers

    def _train_from(self, start: Start, context: RunContext) -> int:
        """Train stage after stage; the process's exit code."""
        while True:
            untried = self._untried_end(start)
            if context.live_tasks is not None and untried is not None:
                try:
                    context.live_tasks.try_if_due(untried, context.loggers)
                except Stopped:
                    return self._stopped(saved_any=False)
            if start.stage == len(self.stages):
                break
            if self._stop_is_requested():
                return self._stopped(saved_any=False)
            with memory_advice():
                ending = StageTraining(context, start).train()
            context.corpora[start.stage].close()
            gc.collect()  # Composer's objects refer to each other
            if ending is Ending.STOPPED:
                return self._stopped(saved_any=True)
            # The next stage begins as it would after a kill: from what is on the disk.
            start = self._find_start(context.corpora)
            assert start.checkpoint is not None, "a stage ends with a checkpoint"
        if self.peers.rank.is_first:
            self.console.end(f"finished {self.folder.path}; {_reports(self.folder)}")
        return DONE

    def _stopped(self, *, saved_any: bool) -> int:
        """Say that the run is stopped, what of it is saved, and how it goes on."""
        if self.peers.rank.is_first:
            by = self.request.reason or "of another process"
            saved = "nothing new to save"
            if saved_any:
                saved = f"saved {list_checkpoints(self.folder.checkpoints)[-1]}"
            self.console.end(f"stopped on request ({by}): {saved}; go on with: {self.go_on}")
        return PREEMPTED

    def _remarks(self, corpora: Sequence[Corpora]) -> list[str]:
        """What ``flexbert plan`` would say of the recipe, as far as it needs no packing."""
        found = recipe_remarks(self.stages, corpora)
        if training_device().name == "cpu":
            found += cpu_remarks(self.stages, self.peers.rank.world_size)
        return found

    def _stop_is_requested(self) -> bool:
        """Whether any process was told to stop."""
        return any(self.peers.gather("beginning a stage", self.request.is_requested))

    def _find_start(self, corpora: Sequence[Corpora]) -> Start:
        """Where to go on: the first process looks, the others take what it has found.

        A stage's end that is found gets the stage's name; what is damaged is set aside.
        """
        own: list[Start] = []

        def look() -> list[str | None]:
            start = find_start(self.loaded, self.folder, corpora)
            own.append(start)
            for note in start.notes:
                self.console.say(note)
            for path in start.damaged:
                self.console.say(f"warning: {path} is kept as {set_aside(path).name}")
            if start.ended is not None:
                name_stage_end(self.folder.checkpoints, start.ended, start.clock.updates)
            if start.checkpoint is None:
                return [None, None]
            return [start.checkpoint.name, file_digest(start.checkpoint)]

        with WHEREABOUTS.doing("finding the checkpoint to go on from", slow=True):
            name, digest = self.peers.broadcast("the checkpoint to go on from", look, slow=True)
        start = own[0] if own else self._take(name, digest, corpora)
        found = {"stage": start.stage, "step": start.clock.updates, "checkpoint": digest}
        require_same(self.peers, "place to go on from", lambda: found)
        return start

    def _take(self, name: str | None, digest: str | None, corpora: Sequence[Corpora]) -> Start:
        """The start that another process has found, once this one sees it too."""
        if name is None:
            return find_start(self.loaded, self.folder, corpora, chosen=())
        candidates = [self.folder.checkpoints / name, *self.recipe.start_from]
        # A network file system shows a new file late on other machines.
        deadline = time.monotonic() + 0.8 * self.recipe.timeouts.peer
        while (found := _with_digest(candidates, name, digest)) is None:
            self.peers.raise_failure()
            if time.monotonic() > deadline:
                raise UserError(
                    f"{self.folder.checkpoints / name}: rank 0 goes on from a checkpoint of this "
                    "name that is not seen here, or is another one; runs_folder must be a folder "
                    "that all nodes share"
                )
            time.sleep(_LOOK_SECONDS)
        return find_start(self.loaded, self.folder, corpora, chosen=(found,))


def _with_digest(candidates: Sequence[Path], name: str, digest: str | None) -> Path | None:
    """The checkpoint of this name that is the one meant, if it is there yet."""
    for path in candidates:
        file = path if path.name == name else path / "checkpoints" / name
        with contextlib.suppress(OSError, UserError):
            if file.is_file() and file_digest(file) == digest:
                return file
    return None


def _join(seconds: float) -> Peers:
    try:
        return join_peers(seconds)
    except DistError as error:
        raise PeerError(
            f"the process of rank 0 was not reached within {seconds:.0f} s (timeouts.peer): it has "
            f"ended, or the launcher's --master_addr or --master_port is wrong ({error})"
        ) from None


def _set_determinism(recipe: Recipe) -> None:
    """It has to come before anything runs on a GPU: cuBLAS reads its variable once."""
    if recipe.deterministic:
        configure_deterministic_mode()
    else:
        torch.use_deterministic_algorithms(False)


def _reports(folder: RunFolder) -> str:
    """Draw the run; what is wrong with its records, or the disk, does not undo the training."""
    try:
        return f"picture: {draw_runs([folder.path])}; page: {write_page([folder.path])}"
    except UserError as error:
        return f"no picture and page of it ({error})"
