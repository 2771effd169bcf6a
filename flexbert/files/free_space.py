"""How much room a disk has, and sizes as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def free_bytes(path: Path) -> int | None:
    """Bytes that this user may still write where ``path`` is, or would be; None: nobody knows."""
    for folder in (path, *path.absolute().parents):
        try:
            found = os.statvfs(folder)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return None


def bytes_text(count: float) -> str:
    """A size: 900 bytes, 1.8 GB, 423 GB. A GB is 10^9 bytes, as disks are sold."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            number = count / size
            return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
    return f"{count:.0f} bytes"
