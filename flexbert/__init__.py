"""FlexBERT: distributed pretraining of bidirectional encoders on MosaicML Composer.

Packages, called rooms here, from the top down; each imports only what is listed below it:

``commands``     the ``flexbert`` command; training starts in ``main.py``
``forecast``     the loss of a larger run, from a ladder of small ones
``train``        training with Composer
``tasks``        what a trained model can do: suites of tasks, fits, tables of results
``plan``, ``provenance``, ``report``, ``doctor``   what a recipe will do, what a run read, how it
                 went, what is installed
``publish``      a run's checkpoints on the Hugging Face Hub
``recipes``      ``load_recipe``, with every component and trained models at hand
``pretrained``   loading a trained model; warm starts
``huggingface``  import and export
``checkpoint``   checkpoint files: reading, writing, averaging, tiling
``stage_checks``, ``components``   what stages need of each other; ``register_all``,
                 which finds every component; ``key_reference`` writes their page
``nn``, ``optim``, ``data``   the model; optimizers; from a corpus to batches
``schedule``     what happens when: learning rate, batch size, mask rate, weight decay
``config``       the recipe: YAML to frozen dataclasses
``manifest_file``, ``metrics_file``, ``health_file``, ``mask_examples_file``,
``task_metrics_file``   what a run's folder says
``pictures``     how pictures look
``statistics``   what seeds and examples say about a difference
``text_tables``  tables for people, as Markdown and as LaTeX
``files``, ``errors``   files that survive a kill; a user's mistakes in one line

The ``__init__`` of each says what is inside and in which order to read it.
"""

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
