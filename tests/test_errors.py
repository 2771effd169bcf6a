"""Errors reach the user as they were raised, also from another process."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import data_prep
import flexbert
from flexbert.errors import ConfigError, UserError, first_line


def all_errors() -> list[type[UserError]]:
    for package in (flexbert, data_prep):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return [UserError, *subclasses(UserError)]


def subclasses(cls: type[UserError]) -> Iterator[type[UserError]]:
    for below in cls.__subclasses__():
        if below.__module__.split(".")[0] in ("flexbert", "data_prep"):
            yield below
            yield from subclasses(below)


def test_every_error_travels_between_processes() -> None:
    found = all_errors()
    assert {ConfigError, UserError} < set(found)
    for cls in found:
        arguments = ("data.path", "is missing") if issubclass(cls, ConfigError) else ("a message",)
        error = cls(*arguments)
        received = pickle.loads(pickle.dumps(error))
        assert type(received) is cls
        assert (str(received), vars(received)) == (str(error), vars(error))
        assert received.exit_code == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("  one\n  two"), "one"),
        (ValueError("some   white\tspace"), "some white space"),
        (ValueError(), "ValueError()"),
        (KeyError("key"), "'key'"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line
