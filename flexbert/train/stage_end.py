"""The end of a stage that has early stopping: what is said, recorded and saved of it."""

from __future__ import annotations

from composer import State

from flexbert.checkpoint.checkpoint_file import CheckpointError, read_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.metrics_file import STAGE_END
from flexbert.train.checkpointing import Checkpointer
from flexbert.train.console.console import Console
from flexbert.train.stage_run import StageRun, stage_is_over


def end_stage(run: StageRun, state: State, checkpointer: Checkpointer, console: Console) -> None:
    """End a stage where it stands, and with its best weights if the recipe asks for them.

    Raises:
        NumbersError, WriteError: as :meth:`~flexbert.train.checkpointing.Checkpointer.save`.
    """
    early = checkpointer.early_stopping
    early.look(state)
    step = int(state.timestamp.batch.value)
    restored = early.peers.broadcast(
        "the checkpoint that the stage ends with",
        lambda: _usable(checkpointer, early.state.best_step, step),
        slow=True,
    )
    if checkpointer.peers.rank.is_first:
        if text := _text(run, state, checkpointer, restored):
            console.say(text)
        _record(run, state, checkpointer, restored)
    checkpointer.save_stage_end(state, restored)


def _usable(checkpointer: Checkpointer, best_step: int, step: int) -> int | None:
    """The step whose weights take the place of the last ones; None where those are the best, or
    nothing better can be read."""
    if not checkpointer.run.recipe.evaluation.restores_best or best_step in (0, step):
        return None
    path = checkpointer.folder.checkpoints / checkpoint_name(best_step)
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        print(
            f"warning: evaluation.early_stopping.restore: {error}; the stage ends with the weights "
            "of its last update",
            flush=True,
        )
        return None
    return best_step


def _text(
    run: StageRun, state: State, checkpointer: Checkpointer, restored: int | None
) -> str | None:
    early, config = checkpointer.early_stopping, checkpointer.early_stopping.config
    assert config is not None, "it ends the stage"
    found, step = early.state, int(state.timestamp.batch.value)
    of_best = "" if found.best is None else f" ({found.best:.4f}, of update {found.best_step:,})"
    with_best = (
        f"with the weights and the optimizer's state of its best {config.metric}{of_best}"
        if restored is not None
        else ""
    )
    if stage_is_over(state):
        return f"stage {run.stage.name} ends {with_best}" if with_best else None
    return (
        f"stage {run.stage.name} ends early, after update {step:,}: {config.metric} has not "
        f"improved in {found.without_improvement} evaluations; it ends "
        + (with_best or f"with its last weights; its best{of_best or ' is none'}")
    )


def _record(run: StageRun, state: State, checkpointer: Checkpointer, restored: int | None) -> None:
    """One line of ``metrics.jsonl``, whatever was killed after it was written."""
    folder, early = checkpointer.folder, checkpointer.early_stopping
    step = int(state.timestamp.batch.value)
    if any(record.event == STAGE_END and record.step == step for record in folder.results()):
        return
    folder.append_metrics(
        {
            "event": STAGE_END,
            "stage": run.stage.name,
            "step": step,
            "tokens": int(state.timestamp.token.value),
            "stage_tokens": run.clock(state.timestamp).tokens,
            "is_early": not stage_is_over(state),
            "metric": early.config.metric if early.config is not None else None,
            "best": early.state.best,
            "best_step": early.state.best_step,
            "restored_step": restored,
        }
    )
