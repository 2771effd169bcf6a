"""Labels of axes say what their ticks are at."""

from __future__ import annotations

import itertools

import pytest

from flexbert.pictures import (
    Labels,
    count_ticks,
    number_ticks,
    percent_ticks,
    power_ticks,
    tick_formatter,
)

SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "%": 1e-2}


def value(label: str) -> float:
    """What a label says."""
    suffix = label[-1]
    return float(label[:-1]) * SUFFIXES[suffix] if suffix in SUFFIXES else float(label)


@pytest.mark.parametrize("labels", [count_ticks, percent_ticks, number_ticks, power_ticks])
def test_every_label_is_its_tick(labels: Labels) -> None:
    least = {count_ticks: 0, percent_ticks: -4}.get(labels, -6)
    for step, power, first in itertools.product((1, 2, 2.5, 5), range(least, 13), (-2, 0, 7)):
        ticks = [(first + number) * step * 10.0**power for number in range(7)]
        written = labels(ticks)
        assert [value(label) for label in written] == pytest.approx(ticks, rel=1e-6, abs=1e-12)
        assert len(set(written)) == len(ticks)


@pytest.mark.parametrize(
    ("labels", "ticks", "written"),
    [
        (percent_ticks, [0.0, 0.025, 0.05, 0.075], ["0.0%", "2.5%", "5.0%", "7.5%"]),
        (percent_ticks, [0.0, 0.2, 0.4], ["0%", "20%", "40%"]),
        (count_ticks, [0, 2.5e9, 5e9], ["0", "2.5B", "5.0B"]),
        (count_ticks, [0, 500, 1000, 1500], ["0", "500", "1000", "1500"]),
        (count_ticks, [0, 5000, 10000], ["0", "5k", "10k"]),
        (power_ticks, [0, 2e-4, 2.5e-4], ["0", "2e-4", "2.5e-4"]),
        (number_ticks, [2.0, 2.5], ["2.0", "2.5"]),
        (count_ticks, [], []),
    ],
)
def test_labels_have_as_many_digits_as_they_need(
    labels: Labels, ticks: list[float], written: list[str]
) -> None:
    assert labels(ticks) == written


def test_a_formatter_labels_an_axis_as_a_whole() -> None:
    formatter = tick_formatter(percent_ticks)
    assert formatter.format_ticks([0.0, 0.025]) == ["0.0%", "2.5%"]
    assert formatter(0.5) == "50%"
