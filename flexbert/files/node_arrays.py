"""Arrays that one process of a node makes once and all of its processes map.

A file is the array's bytes and their hash. Every process checks it before it believes the array:
an order that a disk has damaged would train on other data, and nobody would see it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flexbert.errors import UserError
from flexbert.files.content_hash import DIGEST_BYTES, hash_of
from flexbert.files.durable import WriteError, hand_to_disk, make_folder, write_durably
from flexbert.files.file_lock import file_lock
from flexbert.files.private_folder import default_cache, make_private
from flexbert.files.set_aside import make_way

# Arrays for fewer items than this are quicker to make than to share.
IN_MEMORY = 1 << 20
# A file being written is handed to the disk after this many bytes: no second copy of a large array
# waits in memory as dirty pages.
DIRTY_BYTES = 1 << 27


def node_array(file: Path, dtype: np.dtype, write: Callable[[BinaryIO], None]) -> np.ndarray:
    """The array in ``file``, mapped; written first if no process of the node has done so yet.

    The lock is the kernel's and dies with its holder, and the file takes its name only when
    complete: a writer that is killed leaves nothing behind that another could stumble over. A file
    that is not what was written is made again.

    Args:
        write: fills an empty file, open for reading and writing.

    Raises:
        UserError: if the file cannot be written or read, or its folder is not to be trusted.
    """
    if file.parent == default_cache():
        make_private(file.parent)
    try:
        if not _is_sound(file, dtype):
            make_folder(file.parent)
            with file_lock(file.with_name(file.name + ".lock")):
                if not _is_sound(file, dtype):
                    _make(file, write)
    except (OSError, WriteError) as error:
        problem = str(error)
        if isinstance(error, OSError):
            problem = f"{file}: cannot be written or read ({error.strerror or error})"
        raise UserError(
            f"{problem}; large corpora need some 4 bytes a document and epoch there, set "
            "data.cache to a folder that has them"
        ) from error
    count = (file.stat().st_size - DIGEST_BYTES) // dtype.itemsize
    if count == 0:
        return np.empty(0, dtype)  # nothing cannot be mapped
    return np.asarray(np.memmap(file, dtype, mode="r", shape=(count,)))


def _make(file: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write the file of an array, in the place of one that is damaged."""
    if os.path.lexists(file):
        print(f"warning: {file}: damaged; it is made again", file=sys.stderr, flush=True)
        make_way(file)
    # Nodes may share the folder, and a lock need not reach from one to another.
    with write_durably(file, writer=platform.node()) as out:
        write(out)
        # On the disk before it is read: what is dirty would wait in memory meanwhile.
        hand_to_disk(out)
        out.seek(0, os.SEEK_END)
        end = out.tell()
        out.seek(0)
        digest = hash_of(out, end).digest()
        out.seek(end)
        out.write(digest)


def _is_sound(file: Path, dtype: np.dtype) -> bool:
    """Whether a file is there and holds whole numbers and their hash."""
    try:
        with file.open("rb") as opened:
            end = os.fstat(opened.fileno()).st_size - DIGEST_BYTES
            if end < 0 or end % dtype.itemsize:
                return False
            digest = hash_of(opened, end).digest()
            return opened.read() == digest
    except (FileNotFoundError, IsADirectoryError):
        return False
