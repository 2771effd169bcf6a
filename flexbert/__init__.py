"""FlexBERT: distributed pretraining of bidirectional encoders on MosaicML Composer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexbert.nn.padded import PaddedModel

__version__ = "0.1.0"


def load_model(path: str | Path) -> PaddedModel:
    """See :func:`flexbert.checkpoint.load.load_model`; torch is imported when it is called."""
    from flexbert.checkpoint.load import load_model as load

    return load(path)
