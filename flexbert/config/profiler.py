"""Recording what an update does, operation by operation."""

from __future__ import annotations

from dataclasses import dataclass

from flexbert.config.fields import OPERATIONAL, Node, key


@dataclass(frozen=True, kw_only=True)
class ProfilerConfig(Node):
    """Traces of some updates, in ``traces/`` in the run folder, for chrome://tracing and Perfetto.

    Counted from where a process begins, also after a restart and in every stage. Recording slows
    an update down, so leave its speed out of account.

    Attributes:
        skip: updates before the first cycle.
        wait: updates of a cycle without the profiler.
        warmup: updates after them in which it runs and keeps nothing.
        record: updates after them that are recorded, and with which the cycle ends.
        cycles: how many cycles; 0 goes on to the stage's end.
        shapes: record the shapes of operations' inputs.
        memory: record what is allocated and freed.
        stacks: record where in the source an operation was called.
    """

    skip: int = key(OPERATIONAL, default=5, at_least=0, unit="updates")
    wait: int = key(OPERATIONAL, default=0, at_least=0, unit="updates")
    warmup: int = key(OPERATIONAL, default=1, at_least=0, unit="updates")
    record: int = key(OPERATIONAL, default=2, at_least=1, unit="updates")
    cycles: int = key(OPERATIONAL, default=1, at_least=0)
    shapes: bool = key(OPERATIONAL, default=False)
    memory: bool = key(OPERATIONAL, default=False)
    stacks: bool = key(OPERATIONAL, default=False)

    @property
    def before(self) -> int:
        """Updates before the first that is recorded."""
        return self.skip + self.wait + self.warmup
