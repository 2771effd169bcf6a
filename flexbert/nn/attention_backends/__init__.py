"""Attention over packed batches: one function, several implementations.

A backend is one file with a :class:`Backend`, and its place in the order of
``backend_selection.py``.
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
