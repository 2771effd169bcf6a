"""What a key of a recipe says of itself where it is declared: role, scope, bounds, unit.

A field of a config dataclass is a key, and :func:`key` declares it::

    max_length: int = key(ORDER, at_least=3, unit="tokens")

Whatever depends on the kind of a key is derived from these declarations: what a resumed run may
change, what its data's order is compared by, what averaging compares, the page of all keys.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, overload

from flexbert.config.synonyms import name_hint
from flexbert.errors import ConfigError

T = TypeVar("T")
_METADATA = "flexbert.key"


class Role(StrEnum):
    """What another value of a key changes; each role is stricter than the one before it.

    Attributes:
        OPERATIONAL: where and how fast a run goes and what it records. It may resume with another
            value.
        ORDER: which rows a stage reads and what is masked in them. It may resume with another
            value where ``data.accept_changed_order`` says so.
        COMPUTATION: what training computes, though not what given weights compute. No run resumes
            with another value.
        FUNCTION: what given weights compute. Neither does a run resume with another value, nor
            are such weights averaged.
    """

    OPERATIONAL = "operational"
    ORDER = "order"
    COMPUTATION = "computation"
    FUNCTION = "function"

    def stricter(self, other: Role) -> Role:
        """The stricter one of two."""
        return max(self, other, key=list(Role).index)


class Scope(StrEnum):
    """What a key belongs to.

    Attributes:
        STAGE: every stage may have its own value.
        RUN: all stages have the same.
        FIRST_STAGE: only the first stage uses it, so no other one may change it.
    """

    STAGE = "stage"
    RUN = "run"
    FIRST_STAGE = "first stage"


OPERATIONAL, ORDER, COMPUTATION, FUNCTION = Role
STAGE, RUN, FIRST_STAGE = Scope


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The range of a number; of each number where a key holds several."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def hold(self, number: float) -> bool:
        """Whether the number is in the range; NaN is in none."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    @property
    def requirement(self) -> str:
        """What must hold, as a clause."""
        return "must not be negative" if str(self) == "at least 0" else f"must be {self}"

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"between {self.at_least:g} and {self.at_most:g}"
        given = {
            name.replace("_", " "): bound
            for name, bound in dataclasses.asdict(self).items()
            if bound is not None
        }
        if given == {"above": 0}:
            return "positive"
        return " and ".join(f"{name} {bound:g}" for name, bound in given.items())


@dataclass(frozen=True, kw_only=True)
class Key:
    """The declaration of a key; :func:`key` makes one.

    Attributes:
        unit: what a number counts.
        one_of: the names that a text may be.
        run_time: a plan can do without the value: ``???`` decodes to None and is listed.
        by_value: a text that is stored as it is, also where it is from the environment.
    """

    role: Role
    scope: Scope = STAGE
    bounds: Bounds = Bounds()
    unit: str | None = None
    one_of: tuple[str, ...] = ()
    run_time: bool = False
    by_value: bool = False

    @property
    def by_reference(self) -> bool:
        """Whether a text that is from the environment is stored as ``${oc.env:NAME}``."""
        return self.role is OPERATIONAL and not self.by_value

    def check(self, name: str, value: Any, *, or_null: bool) -> None:
        """Raises: ConfigError if ``value`` is none that the key may have."""
        for place, part in _parts(name, value):
            if self.one_of and part not in self.one_of:
                raise ConfigError(place, f"no {name} {part!r}; {name_hint(part, self.one_of)}")
            # Durations and amounts of bytes are compared by their numbers.
            if self.bounds != Bounds() and not self.bounds.hold(getattr(part, "value", part)):
                null = " or null" if or_null else ""
                raise ConfigError(place, f"{self.bounds.requirement}{null}, got {part}")


@overload
def key(role: Role, *, default: T, **declaration: Any) -> T: ...
@overload
def key(role: Role, *, default_factory: Callable[[], T], **declaration: Any) -> T: ...
@overload
def key(role: Role, **declaration: Any) -> Any: ...
def key(
    role: Role,
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    compare: bool = True,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    one_of: Collection[str] = (),
    **declaration: Any,
) -> Any:
    """A dataclass field that is a key of a recipe.

    A subclass that gives the field another default writes ``name: type = value``: what a base class
    declares of it still holds.

    Args:
        compare: whether two nodes with different values are different.
        above, at_least, below, at_most: see :class:`Bounds`.
        declaration: see :class:`Key`.
    """
    bounds = Bounds(above=above, at_least=at_least, below=below, at_most=at_most)
    declared = Key(role=role, bounds=bounds, one_of=tuple(one_of), **declaration)
    field: Any = dataclasses.field(
        default=default,
        default_factory=default_factory,
        compare=compare,
        metadata={_METADATA: declared},
    )
    return field


def _once(function: Callable[[type], T]) -> Callable[[type], T]:
    """The function, computed once for each class."""
    return functools.cache(function)


@_once
def declared(cls: type) -> Mapping[str, Key | None]:
    """What each field of a config says of itself, or its base class does; None where none does."""
    found: dict[str, Key | None] = {}
    for field in dataclasses.fields(cls):
        fields = (vars(base).get("__dataclass_fields__", {}) for base in cls.__mro__)
        keys = (own[field.name].metadata.get(_METADATA) for own in fields if field.name in own)
        found[field.name] = next((key for key in keys if key is not None), None)
    return found


@_once
def type_hints(cls: type) -> Mapping[str, Any]:
    """The types of a config's fields."""
    return typing.get_type_hints(cls)


def is_node(tp: Any) -> bool:
    """Whether a recipe writes values of this type as a mapping of keys."""
    return isinstance(tp, type) and dataclasses.is_dataclass(tp) and not hasattr(tp, "parse")


class Node:
    """Base of every config: what its keys declare is checked when one is made.

    A ``__post_init__`` of its own calls this one first.
    """

    def __post_init__(self) -> None:
        """Raises: ConfigError naming the first key with a value that it may not have."""
        for name, own in declared(type(self)).items():
            if own is not None and (own.one_of or own.bounds != Bounds()):
                or_null = type(None) in typing.get_args(type_hints(type(self))[name])
                own.check(name, getattr(self, name), or_null=or_null)


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values that bounds are of, each with its dotted name; null has none."""
    if isinstance(value, Mapping):
        for part, item in value.items():
            yield from _parts(f"{name}.{part}", item)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _parts(f"{name}.{index}", item)
    elif value is not None:
        yield name, value
