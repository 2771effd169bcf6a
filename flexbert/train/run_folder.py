"""The folder of a run: what is in it, and what it may be continued with."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.config.fields import OPERATIONAL, ORDER, Role
from flexbert.config.keys import role_of
from flexbert.config.recipe import Recipe
from flexbert.config.stage_overrides import STAGES
from flexbert.config.tree import changed_keys
from flexbert.errors import UserError
from flexbert.files.durable import write_text
from flexbert.manifest_file import MANIFEST


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
    run_folder: Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    accept_changed_order: bool = False,
) -> None:
    """A run resumes with the recipe it began with.

    Args:
        old, new: resolved recipes, of all stages.
        accept_changed_order: whether keys that decide the data's order may change too.

    Raises:
        UserError: naming every key that changed and may not, with both values.
    """
    accepted = {OPERATIONAL, ORDER} if accept_changed_order else {OPERATIONAL}
    changed = {
        key: values
        for key, values in sorted(changed_keys(old, new).items())
        if _role(key) not in accepted
    }
    if changed:
        listed = ", ".join(
            f"{key} ({_show(before)} -> {_show(after)})" for key, (before, after) in changed.items()
        )
        accept = ""
        if all(_role(key) is ORDER for key in changed):
            accept = "; to go on with a new order of the data: data.accept_changed_order=true"
        raise UserError(
            f"{run_folder} was begun with another recipe; changed: {listed}. "
            f"Give the old values, or another run_name{accept}"
        )


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def _role(key: str) -> Role:
    """The role of a key of a resolved recipe: a stage's has that of the recipe's own."""
    parts = key.split(".")
    return role_of(Recipe, ".".join(parts[2:] if parts[0] == STAGES else parts))
