"""The combinations of a sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from flexbert.errors import ConfigError
from flexbert.sweeps.points import (
    Axis,
    grid_points,
    listed_points,
    random_points,
    shared_label,
    short_names,
)


def test_a_grid_is_every_combination_named_by_what_differs() -> None:
    points = grid_points(
        [
            Axis(key="model.mlp.activation", values=("gelu", "silu")),
            Axis(key="optimizer.lr", values=(1e-3, 2e-3, 1e-2)),
        ]
    )
    assert [point.label for point in points] == [
        f"activation={name},lr={lr}"
        for name in ("gelu", "silu")
        for lr in ("0.001", "0.002", "0.01")
    ]
    assert points[-1].values == {"model.mlp.activation": "silu", "optimizer.lr": 1e-2}


def test_a_key_is_called_by_as_few_of_its_parts_as_tell_it_from_others() -> None:
    keys = ["model.mlp.bias", "model.attention.bias", "optimizer.lr", "bias"]
    assert short_names(keys) == {
        "model.mlp.bias": "mlp.bias",
        "model.attention.bias": "attention.bias",
        "optimizer.lr": "lr",
        "bias": "bias",
    }


def test_points_that_are_listed_may_change_different_keys_or_none() -> None:
    points = listed_points([{}, {"model": {"mlp": {"name": "mlp"}}}, {"optimizer.lr": 1e-3}])
    assert [point.label for point in points] == ["base", "name=mlp", "lr=0.001"]


def test_drawn_values_are_spread_as_they_say_and_the_same_for_a_seed() -> None:
    keys = {
        "optimizer.lr.log": [1e-4, 1e-1],
        "model.dropout.linear": [0.0, 0.5],
        "model.num_layers": {"linear": [2, 5]},
        "model.mlp.activation.choice": ["gelu", "silu"],
    }
    points = random_points({"count": 2000, "keys": keys})
    assert points == random_points({"count": 2000, "keys": keys, "seed": 17})
    assert points != random_points({"count": 2000, "keys": keys, "seed": 18})

    def of(key: str) -> np.ndarray:
        return np.array([point.values[key] for point in points])

    # Three digits are coarser than what a test of 2,000 numbers sees.
    logs = (np.log10(of("optimizer.lr")) + 4) / 3
    assert scipy.stats.kstest(logs, "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(of("model.dropout") / 0.5, "uniform").pvalue > 1e-3
    layers, counts = np.unique(of("model.num_layers"), return_counts=True)
    assert layers.tolist() == [2, 3, 4, 5]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert {*of("model.mlp.activation")} == {"gelu", "silu"}
    assert all(float(f"{value:.3g}") == value for value in of("optimizer.lr"))


WRONG = {
    "no count": ({"keys": {"a.log": [1, 2]}}, "random.count"),
    "unknown": ({"count": 1, "kys": {}}, "did you mean 'keys'"),
    "no spread": ({"count": 1, "keys": {"optimizer.lr": [1, 2]}}, "random.keys.optimizer.lr"),
    "ends": ({"count": 1, "keys": {"lr.log": [2, 1]}}, "a smaller and a larger number"),
    "zero": ({"count": 1, "keys": {"lr.log": [0, 1]}}, "expected positive numbers"),
    "nan": ({"count": 1, "keys": {"lr.linear": [math.nan, 1.0]}}, "a smaller and a larger"),
    "two ways": ({"count": 1, "keys": {"lr": {"log": [1, 2], "linear": [1, 2]}}}, "two ways"),
    "empty": ({"count": 1, "keys": {"lr.choice": []}}, "expected a list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_drawn_is_one_line(name: str) -> None:
    node, said = WRONG[name]
    with pytest.raises(ConfigError, match=said):
        random_points(node)  # type: ignore[arg-type]


def test_a_value_or_point_that_is_given_twice_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"grid\.lr: a value is given twice"):
        grid_points([Axis(key="lr", values=(1, 1))])
    with pytest.raises(ConfigError, match=r"list\.1: is given twice"):
        listed_points([{"a.b": 1}, {"a": {"b": 1}}])


def test_listed_points_may_have_names() -> None:
    points = listed_points({"plain": {}, "wide": {"model": {"hidden_size": 64}}})
    assert [(point.label, dict(point.values)) for point in points] == [
        ("plain", {}),
        ("wide", {"model.hidden_size": 64}),
    ]
    with pytest.raises(ConfigError, match=r"list\.again: is given twice"):
        listed_points({"plain": {}, "again": {}})
    with pytest.raises(ConfigError, match=r"list\.wide: expected a mapping, got 3"):
        listed_points({"wide": 3})
    with pytest.raises(ConfigError, match="in a list or by names, got 'wide'"):
        listed_points("wide")


def test_a_value_that_is_a_mapping_reads_as_what_it_says() -> None:
    points = grid_points(
        [Axis(key="model.init", values=({"name": "megatron", "std": 0.02}, {"name": "fan_in"}))]
    )
    assert [point.label for point in points] == ["init=megatron std 0.02", "init=fan_in"]


def test_points_are_called_by_what_they_alone_have() -> None:
    points = grid_points([Axis(key="a.lr", values=(1, 2)), Axis(key="size", values=(3, 4))])
    assert shared_label(points, [points[1], points[3]]) == "size=4"
    assert shared_label(points, [points[0], points[3]]) is None, "they have nothing in common"
    assert shared_label(points, points[1:]) is None
    three = listed_points([{"lr": 1}, {"lr": 1, "size": 3}, {"lr": 2}])
    assert shared_label(three, three[:2]) == "lr=1"
    assert shared_label(three[1:], three[1:2]) is None, "one has a label"
