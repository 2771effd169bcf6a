"""How long the processes of a run wait for each other."""

from __future__ import annotations

from dataclasses import dataclass

from flexbert.config.fields import OPERATIONAL, Node, key
from flexbert.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TimeoutsConfig(Node):
    """How long processes of a run wait for each other before they end it.

    Attributes:
        peer: for a process in an update, an evaluation, or at the start of a run.
        slow: for a process in what may take long: an order being built, a model being compiled, a
            checkpoint being read or written.
    """

    peer: float = key(OPERATIONAL, default=300.0, above=0, unit="seconds")
    slow: float = key(OPERATIONAL, default=3600.0, above=0, unit="seconds")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slow < self.peer:
            raise ConfigError("slow", f"must be at least peer, {self.peer:g} s, got {self.slow:g}")
