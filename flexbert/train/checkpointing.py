"""Saving and restoring a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State, Timestamp
from composer.utils import dist

from flexbert.checkpoint.checkpoint_names import checkpoint_name, list_checkpoints
from flexbert.checkpoint.file import CheckpointError, read_checkpoint, write_checkpoint
from flexbert.config.encode import encode
from flexbert.data.format.corpus_format import TOKENIZER_FOLDER
from flexbert.data.reading.corpora import Corpora
from flexbert.schedule.stages import Stage
from flexbert.train.callbacks import DataPosition
from flexbert.train.stage_run import StageRun

# Composer's notes about the environment; the manifest has them, and they hold classes that a safe
# load refuses.
_UNSAVED = ("metadata", "integrations")


class Checkpointer(Callback):
    """Writes ``step-XXXXXXXX.pt`` at the recipe's interval, at the end, and before preemption.

    Composer's own saver writes in place, so that a kill leaves a partial file in the way.
    """

    def __init__(self, run: StageRun, folder: Path, unchanging: dict[str, Any]) -> None:
        self.run = run
        self.folder = folder
        self.unchanging = unchanging

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        stopping = state.max_duration is not None and state.timestamp >= state.max_duration
        if stopping or self.run.completed(self.run.recipe.checkpoints.interval, state):
            self._save(state)

    def _save(self, state: State) -> None:
        saved = {key: value for key, value in state.state_dict().items() if key not in _UNSAVED}
        if dist.get_global_rank() == 0:
            name = checkpoint_name(int(state.timestamp.batch.value))
            write_checkpoint(self.folder / name, {**self.unchanging, "state": saved})
            keep = self.run.recipe.checkpoints.keep
            if keep is not None:
                for old in list_checkpoints(self.folder)[:-keep]:
                    old.unlink()
        dist.barrier()


def unchanging_contents(stage: Stage, run: dict[str, Any], corpora: Corpora) -> dict[str, Any]:
    """What every checkpoint of a stage holds beside its state: recipe, run and tokenizer.

    Args:
        run: the resolved recipe of all stages.
    """
    return {"recipe": encode(stage.recipe), "run": run, "tokenizer": tokenizer_texts(corpora)}


def tokenizer_texts(corpora: Corpora) -> dict[str, str]:
    """The files of the corpora's tokenizer, by name."""
    folder = corpora.first.folder / TOKENIZER_FOLDER
    # Corpora made before they named them have nothing else in that folder.
    names = corpora.meta.tokenizer_files or sorted(file.name for file in folder.iterdir())
    return {name: (folder / name).read_text() for name in names}


def name_stage_end(folder: Path, stage: str, step: int) -> None:
    """Give the checkpoint that a stage ended with the stage's name, ``checkpoints/STAGE.pt``.

    It is a second name of the same file, and stays when only the newest steps are kept.
    """
    named, temporary = folder / f"{stage}.pt", folder / f".{stage}.pt.tmp"
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(folder / checkpoint_name(step))
    temporary.replace(named)
    # Where both were one file already, the system has left both names.
    temporary.unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint's contents, or None where there is none.

    An unreadable one (a disk's fault: ours are written whole) is announced and passed over.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            print(f"warning: {error}; trying the one before", flush=True)
    return None


def load_state(state: State, logger: Logger, contents: dict[str, Any]) -> None:
    """Let a trainer go on from a checkpoint; an optimizer of another kind begins anew."""
    saved = contents["state"]
    kinds = {type(optimizer).__qualname__ for optimizer in state.optimizers}
    if not kinds <= saved["optimizers"].keys():
        saved = {key: value for key, value in saved.items() if key != "optimizers"}
    with warnings.catch_warnings():
        # Of callbacks that the run before did not have: a moving average, say, begins here.
        warnings.filterwarnings("ignore", message=".* is not in the state_dict")
        state.load_state_dict(saved, logger, strict=True)


def saved_timestamp(contents: dict[str, Any]) -> Timestamp:
    """Composer's clock in a checkpoint."""
    timestamp = Timestamp()
    timestamp.load_state_dict(contents["state"]["timestamp"][Timestamp.__qualname__])
    return timestamp


def saved_data(contents: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint keeps of the data: :meth:`flexbert.train.stage_data.StageData.state`.

    Raises:
        CheckpointError: if it was saved before checkpoints kept what the order depends on.
    """
    data: dict[str, Any] = contents["state"]["callbacks"][DataPosition.__qualname__]
    if "tokens" not in data.get("position", {}) or "run" not in contents:
        raise CheckpointError(
            "the checkpoint was saved by an older FlexBERT, which did not note all that going on "
            "from it needs; it can be exported and be init_from of a new run"
        )
    return data
