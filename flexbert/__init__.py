"""FlexBERT: distributed pretraining of bidirectional encoders on MosaicML Composer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexbert.pretrained.load_model import LoadedModel

__version__ = "0.1.0"

# torch is imported when these are called.


def load_model(
    path: str | Path,
    head: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
) -> LoadedModel:
    """See :func:`flexbert.pretrained.load_model.load_model`."""
    from flexbert.pretrained.load_model import load_model as load

    return load(path, head, plugins)


def save_model(model: LoadedModel, path: str | Path) -> None:
    """See :func:`flexbert.pretrained.load_model.save_model`."""
    from flexbert.pretrained.load_model import save_model as save

    save(model, path)
