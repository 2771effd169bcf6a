"""What becomes of freed memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from flexbert.train.cpu_memory import can_keep, machine_bytes

GIB = 1 << 30

# Page faults of filling a block anew, the second time.
FAULTS = """
import ctypes, resource, sys
from flexbert.train.cpu_memory import suit_allocator

suit_allocator(needed=1 << 30, available=int(sys.argv[1]))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def fill():
    block = libc.malloc(100 << 20)
    libc.memset(block, 1, 100 << 20)
    libc.free(block)

fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_is_kept_where_a_fragmented_heap_fits() -> None:
    assert can_keep(8 * GIB, 24 * GIB)
    assert not can_keep(12 * GIB, 24 * GIB)
    assert 0 < machine_bytes() < 1 << 50


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
@pytest.mark.parametrize(("available", "is_kept"), [(8 * GIB, True), (2 * GIB, False)])
def test_a_freed_block_is_used_again_or_given_back(available: int, is_kept: bool) -> None:
    command = [sys.executable, "-c", FAULTS, str(available)]
    faults = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    pages = (100 << 20) // 4096
    assert faults < pages / 10 if is_kept else faults > pages / 2
