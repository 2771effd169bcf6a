"""Typed configs back to plain containers: the inverse of the decoder, defaults written out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flexbert.config.registry import Component


def encode(value: Any) -> Any:
    """Nested dicts, lists and scalars that :func:`flexbert.config.decode.decode` reads back."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "plain"):  # what the decoder reads by its ``parse``
        return value.plain()
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"name": value.name, **fields} if isinstance(value, Component) else fields
    return value
