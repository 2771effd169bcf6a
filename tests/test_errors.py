"""Errors reach the user as they were raised, also from another process."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import data_prep
import flexbert
from flexbert.errors import MOST_CHARACTERS, ConfigError, UserError, first_line, shown


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
        assert received.exit_code == cls.exit_code != 0


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


@pytest.mark.parametrize("advice", ["weights_only=False", "trust_remote_code=True", "allow_pickle"])
def test_advice_to_go_without_a_check_is_never_passed_on(advice: str) -> None:
    line = first_line(RuntimeError(f"refused; you can still load it with {advice}"))
    assert advice.partition("=")[0] not in line
    assert line.startswith("it ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a plain text: é 中", "a plain text: é 中"),
        ("two\nlines\tand \x1b[31m", r"two\nlines\tand \x1b[31m"),
        ("half a character \ud800", r"half a character \ud800"),
        ("a" * 10_000, f"{'a' * 498}...{'a' * 498}"),
    ],
)
def test_a_message_is_one_line_that_a_person_can_read(text: str, line: str) -> None:
    for message in (str(UserError(text)), shown(text), shown(shown(text))):
        assert message == line


@pytest.mark.parametrize("character", ["\n", "\x00", "\ud800", "a", "\u202e"])
def test_no_message_is_longer_than_it_may_be(character: str) -> None:
    for number in (999, 1000, 1001, 50_000):
        for error in (UserError(character * number), ConfigError(character * number, "is wrong")):
            assert len(str(error)) <= MOST_CHARACTERS
            assert str(error).isprintable()
            assert str(error).encode()
