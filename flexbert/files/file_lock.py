"""A lock between the processes of a node."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from flexbert.files.private_folder import default_cache, make_private

# What file systems answer that know no locks: some of NFS, FUSE and Lustre.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock that all processes of the node respect and that dies with its holder.

    Who holds it may remove the file. Where the file system knows no locks, a file in the folder for
    temporary files is locked in its place, which all of a user's processes on the node agree on.

    Yields:
        whether it is held; never False with ``wait``.
    """
    with lock_to_share(path, wait=wait) as descriptor:
        yield descriptor is not None


@contextlib.contextmanager
def lock_to_share(path: Path, *, wait: bool = True) -> Iterator[int | None]:
    """As :func:`file_lock`, and a process that is started meanwhile may hold it too.

    Yields:
        a descriptor for ``pass_fds``, None where it is not held: the lock is free only once each
        process that it was passed to has ended, or this one has let go of it by itself.
    """
    while True:
        with contextlib.ExitStack() as unless_held:
            descriptor = _open(path, unless_held)
            try:
                locked = _lock(descriptor, path, wait, unless_held)
            except BlockingIOError:
                break
            if _is_open_as(descriptor, path):
                held = unless_held.pop_all()
                with held:
                    # Closing alone would leave it locked by a process that was forked meanwhile.
                    held.callback(fcntl.flock, locked, fcntl.LOCK_UN)
                    yield locked
                return
            # Otherwise its last holder removed it: another file has the name now.
    yield None


def _open(path: Path, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    opened.callback(os.close, descriptor)
    return descriptor


def _lock(descriptor: int, path: Path, wait: bool, opened: contextlib.ExitStack) -> int:
    """Lock a file that is open, or what stands in for it; returns which of the two."""
    operation = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, operation)
        return descriptor
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    make_private(default_cache())
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    stand_in = _open(default_cache() / f"{name[:32]}.lock", opened)
    fcntl.flock(stand_in, operation)
    return stand_in


def _is_open_as(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
