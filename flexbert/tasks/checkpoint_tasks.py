"""Tasks that a run's checkpoints are tried on: while it trains, or by ``flexbert watch``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flexbert.checkpoint.file_hash import file_digest
from flexbert.config.by_metric import is_own_metric
from flexbert.config.duration import Duration
from flexbert.config.recipe import Recipe
from flexbert.config.training import SuiteEvaluationConfig
from flexbert.errors import ConfigError, UserError, did_you_mean, user_errors_at
from flexbert.files.file_lock import file_lock
from flexbert.task_metrics_file import TaskMetrics, append, read_task_metrics
from flexbert.tasks.best_points import best_point
from flexbert.tasks.designs import DESIGNS
from flexbert.tasks.fits import FitMaker, fit_settings, weights_path
from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.models import find_models
from flexbert.tasks.results import FitRecord, fingerprint_of
from flexbert.tasks.search import Search, finished_fits, make_search, read_tasks, run_search
from flexbert.tasks.suite import Suite, Task, load_suite
from flexbert.tasks.task_data import check_model

_RECORDING = ".recording.lock"
# In a run's folder; one below it for each suite, as it was resolved.
FOLDER = "tasks"


@dataclass(frozen=True, kw_only=True)
class TriedCheckpoint:
    """A checkpoint of a run, and where the run was when it was saved.

    Attributes:
        step, tokens: of the whole run.
        ends_stage: whether its stage ended with it.
        digest: that the file carries, where training may go back and save another one under its
            name while it is tried.
    """

    path: Path
    stage: str
    step: int
    tokens: int
    ends_stage: bool
    digest: str | None = None


class CheckpointTasks:
    """Tries a run's checkpoints on tasks; several processes share the fits of one.

    Args:
        run: its folder.
        beat: is called before each batch of a fit, and while others make theirs; what it raises
            ends the trial, which the next one goes on with.

    Raises:
        UserError: if the suite or a row of it is wrong, or the run knows another task by the name
            of one.
    """

    def __init__(
        self,
        run: Path,
        config: SuiteEvaluationConfig,
        device: torch.device,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.run = run
        self.config = config
        self.suite: Suite = load_suite(config.file, config.overrides, config.tasks)
        self._examples = read_tasks(self.suite)
        digest = fingerprint_of({"suite": self.suite.resolved, "mode": config.mode})[:8]
        self.folder = run / FOLDER / f"{self.suite.name}-{digest}"
        self._maker = FitMaker(self.folder, device, beat)
        self._fingerprints = {
            name: self._fingerprint(task) for name, task in self.suite.tasks.items()
        }
        self._known()

    @property
    def fits_each(self) -> int:
        """The fits that trying one checkpoint takes."""
        tasks = self.suite.tasks.values()
        return sum(
            len(task.settings.seeds) * (1 if self.config.mode == "frozen" else len(task.points))
            for task in tasks
        )

    def check(self, recipe: Recipe, tokenizer: Mapping[str, str]) -> None:
        """See that a stage's checkpoints will go with every task, and measure what ends it.

        Args:
            tokenizer: the corpus's, file name to text.

        Raises:
            UserError: if they will not.
        """
        self.check_stopping(recipe)
        for name, task in self.suite.tasks.items():
            with user_errors_at(f"evaluation.suite: {self.config.file}: tasks.{name}"):
                check_model(
                    self._examples[name],
                    recipe.model,
                    tokenizer,
                    task.settings.max_length,
                    "the recipe's model",
                )

    def check_stopping(self, recipe: Recipe) -> None:
        """See that a task's metric that may end a stage is measured.

        Raises:
            ConfigError: if it is not.
        """
        stopping = recipe.evaluation.early_stopping
        if stopping is None or is_own_metric(stopping.metric):
            return
        known = self.suite.metric_names
        if stopping.metric not in known:
            raise ConfigError(
                "evaluation.early_stopping.metric",
                f"evaluation.suite measures no {stopping.metric}; "
                + did_you_mean(stopping.metric, known),
            )

    def is_due(self, checkpoint: TriedCheckpoint) -> bool:
        """Whether a checkpoint is to be tried, and has not been on every task.

        Raises:
            UserError: if what is known already cannot be read.
        """
        if self.is_tried(checkpoint):
            return False
        known, tried = self._known(), self._tried(checkpoint)
        return tried != set() or checkpoint.ends_stage or self._is_far(checkpoint, known)

    def is_tried(self, checkpoint: TriedCheckpoint) -> bool:
        """Whether a checkpoint has been tried on every task.

        Raises:
            UserError: if what is known cannot be read.
        """
        return self._tried(checkpoint) >= self.suite.tasks.keys()

    def try_checkpoint(self, checkpoint: TriedCheckpoint) -> None:
        """Make the fits that are left, next to whoever else does; over when all are made.

        Raises:
            UserError: if the checkpoint cannot be read, or does not go with a task.
        """
        run_search(self._search(checkpoint), self._maker, lambda record, progress: None)

    def record(self, checkpoint: TriedCheckpoint) -> list[TaskMetrics]:
        """Add what the fits came to to the run's ``tasks.jsonl``, unless another process has.

        Of several points of a grid the one counts that is best in the mean over seeds.

        Returns:
            What was added.

        Raises:
            UserError: if the checkpoint is gone, or another one has its name by now.
            WriteError: if the disk refuses it.
        """
        search = self._search(checkpoint)
        done = finished_fits(self.folder)
        made = search.fits(done)
        is_another = UserError(f"{checkpoint.path}: is another checkpoint by now")
        if any(fit.id not in done for fit in made):
            raise is_another
        fits: dict[str, list[FitRecord]] = defaultdict(list)
        for fit in made:
            fits[fit.task.name].append(done[fit.id])
        with file_lock(self.folder / _RECORDING):
            if checkpoint.digest not in (None, digest_of(checkpoint.path)):
                raise is_another
            known = self._tried(checkpoint)
            found = [
                self._metrics(checkpoint, task, records)
                for task, records in fits.items()
                if task not in known
            ]
            for each in found:
                append(self.run, each)
        # Those that other tasks started from: as large as the checkpoint, and of no use any more.
        for fit in made:
            weights_path(self.folder, fit.id).unlink(missing_ok=True)
        return found

    def _search(self, checkpoint: TriedCheckpoint) -> Search:
        return make_search(
            self.suite,
            find_models([f"{checkpoint.path.stem}={checkpoint.path}"]),
            self.config.mode,
            DESIGNS["full"],
            self.folder,
            examples=self._examples,
        )

    def _metrics(
        self, checkpoint: TriedCheckpoint, task: str, records: Sequence[FitRecord]
    ) -> TaskMetrics:
        kept = [KeptFit(record=record, folder=self.folder) for record in records]
        chosen = {fit.record.fit for fit in best_point(kept, records[0].metric).fits}
        best = [record for record in records if record.fit in chosen]
        return TaskMetrics(
            stage=checkpoint.stage,
            step=checkpoint.step,
            tokens=checkpoint.tokens,
            checkpoint=checkpoint.path.name,
            suite=self.suite.name,
            task=task,
            mode=self.config.mode,
            fingerprint=self._fingerprints[task],
            seeds=tuple(each.seed for each in best),
            metrics={
                name: sum(each.metrics[name] for each in best) / len(best)
                for name in best[0].metrics
            },
            seconds=round(sum(each.seconds for each in records), 3),
        )

    def _known(self) -> list[TaskMetrics]:
        """Raises UserError where another task was tried by the name of one of these."""
        known = [each for each in read_task_metrics(self.run) if self._is_ours(each)]
        for each in known:
            if self._fingerprints.get(each.task, each.fingerprint) != each.fingerprint:
                raise UserError(
                    f"{self.config.file}: {each.checkpoint} was tried on {each.task} of the suite "
                    f"{each.suite} with other settings or rows; give the suite another name "
                    "(suite=NAME)"
                )
        return known

    def _fingerprint(self, task: Task) -> str:
        """Of what its metrics depend on besides the checkpoint."""
        start = task.settings.from_task if self.config.mode == "fine_tune" else None
        points = task.points[:1] if self.config.mode == "frozen" else task.points
        data = self._examples[task.name].data
        made_of = {
            "points": [fit_settings(point.settings, self.config.mode) for point in points],
            "seeds": task.settings.seeds,
            "data": {name: each.fingerprint for name, each in data.items()},
            "start": start and self._fingerprint(self.suite.tasks[start]),
        }
        return fingerprint_of(made_of)

    def _tried(self, checkpoint: TriedCheckpoint) -> set[str]:
        """The tasks that are known of a checkpoint."""
        return {each.task for each in self._known() if each.step == checkpoint.step}

    def _is_ours(self, measured: TaskMetrics) -> bool:
        return (measured.suite, measured.mode) == (self.suite.name, self.config.mode)

    def _is_far(self, checkpoint: TriedCheckpoint, known: Sequence[TaskMetrics]) -> bool:
        """Whether the interval has passed since the last checkpoint before this one was tried."""
        interval = self.config.interval
        before = [each for each in known if each.step < checkpoint.step]
        if interval is None or not before:
            return interval is None or _progress(checkpoint, interval) >= interval.value
        passed = _progress(checkpoint, interval) - _progress(before[-1], interval)
        return passed >= interval.value


def digest_of(path: Path) -> str | None:
    """The hash that a checkpoint carries; None where there is none, or no checkpoint."""
    try:
        return file_digest(path)
    except OSError:
        return None


def _progress(place: TriedCheckpoint | TaskMetrics, interval: Duration) -> int:
    """In the unit of an interval."""
    return place.tokens if interval.unit == "tok" else place.step
