"""Where a launch of a run starts: looked up on the disk, changing nothing there.

In this order: at the run's own newest checkpoint; else at the one that ``start_from`` names; else
with a new model, its weights drawn or taken by ``init_from``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.checkpoint.checkpoint import (
    Checkpoint,
    EarlyStoppingState,
    HealthState,
    RunClock,
    TrainingState,
)
from flexbert.checkpoint.checkpoint_file import (
    DamagedCheckpointError,
    read_checkpoint,
    training_of,
)
from flexbert.checkpoint.checkpoint_names import list_checkpoints, list_set_aside
from flexbert.checkpoint.restart import read_restart
from flexbert.config.plugins import differences
from flexbert.config.recipe_files import LoadedRecipe, decode_resolved
from flexbert.data.packing.position import DataState
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import ConfigError, UserError, did_you_mean
from flexbert.pretrained.warm_start import check_init_from
from flexbert.schedule.stages import Stage, all_stages
from flexbert.train.plugin_agreement import refuse_changed_plugins
from flexbert.train.run_folder import RunFolder, refuse_changed_recipe

# How many times as high a learning rate is worth a warning.
_LEAP = 2


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a launch starts.

    Attributes:
        stage: number of the stage that goes on or begins; that of all stages once the last ended.
        checkpoint: file that weights and the optimizer's state come from; None for a new model.
        clock: of the run up to here.
        data: place in the stage's data; None begins the stage.
        ended: the stage that the run's own checkpoint is the end of, if it is one's.
        health: what the checkpoint remembers of the run's numbers.
        early_stopping: what the checkpoint remembers of the evaluations of the stage that goes on.
        evaluation_due: whether an evaluation is to be done before training goes on.
        due_step, is_overdue: of the run's own last checkpoint that was due, 0 if there is none; and
            whether another is due.
        damaged: the run's own newer checkpoints that cannot be read, to be set aside.
        notes: warnings and remarks, to be printed.
        summary: what a launch says of it; None for a new model.
    """

    stage: int = 0
    checkpoint: Path | None = None
    clock: RunClock = RunClock()
    data: DataState | None = None
    ended: str | None = None
    health: HealthState = HealthState()
    early_stopping: EarlyStoppingState = EarlyStoppingState()
    evaluation_due: bool = False
    due_step: int = 0
    is_overdue: bool = False
    damaged: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    summary: str | None = None


def find_start(
    loaded: LoadedRecipe,
    folder: RunFolder,
    corpora: Sequence[Corpora],
    chosen: tuple[Path, ...] | None = None,
) -> Start:
    """Where this recipe's run in this folder starts.

    Args:
        corpora: of each stage.
        chosen: the checkpoint that another process has found to start from, or none; no other is
            then looked at. None looks.

    Raises:
        UserError: if the folder holds a run of another recipe, or checkpoints of which none can be
            read, or the checkpoint to start from does not fit the recipe or its corpora.
    """
    recipe, stages = loaded.first, all_stages(loaded.stages)
    own, damaged, notes = _own(folder.checkpoints, stages, chosen)
    if own is not None:
        training = training_of(own)
        refuse_changed_recipe(
            folder.path,
            training.run,
            loaded.resolved,
            accept_changed_order=recipe.data.accept_changed_order,
        )
        notes += refuse_changed_plugins(folder.path, training.run, loaded.resolved)
        stage, data, ended = _place(stages, training)
        summary = f"continuing {folder.path} after update {training.clock.updates}"
        if stage == len(stages):
            summary = (
                f"{folder.path} is finished; to train longer give another run_name, a longer "
                "duration and start_from=a checkpoint from before the decay"
            )
        return Start(
            stage=stage,
            checkpoint=own.path,
            clock=training.clock,
            data=data,
            ended=ended,
            health=training.health,
            early_stopping=training.early_stopping if data is not None else EarlyStoppingState(),
            evaluation_due=training.evaluation_due,
            due_step=training.due_step,
            is_overdue=training.is_overdue,
            damaged=damaged,
            notes=tuple(notes),
            summary=summary,
        )
    if recipe.start_from:
        return _restart(loaded, folder, recipe.start_from[0], corpora[0], notes)
    if recipe.init_from:
        notes += check_init_from(
            recipe.model,
            recipe.init_from,
            corpora[0].tokenizer,
            loaded.given,
            recipe.data.max_length,
        )
    return Start(notes=tuple(notes))


def _restart(
    loaded: LoadedRecipe, folder: RunFolder, path: Path, corpora: Corpora, notes: list[str]
) -> Start:
    """At another run's checkpoint: in the stage that it was saved in, or in the one asked for."""
    recipe, stages = loaded.first, all_stages(loaded.stages)
    checkpoint = read_restart(path, recipe.model)
    if checkpoint.tokenizer != corpora.tokenizer:
        raise ConfigError(
            "start_from",
            f"{path} was trained with another tokenizer than that of {corpora.first.folder}; "
            "make the corpus with the checkpoint's",
        )
    training = training_of(checkpoint)
    notes += [f"note: start_from: {text}" for text in differences(training.run, loaded.resolved)]
    stage, data = 0, None
    if recipe.stage is None:
        stage, data, _ = _place(stages, training)
    if stage == len(stages):
        raise UserError(
            f"start_from: {path} has ended the last stage; to train longer give a checkpoint from "
            "before its decay and a longer duration, or name a stage to begin on these weights: "
            "stage=..."
        )
    if data is not None:
        notes += _raised(stages[stage], training)
    return Start(
        stage=stage,
        checkpoint=checkpoint.path,
        clock=training.clock,
        data=data,
        health=training.health if data is not None else HealthState(),
        evaluation_due=training.evaluation_due and data is not None,
        notes=(*notes, *loaded.notes(stages[stage].name)),
        summary=f"{folder.path} begins from {path} after update {training.clock.updates}",
    )


def _raised(stage: Stage, training: TrainingState) -> list[str]:
    """A warning where the learning rate leaps up in the middle of a stage."""
    name, place = training.data.stage, training.data.position
    try:
        before = Stage(name=name, recipe=decode_resolved(training.run)[name])
    except (ConfigError, KeyError):
        return []
    was, now = (
        each.learning_rate(each.clock(place.tokens, place.update)) for each in (before, stage)
    )
    if now <= _LEAP * was:
        return []
    return [
        f"warning: start_from: the learning rate was {was:.2g} at the checkpoint and goes on with "
        f"{now:.2g}, without a warmup; a checkpoint from before a decay or from the plateau does "
        "not leap"
    ]


def _own(
    folder: Path, stages: Sequence[Stage], chosen: tuple[Path, ...] | None
) -> tuple[Checkpoint | None, tuple[Path, ...], list[str]]:
    """The newest readable checkpoint of a run, if any; newer ones, and what to say of them.

    Ours are written whole: an unreadable one is a fault of the disk.
    """
    if chosen is not None:
        own = [path for path in chosen if path.parent == folder]
        return (read_checkpoint(own[0]) if own else None), (), []
    notes: list[str] = []
    damaged: list[Path] = []
    for path in reversed(list_checkpoints(folder)):
        if not os.path.lexists(path):
            continue  # another process has set it aside meanwhile
        try:
            return read_checkpoint(path), tuple(damaged), notes
        except DamagedCheckpointError as error:
            notes.append(f"warning: {error}; trying the one before")
            damaged.append(path)
    lost = [*damaged, *list_set_aside(folder)]
    if lost:
        # To begin again would throw away what the run has recorded, and perhaps months of training.
        first = notes[0].removeprefix("warning: ").partition("; trying")[0] if notes else lost[0]
        raise UserError(
            f"{folder}: none of the run's {len(lost)} checkpoints can be read: {first}; "
            f"{_instead(folder, stages)}"
        )
    return None, (), notes


def _instead(folder: Path, stages: Sequence[Stage]) -> str:
    """What to do where a run has lost its checkpoints."""
    ends = []
    for path in (folder / f"{stage.name}.pt" for stage in stages):
        with contextlib.suppress(UserError):
            ends.append((training_of(read_checkpoint(path)).clock.updates, path))
    if not ends:
        return "restore one, or give another run_name to begin again"
    updates, path = max(ends)
    return (
        f"restore one, or give another run_name with start_from={path}, which is of update "
        f"{updates}"
    )


def _place(
    stages: Sequence[Stage], training: TrainingState
) -> tuple[int, DataState | None, str | None]:
    """After a checkpoint: the stage's number, the place in its data, and the stage that it ended.

    A stage that the checkpoint has ended is followed by the next one, from its beginning; but not
    before its last evaluation is done, nor before its best weights are restored.
    """
    data = training.data
    names = [stage.name for stage in stages]
    if data.stage not in names:
        raise UserError(
            f"the checkpoint to go on from was saved in stage {data.stage!r}; "
            f"{did_you_mean(data.stage, names)}; or name a stage to begin: stage=..."
        )
    index = names.index(data.stage)
    finished = stages[index].clock(data.position.tokens, data.position.update).finished
    if stages[index].recipe.evaluation.restores_best:
        finished = False  # not before the best weights are in the checkpoint
    if not (finished or training.early_stopping.has_ended) or training.evaluation_due:
        return index, data, None
    return index + 1, None, data.stage
