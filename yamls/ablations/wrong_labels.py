"""A spike on purpose: for a few updates every masked token is to be predicted as one token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from composer import Callback, Logger, State

from flexbert.config.callback import CallbackConfig
from flexbert.config.fields import COMPUTATION, key
from flexbert.config.registry import register
from flexbert.config.training import IGNORE

TOKEN = 1000


@register("wrong_labels")
@dataclass(frozen=True, kw_only=True)
class WrongLabelsConfig(CallbackConfig):
    """Args:
    first: update, from 0, that sees wrong labels.
    count: updates that do.
    """

    first: int = key(COMPUTATION, at_least=0)
    count: int = key(COMPUTATION, at_least=0)

    def build(self, run_folder: Path) -> Callback:
        return WrongLabels(self)


class WrongLabels(Callback):
    def __init__(self, config: WrongLabelsConfig) -> None:
        self.updates = range(config.first, config.first + config.count)

    def batch_start(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch.value) in self.updates:
            for microbatch in state.batch["microbatches"]:
                labels = microbatch["labels"]
                labels[labels != IGNORE] = TOKEN
