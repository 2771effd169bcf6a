"""Families of swappable components, each found in YAML by its ``name:``.

A family is an abstract config class (``class NormConfig(Component, family="norm")``). A member is a
frozen dataclass that subclasses it and is registered under a name::

    @register("rmsnorm")
    @dataclass(frozen=True, kw_only=True)
    class RMSNorm(NormConfig):
        eps: float = key(FUNCTION, default=1e-6, above=0)

        def build(self, hidden_size: int) -> nn.Module: ...

In a recipe ``norm: {name: rmsnorm, eps: 1e-6}`` then decodes to ``RMSNorm(eps=1e-6)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from flexbert.config.fields import Node

C = TypeVar("C", bound="type[Component]")

_FAMILIES: dict[str, dict[str, type[Component]]] = {}


class Component(Node):
    """Base of every config that a recipe selects by name."""

    family: ClassVar[str]
    name: ClassVar[str]

    def __init_subclass__(cls, family: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family = family
            _FAMILIES.setdefault(family, {})


def register(name: str) -> Callable[[C], C]:
    """Class decorator: make the config class reachable as ``name: <name>`` within its family.

    Raises:
        ValueError: if another class of the family already has this name.
        TypeError: if the class lacks something that its family asks for.
    """

    def decorate(cls: C) -> C:
        members = _FAMILIES[cls.family]
        taken = members.get(name)
        # A second import of the same file, a plugin's that was edited, is not a conflict.
        if taken is not None and (taken.__module__, taken.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(
                f"{cls.family} {name!r} is there already, from {taken.__module__}; give it another "
                "name"
            )
        _check_complete(cls)
        cls.name = name
        members[name] = cls
        return cls

    return decorate


def _check_complete(cls: type[Component]) -> None:
    """Said where a class is written; Python would say it when a recipe first names the class."""
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise TypeError(f"{cls.__name__} lacks {', '.join(missing)}, which every {cls.family} has")
    for base in cls.__mro__:
        for name, value in vars(base).items():
            own = inspect.getattr_static(cls, name)
            if isinstance(value, property) and inspect.isfunction(own):
                where = f"{cls.__name__}.{name}"
                raise TypeError(f"{where} must be a property, as {base.__name__} has it")


def is_family(tp: Any) -> bool:
    """Whether this is a family's class, of which a recipe chooses a member by its name."""
    return isinstance(tp, type) and issubclass(tp, Component) and not hasattr(tp, "name")


def families() -> list[str]:
    """The names of all families, in the order of their definition."""
    return list(_FAMILIES)


def members(family: str) -> dict[str, type[Component]]:
    """Name to config class of everything registered in ``family``."""
    return dict(_FAMILIES[family])
