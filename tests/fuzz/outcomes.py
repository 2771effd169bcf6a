"""What a command may do with any input: succeed, or say in one line what is wrong, and soon."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from types import FrameType

from hypothesis import HealthCheck, Phase, currently_in_test_context, event, settings

from flexbert.errors import MOST_CHARACTERS, UserError

LIMIT_SECONDS = 60
# How many mutated inputs each test tries; by default few, and always the same.
EXAMPLES = os.environ.get("FLEXBERT_FUZZ_EXAMPLES")


def fuzz_settings(by_default: int) -> settings:
    """Few and fixed examples, or as many new ones as ``FLEXBERT_FUZZ_EXAMPLES`` says."""
    return settings(
        max_examples=by_default if EXAMPLES is None else int(EXAMPLES),
        derandomize=EXAMPLES is None,
        database=None,
        # Shrinking a hang would take as many hangs.
        phases=set(Phase) - {Phase.shrink, Phase.explain},
        deadline=None,  # the limit below is for hangs, and no measurement of a busy machine
        suppress_health_check=list(HealthCheck),
    )


class HangError(AssertionError):
    """Something took far longer than anything may."""


@contextlib.contextmanager
def time_limit(seconds: float = LIMIT_SECONDS) -> Iterator[None]:
    """Raises: HangError if the block takes longer."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise HangError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refusal(function: Callable[[], object]) -> str | None:
    """The one line that a function refuses its input with, None where it does not.

    Any other exception is a fault, and passes.
    """
    with time_limit(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function()
        except UserError as error:
            message = str(error)
            assert message
            assert message.isprintable()
            assert len(message) <= MOST_CHARACTERS
            _count("refused")
            return message
    _count("taken")
    return None


def exit_of(main: Callable[[list[str]], int], *arguments: object) -> int:
    """A command's exit code: 0, or 2 with one line on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        time_limit(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        code = main([str(argument) for argument in arguments])
    assert code in (0, 2)
    if code == 2:
        (line,) = err.getvalue().splitlines()
        assert line.startswith("error: ")
    return code


def _count(what: str) -> None:
    """For ``--hypothesis-show-statistics``."""
    if currently_in_test_context():
        event(what)
