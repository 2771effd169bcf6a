"""What a run measured at its checkpoints: validation loss and accuracy, and metrics of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.manifest_file import CorpusRecord, Launch, Manifest
from flexbert.metrics_file import METRICS, Record, read_metrics
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """
    Attributes:
        records: of the training and of its evaluations, oldest first.
        tasks: oldest first.
    """

    manifest: Manifest
    records: Sequence[Record]
    tasks: Sequence[TaskMetrics]

    def tasks_at(self, step: int | None) -> list[TaskMetrics]:
        return [measured for measured in self.tasks if measured.step == step]

    def evaluation_at(self, step: int) -> Record | None:
        """On the validation splits, of the weights at this update."""
        found = [r for r in self.records if r.event == "eval" and r.step == step]
        return found[-1] if found else None

    def stage_tokens(self, until: int | None) -> dict[str, int]:
        """Real tokens by stage, up to an update; up to the last where that is None."""
        found: dict[str, int] = {}
        for record in self.records:
            if until is None or record.step <= until:
                found[record.stage] = max(record.stage_tokens, found.get(record.stage, 0))
        return found

    def launch_at(self, step: int | None) -> Launch | None:
        """The launch that made an update; the last one where that is not known."""
        launches = [
            launch
            for launch in self.manifest.launches
            if step is None or launch.after_step < step or launch.after_step == 0
        ]
        return launches[-1] if launches else None

    def corpora(self) -> dict[str, CorpusRecord]:
        """The corpora of all stages, by source."""
        return {
            source: corpus
            for stage in self.manifest.stages.values()
            for source, corpus in stage.corpora.items()
        }


def read_run_results(run_folder: Path) -> RunResults:
    """Read what a run's folder says; a run that has recorded nothing has no results.

    Raises:
        UserError: if there is no manifest, or a file cannot be read.
    """
    manifest = Manifest.read(run_folder)
    records = read_metrics(run_folder) if (run_folder / METRICS).is_file() else []
    return RunResults(
        manifest=manifest,
        records=records,
        tasks=read_task_metrics(run_folder),
    )
