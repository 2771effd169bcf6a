"""Attention over packed batches: one function, several implementations.

``backend_selection``  ``attend``, the one function, and which backend serves a call: the first that
                       can of those below, unless a recipe names one
``flash_attn_3``, ``flash_attn_2``, ``torch_varlen``   GPUs, by FlashAttention kernels; ``flash`` is
                       what they share, such as a window as the kernels want it
``cpu``                CPUs in bfloat16, by matrix products
``sdpa``               everything else, CPUs in float32 among it, by torch's own attention
``reference``          dense and obvious, for tests
``backend``            what a call asks for and what a backend declares; ``support_table`` prints it
``documents``, ``tiles``   documents grouped by length; a few queries on a few keys, for ``sdpa``
``recomputed_op``, ``seeded``   a custom op from plain torch code, and dropout drawn a second time

A backend is one file with a :class:`Backend`, and its place in the order of
``backend_selection.py``. Each is a custom op with a fake implementation, so that torch.compile sees
one stable call.
"""

from flexbert.nn.attention_backends.backend import Backend, Request
from flexbert.nn.attention_backends.backend_selection import (
    BACKENDS,
    attend,
    backend_report,
    check_backend,
    resolve_backend,
)

__all__ = [
    "BACKENDS",
    "Backend",
    "Request",
    "attend",
    "backend_report",
    "check_backend",
    "resolve_backend",
]
