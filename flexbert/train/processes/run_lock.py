"""One launch at a time in a run folder.

The first process holds ``.lock`` in the folder, a file that names it, and touches it every few
seconds. Locks of the kernel are not used: on network file systems they may be granted twice, or
never. Ages are compared by the file system's own clock, so that those of machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_errors
from flexbert.files.file_lock import file_lock
from flexbert.train.processes.rank import started_at

LOCK = ".lock"
# A holder that has not touched its file for this long is gone.
STALE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that a run folder belongs to.

    Attributes:
        started: of the process, in clock ticks since the machine's start: another process may have
            its number later. None where that is not known.
        since: when it took the folder, in UTC.
        key: tells this holder from every other one.
    """

    host: str
    pid: int
    started: int | None
    since: str
    key: str

    @classmethod
    def this_process(cls) -> Holder:
        return cls(
            host=_host(),
            pid=os.getpid(),
            started=started_at(os.getpid()),
            since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            key=secrets.token_hex(8),
        )

    def is_gone(self) -> bool | None:
        """Whether the process has ended; None where only its silence can tell: on another host."""
        if self.host != _host():
            return None
        return self.started is None or started_at(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}, since {self.since}"


class RunLock:
    """A run folder that this process holds; :func:`hold_run_folder` makes one."""

    def __init__(self, file: Path, holder: Holder) -> None:
        self.file = file
        self.holder = holder
        self.lost_to: Holder | None = None

    def touch(self) -> None:
        """Tell that the holder is alive; see whether it was taken for dead and replaced."""
        found = _read(self.file)
        if found is not None and found.key != self.holder.key:
            self.lost_to = found
            return
        with contextlib.suppress(OSError):
            os.utime(self.file)

    def check(self) -> None:
        """Raises: UserError if another launch has found this one silent, and taken the folder."""
        if self.lost_to is not None:
            raise UserError(
                f"{self.file.parent}: taken over by {self.lost_to}, because this launch was silent "
                f"for more than {STALE_SECONDS:.0f} s; it writes nothing more there"
            )


@contextlib.contextmanager
def hold_run_folder(folder: Path) -> Iterator[RunLock]:
    """Hold a run folder for this launch.

    A lock that a killed process has left is recognised: at once on the same host, elsewhere when it
    has not been touched for :data:`STALE_SECONDS`, which is waited for.

    Raises:
        UserError: if another launch holds it, or nothing can be written there.
    """
    make_folder(folder)
    lock = RunLock(folder / LOCK, Holder.this_process())
    with write_errors(lock.file):
        _take(lock)
    try:
        yield lock
    finally:
        _release(lock)


def folder_is_held(folder: Path) -> bool:
    """Whether a launch holds a run folder, as far as can be told without waiting for it."""
    file = folder / LOCK
    found = _read(file)
    if found is None:
        return False
    gone = found.is_gone()
    if gone is not None:
        return not gone
    with contextlib.suppress(OSError):
        return _silent_seconds(file) <= STALE_SECONDS
    return False


def _release(lock: RunLock) -> None:
    with contextlib.suppress(OSError, UserError), _guard(lock.file):
        found = _read(lock.file)
        if found is not None and found.key == lock.holder.key:
            lock.file.unlink(missing_ok=True)
            # Whoever holds it may remove it.
            _guard_file(lock.file).unlink(missing_ok=True)


def _take(lock: RunLock) -> None:
    first_seen: tuple[int, int] | None = None
    while True:
        # Two launches that find the same stale lock: one at a time.
        with _guard(lock.file):
            found = _read(lock.file)
            if not lock.file.exists() or (found is not None and found.is_gone()):
                _write(lock)
                return
            silent = _silent_seconds(lock.file)
            if silent > STALE_SECONDS:
                _write(lock)
                return
        if found is not None and found.is_gone() is False:
            raise UserError(_held_text(lock.file.parent, found))
        stamp = _stamp(lock.file)
        if first_seen is None:
            first_seen = stamp
            print(
                f"{lock.file.parent} is held by {found or 'an unknown process'}, last heard of "
                f"{silent:.0f} s ago; waiting to see whether it is alive",
                flush=True,
            )
        elif stamp not in (first_seen, None):
            raise UserError(_held_text(lock.file.parent, found))
        time.sleep(max(0.1, min(1.0, STALE_SECONDS - silent)))


def _held_text(folder: Path, holder: Holder | None) -> str:
    text = f"{folder} is in use by another launch ({holder or 'an unknown process'})"
    if int(os.environ.get("SLURM_STEP_NUM_NODES", "1") or 1) > 1:
        text += (
            "; each node of this Slurm step was started as a run of its own: give every node "
            "--world_size, --node_rank and --master_addr, see docs/launching.md"
        )
    return f"{text}; wait for it, stop it, or give another run_name"


def _guard(file: Path) -> contextlib.AbstractContextManager[Any]:
    return file_lock(_guard_file(file))


def _guard_file(file: Path) -> Path:
    return file.with_name(f"{LOCK}.guard")


def _write(lock: RunLock) -> None:
    """In one step, so that no reader sees half of it."""
    temporary = lock.file.with_name(f".lock.{lock.holder.key}")
    temporary.write_text(json.dumps(asdict(lock.holder)) + "\n")
    temporary.replace(lock.file)


def _read(file: Path) -> Holder | None:
    """Whoever holds a folder; None if nobody does, or the file is none of ours."""
    try:
        return Holder(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _silent_seconds(file: Path) -> float:
    """How long a lock was not touched, by the clock of the file system that it is on."""
    now = file.with_name(f".lock.now-{secrets.token_hex(4)}")
    now.touch()
    try:
        return now.stat().st_mtime - file.stat().st_mtime
    finally:
        now.unlink(missing_ok=True)


def _host() -> str:
    """This machine, and the namespace that process numbers hold in: a container's are its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"
