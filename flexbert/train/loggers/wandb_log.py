"""Weights & Biases: one run there, through all stages and launches."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb
from composer import Logger, State
from composer.loggers import WandBLogger

from flexbert.config.recipe import Recipe
from flexbert.config.synonyms import name_hint
from flexbert.config.training import WandbConfig
from flexbert.errors import ConfigError, UserError, first_line
from flexbert.train.loggers.composers_names import without_composers

KEY = "logging.wandb"
DEFAULT_PROJECT = "flexbert"
_EITHER = "online_or_offline"
# What WANDB_MODE may say, and what it means here.
_MODES = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    _EITHER: _EITHER,
}
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True, kw_only=True)
class WandbChoice:
    """How a run is recorded there.

    Attributes:
        mode: ``online``, ``offline``, ``disabled`` or ``online_or_offline``.
        project: that the run is listed in.
        folder: that the ``wandb`` folder is made in.
        id: that wandb knows the run by; None where its own environment says so.
    """

    mode: str
    project: str
    folder: Path
    id: str | None


def choose(config: WandbConfig, environment: Mapping[str, str], run_folder: Path) -> WandbChoice:
    """What the recipe says, and where it is silent the environment.

    Raises:
        UserError: if WANDB_MODE is none.
    """
    mode: str | None = config.mode
    if mode is None and environment.get("WANDB_DISABLED", "").lower() in _TRUE:
        mode = "disabled"
    if mode is None:
        given = environment.get("WANDB_MODE") or "online"
        if given not in _MODES:
            raise UserError(f"WANDB_MODE: unknown mode {given!r}; {name_hint(given, _MODES)}")
        mode = _MODES[given]
    return WandbChoice(
        mode=mode,
        project=config.project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT,
        folder=Path(environment.get("WANDB_DIR") or run_folder),
        id=environment.get("WANDB_RUN_ID") or None,
    )


class WandbLog(WandBLogger):
    """Composer's, kept open through all stages of a launch.

    The step is a metric among others, and the axis of all: wandb's own step only goes up, and would
    drop what a launch records again.
    """

    def __init__(self, run: wandb.Run) -> None:
        super().__init__()
        self._run = run

    def init(self, state: State, logger: Logger) -> None:
        """Nothing: the run is open."""

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if own := without_composers(metrics):
            self._run.log({**own, **({} if step is None else {"step": step})})

    def log_hyperparameters(self, hyperparameters: dict[str, Any]) -> None:
        self._run.config.update(hyperparameters, allow_val_change=True)

    def log_table(
        self,
        columns: list[str],
        rows: list[list[Any]],
        name: str = "Table",
        step: int | None = None,
    ) -> None:
        super().log_table(columns, rows, name)

    def log_images(
        self,
        images: Any,
        name: str = "Images",
        channels_last: bool = False,
        step: int | None = None,
        masks: Any = None,
        mask_class_labels: Any = None,
        use_table: bool = False,
    ) -> None:
        super().log_images(images, name, channels_last, None, masks, mask_class_labels, use_table)

    def post_close(self) -> None:
        """Nothing: the next stage goes on with it."""

    def finish(self, exit_code: int) -> None:
        """Close the run at the end of the launch."""
        self._run.finish(exit_code=exit_code)


def open_wandb(
    recipe: Recipe, choice: WandbChoice, recorded: Mapping[str, Any], own_id: str
) -> tuple[WandbLog, list[str]]:
    """Begin the run there, or go on with it.

    Args:
        recorded: the resolved recipe, as it is stored.
        own_id: that the run has, unless the environment gives one.

    Returns:
        The logger, and warnings.

    Raises:
        ConfigError: if it is to be online, and there is no key or no network.
    """
    mode, warnings = choice.mode, []
    if mode in ("online", _EITHER):
        problem = _why_no_key()
        if problem is None:
            try:
                return _begin(recipe, choice, "online", recorded, own_id), []
            except wandb.Error as error:
                problem = first_line(error)
                wandb.teardown()
        if mode == "online":
            raise ConfigError(
                KEY,
                f"{problem}; or write it for a later wandb sync: {KEY}.mode=offline",
            )
        warnings.append(f"warning: {KEY}: {problem}; it writes offline")
    return _begin(recipe, choice, "offline", recorded, own_id), warnings


def _begin(
    recipe: Recipe, choice: WandbChoice, mode: str, recorded: Mapping[str, Any], own_id: str
) -> WandbLog:
    config = recipe.logging.wandb
    assert config is not None, "it is asked for"
    choice.folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        project=choice.project,
        # What is not said here, wandb takes from its environment.
        entity=config.entity,
        group=config.group,
        name=recipe.run_name,
        id=choice.id or own_id,
        # Offline it would warn: whoever uploads later decides.
        resume="allow" if mode == "online" else None,
        dir=str(choice.folder),
        settings=_settings(),
    )
    run.config.update(dict(recorded), allow_val_change=True)
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return WandbLog(run)


def where(log: WandbLog) -> str:
    """Where the run is to be seen, for the header."""
    run = log._run
    if run.settings.mode == "online" and run.url:
        return run.url
    return f"offline; upload it with: wandb sync {Path(run.dir).parent}"


def _settings() -> wandb.Settings:
    """It speaks only where its environment says so: the header says what it would."""
    return wandb.Settings(silent=os.environ.get("WANDB_SILENT", "true").lower() in _TRUE)


def _why_no_key() -> str | None:
    """Why wandb would ask for a key; None if it has one."""
    settings = wandb.setup(_settings()).settings
    if settings.api_key or settings.identity_token_file:
        return None
    host = urlsplit(settings.base_url).hostname or ""
    try:
        file = os.environ.get("NETRC")
        if netrc.netrc(file).authenticators(host) is not None:
            return None
    except (OSError, netrc.NetrcParseError):
        pass
    return f"no API key for {host}: run wandb login, or set WANDB_API_KEY"
