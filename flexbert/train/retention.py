"""Which checkpoints of a run stay, and which are deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from flexbert.checkpoint.best import stages_of_steps
from flexbert.checkpoint.checkpoint_names import checkpoint_step, list_checkpoints
from flexbert.checkpoint.run_metric import RunMetric, UnknownMetricError, find_metric
from flexbert.errors import UserError
from flexbert.metrics_file import Record, restored_steps
from flexbert.schedule.stages import Stage
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics
from flexbert.train.run_folder import RunFolder


class Retention:
    """Deletes a run's old checkpoints while a stage trains, as ``checkpoints`` says.

    The newest ``keep`` stay. Of every stage so far the best stay that its own ``keep_best`` asks
    for, and of those older ones whose metric is not known yet the newest ``patience`` of the
    stage that trains. What is decided is a function of the folder, so that a kill in between
    changes nothing.
    """

    def __init__(self, folder: RunFolder, stages: Sequence[Stage], stage: Stage) -> None:
        """
        Args:
            stages: of the run.
            stage: that trains.
        """
        self._folder = folder
        self._settings = {each.name: each.recipe.checkpoints.keep_best for each in stages}
        self._stage = stage
        self._told: set[str] = set()

    def delete_old(self, needed: Collection[int]) -> None:
        """Delete what need not stay.

        Args:
            needed: steps that stay whatever the recipe says: those that training may go back to.
        """
        keep = self._stage.recipe.checkpoints.keep
        if keep is None:
            return
        paths = {checkpoint_step(p): p for p in list_checkpoints(self._folder.checkpoints)}
        old = list(paths)[:-keep]
        if not old:
            return
        kept = {*needed, *self._chosen(list(paths), old)}
        for step in old:
            if step not in kept:
                # Another update deletes what this one cannot.
                with contextlib.suppress(OSError):
                    paths[step].unlink()

    def _chosen(self, steps: Sequence[int], old: Sequence[int]) -> set[int]:
        """The best, and those that wait.

        Args:
            steps: that have a checkpoint.
            old: those of them that are not among the newest.
        """
        if not any(self._settings.values()):
            return set()
        try:
            tasks = read_task_metrics(self._folder.path)
        except UserError as error:
            self._tell(error)
            tasks = []
        results = self._folder.results()
        evaluations = [record for record in results if record.event == "eval"]
        restored = restored_steps(results)
        known = stages_of_steps(steps, [*evaluations, *tasks])
        # A stage ends with an evaluation: what follows the last one is of the stage that trains.
        stages = {step: known[step] or self._stage.name for step in steps}
        chosen: set[int] = set()
        waiting: list[int] = []
        for name, setting in self._settings.items():
            if setting is None:
                continue
            own = [step for step in steps if stages[step] == name and step not in restored]
            metric = self._metric(setting.metric, evaluations, tasks)
            best = metric.best_steps(own, setting.count) if metric is not None else []
            chosen |= set(best)
            if setting.waiting:
                measured = metric.by_step if metric is not None else {}
                waiting += [step for step in own if step in old and step not in measured]
        here = self._stage.recipe.checkpoints.keep_best
        most = here.waiting if here is not None else 0
        return chosen | set(sorted(waiting, reverse=True)[:most])

    def _metric(
        self, name: str, evaluations: Sequence[Record], tasks: Sequence[TaskMetrics]
    ) -> RunMetric | None:
        """What is known of it; None where nothing is yet."""
        try:
            return find_metric(name, evaluations, tasks, self._folder.path)
        except UnknownMetricError:
            return None
        except UserError as error:
            self._tell(error)
            return None

    def _tell(self, error: UserError) -> None:
        """Say once what is wrong; a training that goes on for weeks does not end for it."""
        if str(error) not in self._told:
            self._told.add(str(error))
            print(
                f"warning: checkpoints.keep_best: {error}; no checkpoint counts as the best by it",
                flush=True,
            )
