"""What else runs while a model is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from flexbert.config.registry import Component


class CallbackConfig(Component, ABC, family="callback"):
    """A callback of Composer's, with settings of its own."""

    @abstractmethod
    def build(self, run_folder: Path) -> Any:
        """A ``composer.Callback`` for one stage; files of its own belong in the run's folder.

        What its ``state_dict`` gives is kept in checkpoints, and given back by ``load_state_dict``
        when the stage goes on: tensors, numbers, strings, and lists and dicts of these.
        """
