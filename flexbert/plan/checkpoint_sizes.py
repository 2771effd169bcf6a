"""What a run's checkpoints take on the disk: how many there are, and how large each is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from flexbert.config.duration import Duration
from flexbert.config.recipe import Recipe
from flexbert.data.reading.corpora import Corpora
from flexbert.files.free_space import bytes_text, free_bytes
from flexbert.nn.build import build_model
from flexbert.plan.memory import FLOAT32, optimizer_numbers
from flexbert.plan.packing_efficiency import StageLength
from flexbert.schedule.stages import Stage

# Of a tensor in the archive: its two headers, its alignment, and its place in the pickled tree.
_TENSOR_BYTES = 290
# Recipe, clock, position, and the archive's end.
_OTHER_BYTES = 8_000


@dataclass(frozen=True, kw_only=True)
class StageCheckpoints:
    """The checkpoints that one stage writes.

    Attributes:
        count: how many, that of its end included.
        bytes_each: of one of them.
        keep: how many of the newest steps stay; None for all.
        best: how many others stay for being the best.
        waiting: how many more stay at most until it is known whether they are.
    """

    count: int
    bytes_each: int
    keep: int | None
    best: int = 0
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class CheckpointRoom:
    """The most that a run's checkpoints take at once.

    Attributes:
        written: how many the run writes in all.
        at_once: the most that are there together: those that are kept, the best and those that
            may be included, the one that is being written, and the ends of stages, which are kept
            as ``STAGE.pt``.
        largest_bytes: of one.
        total_bytes: of those that are there together.
        free_bytes: what the disk of the run's folder has room for, what the run has already
            written there included; None where that is not known.
    """

    written: int
    at_once: int
    largest_bytes: int
    total_bytes: int
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        return self.free_bytes is None or self.total_bytes <= self.free_bytes

    def text(self, folder: Path) -> str:
        """For people, in one or two lines.

        Args:
            folder: of the run.
        """
        each = bytes_text(self.largest_bytes)
        several = f"{self.at_once:,} checkpoints of {each}: {bytes_text(self.total_bytes)}"
        if self.at_once == 1:
            several = f"1 checkpoint of {each}"
        if self.fits:
            return several
        assert self.free_bytes is not None, "it does not fit"
        return (
            f"{several}\nwarning: {folder} has room for {bytes_text(self.free_bytes)}; free some, "
            "set checkpoints.keep or a longer checkpoints.interval"
        )


def stage_checkpoints(
    stage: Stage, length: StageLength, model: nn.Module, corpora: Corpora | None
) -> StageCheckpoints:
    """What one stage writes.

    Args:
        length: of the stage, as far as it is known.
        model: of the stage, on any device.
        corpora: for their tokenizer, which is in every checkpoint; without any it is left out.
    """
    recipe = stage.recipe
    best = recipe.checkpoints.keep_best
    restores = recipe.evaluation.restores_best
    count = _count(recipe.checkpoints.interval, stage.duration, length)
    if restores:  # each evaluation may be the best so far, and is then saved
        count += _count(recipe.evaluation.interval, stage.duration, length)
    return StageCheckpoints(
        count=min(count, length.steps),
        bytes_each=checkpoint_bytes(recipe, model) + _tokenizer_bytes(corpora),
        keep=recipe.checkpoints.keep,
        best=(best.count if best is not None else 0) + restores,
        waiting=best.waiting if best is not None else 0,
    )


def checkpoint_bytes(recipe: Recipe, model: nn.Module) -> int:
    """Of a checkpoint of a run, without the tokenizer."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    averages = 1 if recipe.moving_average else 0
    numbers = (1 + averages) * sum(sizes) + optimizer_numbers(recipe, model)
    # Each has its moments and a count besides.
    tensors = len(sizes) * (1 + averages + 3)
    return FLOAT32 * numbers + _TENSOR_BYTES * tensors + _OTHER_BYTES


def _tokenizer_bytes(corpora: Corpora | None) -> int:
    return sum(len(text.encode()) for text in corpora.tokenizer.values()) if corpora else 0


def _count(interval: Duration, duration: Duration, length: StageLength) -> int:
    span = interval.of(duration)
    in_unit = {duration.unit: duration.value}
    whole = in_unit.get(span.unit, length.tokens if span.unit == "tok" else length.steps)
    # At every multiple, and at the end; never more than one after an update.
    return max(1, min(length.steps, math.ceil(whole / span.value)))


def checkpoint_room(stages: Iterable[StageCheckpoints], checkpoints: Path) -> CheckpointRoom:
    """The most that all stages' checkpoints take at once in a run's folder of checkpoints."""
    stages = tuple(stages)
    at_once, total_bytes = _most_at_once(stages)
    free = free_bytes(checkpoints)
    return CheckpointRoom(
        written=sum(stage.count for stage in stages),
        at_once=at_once,
        largest_bytes=max(stage.bytes_each for stage in stages),
        total_bytes=total_bytes,
        free_bytes=None if free is None else free + _written_bytes(checkpoints),
    )


def room_of(
    stages: Sequence[Stage], corpora: Sequence[Corpora], checkpoints: Path
) -> CheckpointRoom:
    """As :func:`checkpoint_room`, of stages whose rows are taken to be full."""
    return checkpoint_room(
        (
            stage_checkpoints(
                stage,
                StageLength(
                    tokens=stage.nominal_tokens, steps=stage.nominal_updates, steps_are="nominal"
                ),
                build_model(stage.recipe.model, device="meta"),
                opened,
            )
            for stage, opened in zip(stages, corpora, strict=True)
        ),
        checkpoints,
    )


@dataclass(frozen=True)
class _Saved:
    """A checkpoint that is there: its size, and the number of the stage that it is of."""

    size: int
    stage: int


def _most_at_once(stages: Sequence[StageCheckpoints]) -> tuple[int, int]:
    """The most checkpoints, and the most bytes, that are there together.

    Of those that are not among the newest, a stage's end stays anyway; the others stay as the best
    of their stage while there is room among these, then as waiting.
    """
    newest: list[tuple[_Saved, bool]] = []  # and whether a stage ended with it
    best, waiting = [0] * len(stages), list[_Saved]()
    count = total = most = most_bytes = 0
    for number, stage in enumerate(stages):
        few = stage.count
        if stage.keep is not None:
            # With some kept, those before the last few change nothing.
            few = min(stage.count, stage.keep + stage.best + stage.waiting + 2)
        for left in reversed(range(few)):
            newest.append((_Saved(stage.bytes_each, number), left == 0))
            count, total = count + 1, total + stage.bytes_each
            most, most_bytes = max(most, count), max(most_bytes, total)
            if stage.keep is None:
                continue
            dropped, newest = newest[: -stage.keep], newest[-stage.keep :]
            for saved, is_end in dropped:
                if is_end:
                    continue
                if best[saved.stage] < stages[saved.stage].best:
                    best[saved.stage] += 1
                else:
                    waiting.append(saved)
            while len(waiting) > stage.waiting:
                gone = waiting.pop(0)
                count, total = count - 1, total - gone.size
    return most, most_bytes


def _written_bytes(checkpoints: Path) -> int:
    """Of the checkpoints that are there; a file with two names counts once."""
    sizes = {}
    for path in checkpoints.glob("*.pt"):
        try:
            found = path.stat()
        except OSError:
            continue
        sizes[found.st_ino] = found.st_size
    return sum(sizes.values())
