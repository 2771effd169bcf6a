"""What is done about numbers that go bad: updates that are not finite, losses that jump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flexbert.config.fields import COMPUTATION, OPERATIONAL, Node, key

SpikeAction = Literal["report", "roll_back"]


@dataclass(frozen=True, kw_only=True)
class SpikesConfig(Node):
    """When a loss or a gradient's norm counts as a spike, and what follows.

    An update's value is a spike where it lies this many robust standard deviations (1.4826 times
    the median absolute deviation) above the median of the updates before it.

    Attributes:
        window: how many updates a value is compared with; nothing is said before half of them.
        threshold: from how many standard deviations on it is a spike.
        action: ``report`` records it; ``roll_back`` goes back to the last checkpoint that
            ``checkpoints.interval`` made before it, which is kept for that, and skips the rows read
            since (Chowdhery et al. 2022, PaLM, section 5.1).
        max_roll_backs: how often the same checkpoint is gone back to; then the run stops.
    """

    window: int = key(COMPUTATION, default=128, at_least=8, unit="updates")
    threshold: float = key(COMPUTATION, default=10.0, above=0)
    action: SpikeAction = key(COMPUTATION, default="report")
    max_roll_backs: int = key(OPERATIONAL, default=3, at_least=1)


@dataclass(frozen=True, kw_only=True)
class HealthConfig(Node):
    """What is done about numbers that go bad.

    An update whose loss or gradients are not finite is skipped on every process: weights and the
    optimizer's state stay, the clock and the data go on.

    Attributes:
        max_skipped: how many updates in a row may be skipped; then the run stops. 0 stops at the
            first.
        spikes: null looks for none.
    """

    max_skipped: int = key(OPERATIONAL, default=10, at_least=0, unit="updates")
    spikes: SpikesConfig | None = key(COMPUTATION, default=SpikesConfig())

    @property
    def rolls_back(self) -> bool:
        return self.spikes is not None and self.spikes.action == "roll_back"
