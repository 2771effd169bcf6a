"""Values out of files of plain containers, checked where they are read.

Each check returns the value, or raises TypeError or ValueError: what reads a file makes one error
of these that names the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
# What arithmetic on it, in numpy and torch, has room for.
_END = 1 << 62


def value_of(plain: Mapping[str, Any], name: str, check: Callable[[Any], T]) -> T:
    """The value of a name, checked."""
    try:
        return check(plain[name])
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def dict_of(
    plain: Mapping[str, Any], name: str, check: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """The dict with names for keys that stands under a name, its values checked."""
    found = value_of(plain, name, as_dict)
    return found if check is None else {key: value_of(found, key, check) for key in found}


def as_dict(value: Any) -> dict[str, Any]:
    """A dict, all of whose keys are strings."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError("no mapping by names")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text ({type(value).__name__})")
    return value


def count(value: Any) -> int:
    """A whole number from 0 on."""
    if type(value) is not int:
        raise TypeError(f"no whole number ({type(value).__name__})")
    if not 0 <= value < _END:
        raise ValueError(f"{value:.3g} counts nothing" if abs(value) < 1e300 else "counts nothing")
    return value


def counts(value: Any) -> tuple[int, ...]:
    return _each(value, count, "whole numbers")


def number(value: Any) -> float:
    """A number that is finite."""
    if type(value) not in (int, float):
        raise TypeError(f"no number ({type(value).__name__})")
    found = math.nan if type(value) is int and abs(value) >= _END else float(value)
    if not math.isfinite(found):
        raise ValueError("no finite number")
    return found


def numbers(value: Any) -> tuple[float, ...]:
    return _each(value, number, "numbers")


def _each(value: Any, check: Callable[[Any], T], what: str) -> tuple[T, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"no list of {what} ({type(value).__name__})")
    return tuple(map(check, value))


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"no truth value ({type(value).__name__})")
    return value


def scalar(value: Any) -> str | int | float:
    """A text, a number or a truth value, as it is."""
    if not isinstance(value, str | bool):
        number(value)
    found: str | int | float = value
    return found


def tree(value: Any) -> dict[str, Any]:
    """A dict of names, whose values are plain as those of a YAML file are, however deep."""
    found = as_dict(value)
    for item in found.values():
        _require_plain(item)
    return found


def _require_plain(value: Any) -> None:
    if isinstance(value, dict):
        for item in as_dict(value).values():
            _require_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(item)
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise TypeError(f"a {type(value).__name__} in a tree of plain values")
