"""The folder of a run: what is in it, and what it may be continued with."""

from __future__ import annotations

import fnmatch
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.config.stage_overrides import STAGES
from flexbert.config.tree import changed_keys
from flexbert.errors import UserError
from flexbert.files.durable import write_text
from flexbert.manifest_file import MANIFEST

# Keys that change what is recorded or how fast, never what is computed. All others are the run.
OPERATIONAL_KEYS = (
    "runs_folder",
    # Compared by their versions: flexbert.train.plugins.
    "plugins",
    "accept_changed_plugins",
    "logging",
    "checkpoints",
    "evaluation",
    "compile",
    "model.name",
    "batch.microbatch_rows",
    "data.path",
    "data.remote",
    "data.sources.*.path",
    "data.sources.*.remote",
    "data.tokenizer",
    "data.num_workers",
    "data.verify_hashes",
    "data.cache",
    "data.cache_limit",
    "data.accept_changed_order",
)
# Keys that decide the data's order: a run may go on with others where that is accepted.
ORDER_KEYS = ("seed", "data")


class RunFolder:
    """Paths of ``runs/RUN_NAME/`` and the rules for writing to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / MANIFEST
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.report = path / "report.png"
        self.tensorboard = path / "tensorboard"
        self.traces = path / "traces"
        self.orders = path / "orders"

    def begin(self, resolved: Mapping[str, Any], after_step: int) -> None:
        """Make the folder ready for a launch that continues after update ``after_step``."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.config, yaml.safe_dump(dict(resolved), sort_keys=False))
        self._drop_metrics_after(after_step)

    def wandb_id(self) -> str:
        """What Weights & Biases knows the run by, in all its launches and stages."""
        file = self.path / "wandb_id"
        if not file.exists():
            write_text(file, secrets.token_hex(8))
        return file.read_text()

    def _drop_metrics_after(self, step: int) -> None:
        """Forget lines of updates that a resume will run again, and a half-written last line."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                break
            if record["step"] <= step:
                kept.append(line + "\n")
        write_text(self.metrics, "".join(kept))


def name_stage_end(checkpoints: Path, stage: str, step: int) -> None:
    """Give the checkpoint that a stage ended with the stage's name, ``checkpoints/STAGE.pt``.

    It is a second name of the same file, and stays when only the newest steps are kept. Nothing is
    done where the checkpoint is another run's.
    """
    saved = checkpoints / checkpoint_name(step)
    if not saved.exists():
        return
    named, temporary = checkpoints / f"{stage}.pt", checkpoints / f".{stage}.pt.tmp"
    temporary.unlink(missing_ok=True)
    temporary.hardlink_to(saved)
    temporary.replace(named)
    # Where both were one file already, the system has left both names.
    temporary.unlink(missing_ok=True)


def refuse_changed_recipe(
    run_folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], accepted: Sequence[str] = ()
) -> None:
    """A run continues with the recipe it began with.

    Args:
        accepted: keys that may change beside the operational ones.

    Raises:
        UserError: naming every changed key that is not operational, with both values.
    """
    changed = {
        key: values
        for key, values in sorted(changed_keys(old, new).items())
        if not _is_among(key, (*OPERATIONAL_KEYS, *accepted))
    }
    if changed:
        listed = ", ".join(
            f"{key} ({_show(before)} -> {_show(after)})" for key, (before, after) in changed.items()
        )
        accept = ""
        if all(_is_among(key, ORDER_KEYS) for key in changed):
            accept = "; to go on with a new order of the data: data.accept_changed_order=true"
        raise UserError(
            f"{run_folder} was begun with another recipe; changed: {listed}. "
            f"Give the old values, or another run_name{accept}"
        )


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def _is_among(key: str, names: Sequence[str]) -> bool:
    """Whether a key, of a stage or of all, is one of these or below one.

    ``*`` stands for one part of a key.
    """
    parts = key.split(".")
    if parts[0] == STAGES:
        parts = parts[2:]
    return any(fnmatch.fnmatchcase(".".join(parts[: name.count(".") + 1]), name) for name in names)
