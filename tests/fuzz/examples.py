"""How many examples a fuzz test tries: few and always the same, or as many as asked for by hand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from flexbert.errors import UserError

ASKED = os.environ.get("FLEXBERT_FUZZ_EXAMPLES")


def examples(count: int) -> Callable[[Any], Any]:
    """``count`` examples, the same in every run; or FLEXBERT_FUZZ_EXAMPLES random ones.

    Only the latter are made smaller where they fail, which takes minutes.
    """
    quick = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
    return settings(
        max_examples=int(ASKED) if ASKED else count,
        derandomize=ASKED is None,
        phases=list(Phase) if ASKED else quick,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def one_line(action: Callable[[], object]) -> bool:
    """Whether something succeeds or raises a user's error of one readable line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            action()
        except UserError as error:
            text = str(error)
            return "\n" not in text and 0 < len(text) < 5000
    return True
