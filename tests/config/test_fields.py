"""Every key declares its role, and what it declares holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import pytest

from flexbert.config.duration import Duration
from flexbert.config.fields import (
    COMPUTATION,
    FUNCTION,
    OPERATIONAL,
    ORDER,
    Bounds,
    Key,
    Node,
    declared,
    key,
)
from flexbert.config.recipe import Recipe
from flexbert.config.registry import Component, register
from flexbert.errors import ConfigError
from tests.config.declarations import Declared, declarations, make, undeclared

# Each field once, wherever it may stand.
ALL = {(d.cls, d.name): d for d in declarations(Recipe)}.values()
BOUNDED = [d for d in ALL if d.key.bounds != Bounds()]
NAMED = [d for d in ALL if d.key.one_of]


def identity(declared: Declared) -> str:
    return f"{declared.cls.__name__}.{declared.name}"


def test_every_key_of_a_recipe_has_a_role() -> None:
    assert undeclared(Recipe) == []
    # The walk reaches what stands deep inside, of every kind of place.
    names = {identity(d) for d in ALL}
    assert {
        "YarnScaling.beta_fast",
        "UpsampleConfig.lengths",
        "GroupConfig.parameters",
        "ShardBlocksConfig.block_shards",
        "ProfilerConfig.skip",
        "MultipleChoiceConfig.num_labels",
    } <= names


class Pet(Component, family="pet"):
    pass


@register("cat")
@dataclass(frozen=True, kw_only=True)
class Cat(Pet):
    lives: int = key(FUNCTION, default=9, above=0)
    colour: str = "black"


@dataclass(frozen=True, kw_only=True)
class Basket(Node):
    size: int = 3
    weight: float = key(OPERATIONAL, above=0)


@dataclass(frozen=True, kw_only=True)
class House(Node):
    pet: Pet | None = key(FUNCTION, default=None)
    baskets: dict[str, Basket] = key(ORDER, default_factory=dict)
    rooms: tuple[Basket, ...] = key(ORDER, default=())
    floors: int = dataclasses.field(default=1)


def test_a_field_without_a_role_is_found_wherever_it_stands() -> None:
    assert undeclared(House) == ["Basket.size", "Cat.colour", "House.floors"]


def test_another_default_keeps_the_declaration() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Light(Basket):
        weight: float = 0.5

    assert declared(Light)["weight"] is declared(Basket)["weight"]
    assert Light().weight == 0.5
    with pytest.raises(ConfigError, match=r"weight: must be positive, got -1"):
        Light(weight=-1)


def test_roles_have_an_order() -> None:
    assert OPERATIONAL.stricter(ORDER) is ORDER.stricter(OPERATIONAL) is ORDER
    assert COMPUTATION.stricter(ORDER) is COMPUTATION
    assert COMPUTATION.stricter(FUNCTION) is FUNCTION


def outside(bounds: Bounds) -> list[float]:
    """Numbers just outside of the bounds."""
    numbers = [n for n in (bounds.above, bounds.below) if n is not None]
    if bounds.at_least is not None:
        numbers.append(bounds.at_least - 1)
    if bounds.at_most is not None:
        numbers.append(bounds.at_most + 1)
    return numbers


def holding(declared: Declared, number: float) -> Any:
    """A value of the field's type that holds the number."""
    hint = declared.hint
    if type(None) in get_args(hint):
        hint = get_args(hint)[0]
    if hint is Duration:
        return Duration(number, "ba")
    if get_origin(hint) is dict:
        return {"16": number}
    if get_origin(hint) is tuple:
        return (number,) * len(get_args(hint))
    return number


@pytest.mark.parametrize("declared", BOUNDED, ids=identity)
def test_what_is_out_of_bounds_is_refused_by_name_however_a_config_is_made(
    declared: Declared,
) -> None:
    for number in [*outside(declared.key.bounds), float("nan")]:
        with pytest.raises(ConfigError) as error:
            make(declared.cls, **{declared.name: holding(declared, number)})
        assert error.value.path.split(".")[0] == declared.name
        assert str(error.value).startswith(f"{error.value.path}: must ")


@pytest.mark.parametrize("declared", NAMED, ids=identity)
def test_an_unknown_name_is_refused_with_the_nearest(declared: Declared) -> None:
    nearly = declared.key.one_of[0][:-1]
    with pytest.raises(ConfigError, match=f"no {declared.name} '{nearly}'; did you mean") as error:
        make(declared.cls, **{declared.name: nearly})
    assert error.value.path == declared.name


@pytest.mark.parametrize(
    ("bounds", "words", "requirement"),
    [
        (Bounds(above=0), "positive", "must be positive"),
        (Bounds(at_least=0), "at least 0", "must not be negative"),
        (Bounds(at_least=3), "at least 3", "must be at least 3"),
        (Bounds(at_least=0, at_most=1), "between 0 and 1", "must be between 0 and 1"),
        (Bounds(above=0, at_most=1), "above 0 and at most 1", "must be above 0 and at most 1"),
        (
            Bounds(at_least=0, below=1),
            "at least 0 and below 1",
            "must be at least 0 and below 1",
        ),
    ],
    ids=str,
)
def test_bounds_are_said_in_words(bounds: Bounds, words: str, requirement: str) -> None:
    assert str(bounds) == words
    assert bounds.requirement == requirement


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": 1, "b": -1}, "size.b"),
        ((1, -1), "size.1"),
        (-1, "size"),
        (Duration(-1, "ba"), "size"),
    ],
)
def test_each_number_of_several_is_bounded(value: Any, path: str) -> None:
    positive = Key(role=ORDER, bounds=Bounds(above=0))
    with pytest.raises(ConfigError, match="must be positive or null, got -1") as error:
        positive.check("size", value, or_null=True)
    assert error.value.path == path
    positive.check("size", None, or_null=True)
    positive.check("size", {"a": None, "b": 1}, or_null=True)
