"""FlexBERT: distributed pretraining of bidirectional encoders on MosaicML Composer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexbert.checkpoint.load import LoadedModel

__version__ = "0.1.0"

# torch is imported when these are called.


def load_model(path: str | Path, head: Mapping[str, Any] | None = None) -> LoadedModel:
    """See :func:`flexbert.checkpoint.load.load_model`."""
    from flexbert.checkpoint.load import load_model as load

    return load(path, head)


def save_model(model: LoadedModel, path: str | Path) -> None:
    """See :func:`flexbert.checkpoint.load.save_model`."""
    from flexbert.checkpoint.load import save_model as save

    save(model, path)
