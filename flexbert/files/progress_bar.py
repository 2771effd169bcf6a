"""A progress bar that no other process can make wait."""

from __future__ import annotations

import sys
import threading
from typing import Any, ClassVar

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """tqdm's, with a lock of this process alone and without its monitor.

    tqdm's lock is shared with processes that are forked, and its monitor is a thread that takes it.
    A process that is killed while it holds the lock, or forked while the thread does, would leave
    others waiting for ever: a loader's process at the next epoch's order, for instance.

    Attributes:
        is_silent: of the whole process, which has one console: nothing is drawn.
    """

    is_silent: ClassVar[bool] = False

    monitor_interval = 0
    _lock = threading.RLock()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if ProgressBar.is_silent:
            kwargs["disable"] = True
        super().__init__(*args, **kwargs)

    @classmethod
    def announce(cls, text: str) -> None:
        """Print what is going to take a while."""
        if not cls.is_silent:
            print(text, file=sys.stderr, flush=True)
