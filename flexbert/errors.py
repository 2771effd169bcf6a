"""Errors that are the user's to mend: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

# A message is read by a person; what it quotes may be of any length.
MOST_CHARACTERS = 1000
# Advice of libraries to go without a check. It is never passed on: it is how attacks work.
_UNSAFE_ADVICE = {
    "trust_remote_code": "it comes with code of its own, which is never run",
    "weights_only": "it holds more than plain data, and nothing else is read",
    "allow_pickle": "it holds more than plain data, and nothing else is read",
}


class UserError(Exception):
    """Something the user gave is wrong; the message says where, what, and the nearest right one.

    A message is one line of at most ``MOST_CHARACTERS``, whatever stands in a text that it quotes.
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message))


def positive(text: str) -> int:
    """A count on the command line, at least 1; raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


class OneLineParser(argparse.ArgumentParser):
    """Takes options before, between and after the other arguments, and reports a wrong command line
    as any other mistake of the user: in one line.
    """

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Left to itself, argparse refuses ``plan RECIPE --json key=value``: it has taken the empty
        # list of overrides before it sees the option. Commands of commands cannot be intermixed,
        # but each of those can; and argparse calls this method again in doing so.
        if self._subparsers is not None or self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            namespace, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False
        if unknown and unknown[0].startswith("-"):
            options = [name for name in self._option_string_actions if name.startswith("--")]
            self.error(f"unknown option {unknown[0]}; {did_you_mean(unknown[0], options)}")
        if unknown:
            self.error(f"too many arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


class ConfigError(UserError):
    """A value in a recipe is wrong.

    Args:
        path: dotted path of the offending key, relative to where the error is raised; the decoder
            prepends its own position on the way up (see :meth:`under`).
        problem: what is wrong, as a clause without a final full stop.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}" if path else problem)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str]]:
        # Python would call the class with the message alone, and a process that is sent the error
        # would raise another one.
        return type(self), (self.path, self.problem)

    def under(self, prefix: str) -> ConfigError:
        """The same error seen from the parent node ``prefix``."""
        path = ".".join(part for part in (prefix, self.path) if part)
        return type(self)(path, self.problem)


@contextlib.contextmanager
def config_errors_under(prefix: str) -> Iterator[None]:
    """Config errors raised inside are reported as the parent node ``prefix`` sees them."""
    try:
        yield
    except ConfigError as error:
        raise error.under(prefix) from None


@contextlib.contextmanager
def user_errors_at(key: str) -> Iterator[None]:
    """Name the key of the recipe that whatever goes wrong inside was given by."""
    try:
        yield
    except UserError as error:
        raise ConfigError(key, str(error)) from None


def shown(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text in one line: control characters visible, and the middle of a long one cut out."""
    if len(text) > most:
        half = (most - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    if not text.isprintable():
        plain = (char if char.isprintable() else repr(char)[1:-1] for char in text)
        return shown("".join(plain), most)
    return text


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``did you mean X? (known: ...)`` for a message about an unknown name."""
    names = sorted(known)
    begun = [name for name in names if given and name.startswith(given)]
    nearest = begun or difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    listed = f"known: {', '.join(names) or 'none'}"
    return f"did you mean {nearest[0]!r}? ({listed})" if nearest else listed


def first_line(error: BaseException, most: int = 300) -> str:
    """What another library's error says, for a message about it: its first line, white space plain.

    Where it advises to go without a check, what is wrong is said instead.
    """
    try:
        text = str(error).strip() or repr(error)
    except Exception:  # of a class of its own, perhaps one that a damaged file led to
        text = type(error).__name__
    for advice, instead in _UNSAFE_ADVICE.items():
        if advice in text:
            return instead
    return shown(" ".join(text.splitlines()[0].split()), most)


def run_command(command: Callable[[], int]) -> int:
    """Run a command's body and turn a user's mistake into one line and its exit code."""
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
