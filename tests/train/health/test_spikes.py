"""Values that jump, against scipy's and closed forms."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from flexbert.config.health import SpikesConfig
from flexbert.train.health.spikes import SpikeDetector, robust_z


@pytest.mark.parametrize("seed", range(5))
def test_robust_z_is_scipys_median_absolute_deviation(seed: int) -> None:
    generator = random.Random(seed)
    before = [generator.gauss(3, 0.5) for _ in range(101)]
    value = generator.gauss(3, 5)
    scale = stats.median_abs_deviation(before, scale="normal")
    expected = (value - sorted(before)[50]) / scale
    assert robust_z(value, before) == pytest.approx(expected, rel=1e-4)


def detector(**config: object) -> SpikeDetector:
    return SpikeDetector(SpikesConfig(window=32, threshold=8, **config))  # type: ignore[arg-type]


def test_noise_is_no_spike_and_a_jump_is() -> None:
    generator = random.Random(0)
    watched = detector()
    for step in range(2000):
        # A loss that falls as losses do.
        loss = 8 / (1 + step / 100) ** 0.2 + generator.gauss(0, 0.05)
        assert watched.see(loss, math.exp(generator.gauss(0, 0.2))) is None
    found = watched.see(9.0, 1.0)
    assert found is not None
    assert (found.name, found.value) == ("loss", 9.0)
    found = watched.see(4.4, 500.0)
    assert found is not None
    assert found.name == "grad_norm"


def test_nothing_is_said_before_half_a_window_and_a_fall_is_no_spike() -> None:
    watched = detector()
    assert all(watched.see(loss, 1.0) is None for loss in [1.0] * 15 + [0.001] * 15)
    early = detector()
    for _ in range(10):
        early.see(1.0, 1.0)
    assert early.see(100.0, 1.0) is None


def test_losses_that_do_not_differ_make_no_spike_of_the_next() -> None:
    watched = detector()
    for _ in range(32):
        watched.see(2.0, 1.0)
    assert watched.see(2.01, 1.0) is None
    assert watched.see(2.5, 1.0) is not None


def test_it_goes_on_from_what_a_checkpoint_kept() -> None:
    generator = random.Random(1)
    values = [(generator.gauss(3, 0.1), math.exp(generator.gauss(0, 0.1))) for _ in range(60)]
    values[45] = 7.0, 1.0
    whole = detector()
    expected = [whole.see(*value) for value in values]
    first = detector()
    seen = [first.see(*value) for value in values[:40]]
    second = SpikeDetector(first.config, tuple(first.losses), tuple(first.norms))
    seen += [second.see(*value) for value in values[40:]]
    assert seen == expected
    assert expected[45] is not None
