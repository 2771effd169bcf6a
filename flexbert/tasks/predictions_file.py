"""What a fit predicted: ``predictions/FIT.npz``, from which any metric can be computed later."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flexbert.errors import UserError, first_line
from flexbert.files.durable import make_folder, write_durably
from flexbert.files.regular import open_regular

_LABEL_NAMES = "label_names"
# What numpy, zipfile and zlib answer to an archive that is damaged, or is none.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, RuntimeError),
)
_ARRAYS = ("predictions", "labels", "lengths", "scores")


@dataclass(frozen=True, kw_only=True)
class SplitPredictions:
    """Predictions for the examples of a split, with what is right.

    Attributes:
        predictions: one for each example ``[n]``: a class, a choice, a number or a text; for tokens
            a class for each labelled word of all examples, end to end ``[words]``.
        labels: what is right, as the predictions; for answers those of all examples end to end, as
            a question may have several or none ``[answers]``.
        lengths: labelled words, or answers, of each example ``[n]``; None where each has one label.
        scores: logits, ``[n, classes]`` or ``[words, classes]``; of answers the best one's
            score and that of there being none ``[n, 2]``; None where there are none.
    """

    predictions: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray | None = None
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raises: ValueError if the arrays do not go together."""
        if self.predictions.ndim != 1 or self.labels.ndim != 1:
            raise ValueError("predictions and labels are no lists")
        expected = {len(self.labels)}
        if self.lengths is not None:
            if self.lengths.ndim != 1 or not np.issubdtype(self.lengths.dtype, np.integer):
                raise ValueError("lengths are no counts")
            if (self.lengths < 0).any() or self.lengths.sum() != len(self.labels):
                raise ValueError(f"lengths are not those of {len(self.labels)} labels")
            expected.add(len(self.lengths))
        if len(self.predictions) not in expected:
            raise ValueError(
                f"{len(self.predictions)} predictions do not go with {len(self.labels)} labels"
            )

    @property
    def num_examples(self) -> int:
        return len(self.predictions if self.lengths is None else self.lengths)


@dataclass(frozen=True, kw_only=True)
class FitPredictions:
    """
    Attributes:
        label_names: of the classes, by index; none for numbers, choices and answers.
        splits: ``validation`` and each test, by name.
    """

    label_names: tuple[str, ...]
    splits: Mapping[str, SplitPredictions]


def write_predictions(path: Path, found: FitPredictions) -> None:
    """Write a fit's file, whole or not at all.

    Raises:
        WriteError: if the disk refuses it.
    """
    arrays = {_LABEL_NAMES: np.array(found.label_names, dtype=str)}
    for name, split in found.splits.items():
        for part in _ARRAYS:
            if (array := getattr(split, part)) is not None:
                arrays[f"{name}.{part}"] = array
    make_folder(path.parent)
    with write_durably(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_predictions(path: Path) -> FitPredictions:
    """Read a fit's file.

    Raises:
        UserError: if it is not there, or holds anything else.
    """
    try:
        with open_regular(path) as file, np.load(file) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        names = found.pop(_LABEL_NAMES, np.array([], dtype=str))
        parts: dict[str, dict[str, np.ndarray]] = {}
        for name, array in found.items():
            split, _, part = name.rpartition(".")
            if part not in _ARRAYS:
                raise ValueError(f"{name} is no array of predictions")
            parts.setdefault(split, {})[part] = array
        return FitPredictions(
            label_names=tuple(names.tolist()),
            splits={name: SplitPredictions(**split) for name, split in parts.items()},
        )
    except FileNotFoundError:
        raise UserError(f"{path}: not there; the fit's predictions were not kept") from None
    except _UNREADABLE as error:
        raise UserError(f"{path}: no predictions of a fit ({first_line(error)})") from error
