"""Finished fits with what they predicted, so that any metric of them can be had."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.errors import UserError
from flexbert.tasks.predictions_file import FitPredictions, SplitPredictions, read_predictions
from flexbert.tasks.results import VALIDATION, FitRecord, read_results
from flexbert.tasks.scoring import Scorer, score, scorer


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptFit:
    """
    Attributes:
        folder: of the results that it is among.
    """

    record: FitRecord
    folder: Path

    @property
    def kind(self) -> str:
        """Of its task.

        Raises:
            UserError: if its record does not say.
        """
        kind = self.record.settings.get("kind")
        name = kind.get("name") if isinstance(kind, dict) else kind
        if not isinstance(name, str):
            raise UserError(f"fit {self.record.fit}: its settings name no kind of task")
        return name

    def splits(self) -> tuple[str, ...]:
        return VALIDATION, *self.record.tests

    def value(self, split: str, metric: str) -> float:
        """A metric of a split: as recorded, or else of what was predicted; nan without the split.

        Raises:
            UserError: if it can be had from neither.
        """
        record = self.record
        if split != VALIDATION and split not in record.tests:
            return math.nan
        recorded = record.metrics if split == VALIDATION else record.tests[split]
        if metric in recorded:
            return recorded[metric]
        names = self._predictions.label_names
        return score([metric], self.kind, self.predicted(split), names)[metric]

    def scorer(self, split: str, metric: str) -> Scorer:
        """The metric as a function of examples. Raises: UserError, as :meth:`value`."""
        return scorer(metric, self.kind, self.predicted(split), self._predictions.label_names)

    def predicted(self, split: str) -> SplitPredictions:
        """What it predicted for a split.

        Raises:
            UserError: if that was not kept.
        """
        found = self._predictions.splits
        if split not in found:
            raise UserError(f"fit {self.record.fit}: no predictions of {split} are kept")
        return found[split]

    @property
    def _predictions(self) -> FitPredictions:
        if self.record.predictions is None:
            raise UserError(f"fit {self.record.fit}: no predictions are kept")
        return _read(self.folder / self.record.predictions)


# A few, as those of a whole search may be more than memory holds.
_read = functools.lru_cache(maxsize=16)(read_predictions)


def read_fits(paths: Sequence[Path]) -> list[KeptFit]:
    """The fits of several results, each once, in the order of the paths.

    Args:
        paths: of folders with a ``results.jsonl``, or of such files.

    Raises:
        UserError: as :func:`flexbert.tasks.results.read_results`.
    """
    found: dict[str, KeptFit] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        for record in read_results(path):
            found.setdefault(record.fit, KeptFit(record=record, folder=folder))
    return list(found.values())
