"""A progress bar that no other process can make wait."""

from __future__ import annotations

import threading

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """tqdm's, with a lock of this process alone and without its monitor.

    tqdm's lock is shared with processes that are forked, and its monitor is a thread that takes it.
    A process that is killed while it holds the lock, or forked while the thread does, would leave
    others waiting for ever: a loader's process at the next epoch's order, for instance.
    """

    monitor_interval = 0
    _lock = threading.RLock()
