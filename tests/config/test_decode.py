"""The decoder: what is expected becomes a typed value, all else is refused by its path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from flexbert.config.decode import decode, run_time
from flexbert.config.duration import Duration
from flexbert.config.registry import Component, members, register
from flexbert.errors import ConfigError


class Shape(Component, family="shape"):
    pass


@register("circle")
@dataclass(frozen=True, kw_only=True)
class Circle(Shape):
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ConfigError("radius", "must be positive")


@register("square")
@dataclass(frozen=True, kw_only=True)
class Square(Shape):
    side: int
    inner: Shape | None = None


@dataclass(frozen=True, kw_only=True)
class Canvas:
    shape: Shape
    title: str = "untitled"
    width: int = 10
    scale: float = 1.0
    visible: bool = True
    mode: Literal["ink", "chalk"] = "ink"
    betas: tuple[float, float] = (0.9, 0.98)
    sizes: tuple[int, ...] = ()
    thetas: dict[str, float] = field(default_factory=dict)
    length: Duration = Duration(1, "ba")
    folder: Path | None = run_time(default=None)


CIRCLE = {"name": "circle"}


def test_names_choose_classes_at_every_depth() -> None:
    node = {"shape": {"name": "square", "side": 2, "inner": {"name": "circle", "radius": 3}}}
    assert decode(Canvas, node) == Canvas(shape=Square(side=2, inner=Circle(radius=3.0)))


def test_values_take_their_declared_types() -> None:
    canvas = decode(
        Canvas,
        {
            "shape": CIRCLE,
            "scale": 2,
            "betas": [0, 1],
            "sizes": [1, 2, 3],
            "thetas": {"global": 10_000},
            "length": "3e9tok",
            "folder": "some/where",
        },
    )
    assert isinstance(canvas.scale, float)
    assert canvas.betas == (0.0, 1.0)
    assert canvas.sizes == (1, 2, 3)
    assert canvas.thetas == {"global": 10_000.0}
    assert canvas.length == Duration(3_000_000_000, "tok")
    assert canvas.folder == Path("some/where")


@pytest.mark.parametrize(
    ("node", "path", "words"),
    [
        ({"shape": CIRCLE, "widht": 3}, "widht", ["unknown key", "'width'"]),
        ({"shape": {"name": "circle", "radios": 3}}, "shape.radios", ["unknown key", "'radius'"]),
        ({"shape": {"name": "cirlce"}}, "shape.name", ["unknown shape 'cirlce'", "'circle'"]),
        ({"shape": {"radius": 3}}, "shape.name", ["is missing", "circle", "square"]),
        ({"shape": {"name": "square"}}, "shape.side", ["is missing"]),
        ({}, "shape", ["is missing"]),
        ({"shape": "circle"}, "shape", ["a mapping with a name", "'circle'"]),
        ({"shape": None}, "shape", ["null"]),
        ({"shape": CIRCLE, "width": "three"}, "width", ["an integer", "'three'"]),
        ({"shape": CIRCLE, "width": True}, "width", ["an integer", "True"]),
        ({"shape": CIRCLE, "width": 1.5}, "width", ["an integer", "1.5"]),
        ({"shape": CIRCLE, "width": 10**400}, "width", ["beyond 2^63"]),
        ({"shape": CIRCLE, "scale": 10**400}, "scale", ["a finite number"]),
        ({"shape": CIRCLE, "scale": "big"}, "scale", ["a finite number", "'big'"]),
        ({"shape": CIRCLE, "scale": float("nan")}, "scale", ["a finite number"]),
        ({"shape": CIRCLE, "visible": 1}, "visible", ["true or false", "1"]),
        ({"shape": CIRCLE, "title": 7}, "title", ["a string", "7"]),
        ({"shape": CIRCLE, "mode": "inc"}, "mode", ["unknown value 'inc'", "'ink'"]),
        ({"shape": CIRCLE, "betas": [0.9]}, "betas", ["2 values", "1"]),
        ({"shape": CIRCLE, "betas": [0.9, "x"]}, "betas.1", ["a finite number"]),
        ({"shape": CIRCLE, "sizes": 3}, "sizes", ["a list", "3"]),
        ({"shape": CIRCLE, "thetas": [1]}, "thetas", ["a mapping", "a list"]),
        ({"shape": CIRCLE, "length": "3 moons"}, "length", ["a duration", "3 moons"]),
        ({"shape": CIRCLE, "length": 3}, "length", ["a duration", "3"]),
        ({"shape": CIRCLE, "folder": 3}, "folder", ["a path", "3"]),
        ({"shape": CIRCLE, "width": "???"}, "width", ["still to be given"]),
        ({"shape": {"name": "circle", "radius": -1}}, "shape.radius", ["must be positive"]),
    ],
)
def test_what_is_not_expected_is_refused_where_it_stands(
    node: dict[str, Any], path: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        decode(Canvas, node)
    assert error.value.path == path
    assert str(error.value).startswith(f"{path}: ")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_a_plan_lists_what_only_a_run_needs() -> None:
    missing: list[str] = []
    assert decode(Canvas, {"shape": CIRCLE, "folder": "???"}, missing).folder is None
    assert missing == ["folder"]


def test_a_run_refuses_what_a_plan_lists() -> None:
    with pytest.raises(ConfigError, match=r"folder: is still to be given"):
        decode(Canvas, {"shape": CIRCLE, "folder": "???"})


def test_a_plan_needs_everything_else() -> None:
    with pytest.raises(ConfigError, match=r"width: is still to be given"):
        decode(Canvas, {"shape": CIRCLE, "width": "???"}, [])


def test_two_classes_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match=r"shape .circle. is there already, from"):

        @register("circle")
        @dataclass(frozen=True, kw_only=True)
        class Round(Shape):
            pass

    assert members("shape")["circle"] is Circle


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("50_000_000_000tok", 50_000_000_000, "tok"),
        ("3e9tok", 3_000_000_000, "tok"),
        ("500ba", 500, "ba"),
        ("0.1dur", 0.1, "dur"),
        (" 7 ba ", 7, "ba"),
    ],
)
def test_durations_read_their_spellings(text: str, value: float, unit: str) -> None:
    duration = Duration.parse(text)
    assert (duration.value, duration.unit) == (value, unit)
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize("text", ["10", "tok", "1.5ba", "2dur", "-5ba", "5ep", "", None, 5])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"tok|whole|fraction"):
        Duration.parse(text)
