"""Recording what an update does, operation by operation."""

from __future__ import annotations

from dataclasses import dataclass

from flexbert.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ProfilerConfig:
    """Traces of some updates, in ``traces/`` in the run folder, for chrome://tracing and Perfetto.

    Counted from where a process begins, also after a restart and in every stage. Recording slows
    an update down, so leave its speed out of account.

    Attributes:
        skip: updates before the first cycle.
        wait, warmup, record: a cycle is so many updates without a trace, so many with the profiler
            running and nothing kept, and so many recorded.
        cycles: how many; 0 goes on to the stage's end.
        shapes: record the shapes of operations' inputs.
        memory: record what is allocated and freed.
        stacks: record where in the source an operation was called.
    """

    skip: int = 5
    wait: int = 0
    warmup: int = 1
    record: int = 2
    cycles: int = 1
    shapes: bool = False
    memory: bool = False
    stacks: bool = False

    @property
    def before(self) -> int:
        """Updates before the first that is recorded."""
        return self.skip + self.wait + self.warmup

    def __post_init__(self) -> None:
        for key, least in (("skip", 0), ("wait", 0), ("warmup", 0), ("record", 1), ("cycles", 0)):
            if getattr(self, key) < least:
                raise ConfigError(key, f"must be at least {least}, got {getattr(self, key)}")
