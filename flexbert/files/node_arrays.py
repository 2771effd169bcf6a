"""Arrays that one process of a node makes once and all of its processes map."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flexbert.errors import UserError
from flexbert.files.durable import write_durably
from flexbert.files.file_lock import file_lock

# Arrays for fewer items than this are quicker to make than to share.
IN_MEMORY = 1 << 20
# A file being written is handed to the disk after this many bytes: no second copy of a large array
# waits in memory as dirty pages.
DIRTY_BYTES = 1 << 27


def default_cache() -> Path:
    """The folder for a node's shared arrays, where a recipe names none."""
    return Path(tempfile.gettempdir()) / f"flexbert-{os.getuid()}"


def node_array(file: Path, dtype: np.dtype, write: Callable[[BinaryIO], None]) -> np.ndarray:
    """The array in ``file``, mapped; written first if no process of the node has done so yet.

    The lock is the kernel's and dies with its holder, and the file takes its name only when
    complete: a writer that is killed leaves nothing behind that another could stumble over.

    Args:
        write: fills an empty file, open for reading and writing.

    Raises:
        UserError: if the file cannot be written.
    """
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(file.with_name(file.name + ".lock")):
                if not file.exists():
                    with write_durably(file) as out:
                        write(out)
        except OSError as error:
            raise UserError(
                f"{file}: cannot be written ({error.strerror or error}); large corpora need some 4 "
                "bytes a document and epoch there, set data.cache to a folder that has them"
            ) from error
    if file.stat().st_size == 0:
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(file, dtype, mode="r"))
