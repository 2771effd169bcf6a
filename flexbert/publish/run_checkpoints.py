"""The checkpoints of a run as they are published: which of them, and under which names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flexbert.checkpoint.checkpoint import Averaged, Checkpoint
from flexbert.checkpoint.checkpoint_file import CheckpointError, read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.checkpoint.file_hash import file_digest
from flexbert.checkpoint.weights import model_config
from flexbert.config.clock import StageClock, crossed
from flexbert.config.duration import Duration
from flexbert.config.model import ModelConfig
from flexbert.errors import UserError, did_you_mean
from flexbert.huggingface.export import exported_class
from flexbert.publish.published_recipe import PublishedRecipe, published_recipe

_REVISION = re.compile(r"(?P<stage>[A-Za-z0-9_-]+)-step-(?P<step>\d{8,})-[\d.]+[kMBT]?-tokens")
# transformers' weights are written in float32.
_BYTES_PER_WEIGHT = 4


@dataclass(frozen=True, kw_only=True)
class RunCheckpoint:
    """A checkpoint with what its revision says of it.

    Attributes:
        digest: the hash that the file carries.
        run_name: of the run that wrote it, or that it is an average of.
        stage, step, tokens: where the run was, its updates and real tokens counted from its
            beginning; None for an average.
        stage_updates, stage_tokens: the same of the stage alone.
        max_length: the longest sequence it was trained on, in tokens.
        weight_bytes: of its exported weights, about.
        exported_as: the class of transformers that loads it.
    """

    path: Path
    digest: str
    run_name: str
    stage: str | None
    step: int | None
    tokens: int | None
    stage_updates: int = 0
    stage_tokens: int = 0
    averaged: Averaged | None
    model: ModelConfig
    max_length: int | None
    weight_bytes: int
    exported_as: str
    recipe: PublishedRecipe

    @property
    def revision(self) -> str:
        """The branch that it becomes: ``decay-step-00001000-4.7B-tokens``."""
        assert self.stage is not None, self.path
        assert self.step is not None, self.path
        assert self.tokens is not None, self.path
        return f"{self.stage}-step-{self.step:08d}-{tokens_text(self.tokens)}-tokens"

    @property
    def is_end_of_run(self) -> bool:
        """Whether the run's last stage has reached its duration in it."""
        last = self.recipe.stages[-1]
        return (
            self.stage == last.name and last.clock(self.stage_tokens, self.stage_updates).finished
        )


def tokens_text(count: int) -> str:
    """A count of tokens in a name: 900, 3.5k, 47M, 4.7B, 1.7T."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            number = count / size
            return f"{number:.0f}{unit}" if number >= 10 else f"{number:.1f}{unit}"
    return str(count)


def stage_and_step(revision: str) -> tuple[str, int] | None:
    """What the name of a revision says; None for a branch that has another kind of name."""
    match = _REVISION.fullmatch(revision)
    return (match["stage"], int(match["step"])) if match else None


def run_checkpoints(run_folder: Path, stages: Iterable[str]) -> list[RunCheckpoint]:
    """Every checkpoint of a run once, oldest first: those of steps, and of stages' ends.

    Args:
        stages: of the run, by name.

    Raises:
        UserError: if there is no checkpoint, or one cannot be read or exported.
    """
    folder = run_folder / "checkpoints"
    found = {checkpoint.step: checkpoint for checkpoint in map(_of_run, list_checkpoints(folder))}
    for stage in stages:
        end = folder / f"{stage}.pt"
        # It keeps its name when only the newest steps are kept.
        if end.is_file() and (checkpoint := _of_run(end)).step not in found:
            found[checkpoint.step] = checkpoint
    if not found:
        raise UserError(f"{run_folder}: no checkpoint in it")
    return sorted(found.values(), key=lambda checkpoint: checkpoint.step or 0)


def main_checkpoint(path: Path, last: RunCheckpoint) -> RunCheckpoint:
    """A checkpoint that was chosen for ``main``; an average is described by its run's recipe.

    Args:
        last: the run's newest.

    Raises:
        UserError: if it cannot be read or exported, or is another run's.
    """
    checkpoint = _read(path)
    if checkpoint.run_name != last.run_name:
        raise UserError(
            f"{path}: is of the run {checkpoint.run_name or 'of no name'}, not of {last.run_name}"
        )
    return checkpoint if checkpoint.stage else replace(checkpoint, recipe=last.recipe)


def chosen(
    checkpoints: Sequence[RunCheckpoint], every: Duration | None, stages: Sequence[str]
) -> list[RunCheckpoint]:
    """Those that are published.

    Args:
        every: of updates or tokens of the run: the first checkpoint at or after each multiple. All
            if None.
        stages: of these alone; of all if there are none.

    Raises:
        UserError: if there is no such stage, or the interval is a fraction.
    """
    known = {checkpoint.stage: None for checkpoint in checkpoints}
    for stage in stages:
        if stage not in known:
            raise UserError(
                f"--stage {stage}: the run has no checkpoint of it; "
                f"{did_you_mean(stage, map(str, known))}"
            )
    if every is not None and (every.unit == "dur" or every.value == 0):
        raise UserError(f"--every {every}: give updates or tokens, as 1000ba or 10_000_000_000tok")
    kept = []
    before = (0, 0)
    for checkpoint in checkpoints:
        now = (checkpoint.step or 0, checkpoint.tokens or 0)
        is_due = every is None or crossed(every, _clock(before, every), _clock(now, every))
        if is_due and (not stages or checkpoint.stage in stages):
            kept.append(checkpoint)
        before = now
    return kept


def _clock(place: tuple[int, int], every: Duration) -> StageClock:
    updates, tokens = place
    return StageClock(updates=updates, tokens=tokens, duration=every)


def _of_run(path: Path) -> RunCheckpoint:
    checkpoint = _read(path)
    if checkpoint.stage is None:
        raise CheckpointError(f"{path}: holds weights alone, and no place of a run")
    return checkpoint


def _read(path: Path) -> RunCheckpoint:
    # The whole file is compared with its hash when it is exported.
    checkpoint = read_checkpoint(path, verify=False)
    digest = file_digest(path)
    assert digest is not None, "read_checkpoint refuses a file without one"
    training = checkpoint.training
    position = training.data.position if training is not None else None
    return RunCheckpoint(
        path=path,
        digest=digest,
        run_name=str(checkpoint.recipe.get("run_name", "")),
        stage=training.data.stage if training is not None else None,
        step=training.clock.updates if training is not None else None,
        tokens=training.clock.tokens if training is not None else None,
        stage_updates=position.update if position is not None else 0,
        stage_tokens=position.tokens if position is not None else 0,
        averaged=checkpoint.averaged,
        model=model_config(checkpoint),
        max_length=checkpoint.max_length,
        weight_bytes=_BYTES_PER_WEIGHT * _num_weights(checkpoint),
        exported_as=exported_class(checkpoint),
        recipe=published_recipe(training.run if training is not None else checkpoint.recipe),
    )


def _num_weights(checkpoint: Checkpoint) -> int:
    return sum(weight.numel() for weight in checkpoint.model.values())
