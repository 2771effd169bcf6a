"""A number for a text, or for a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from flexbert.config.registry import register
from flexbert.errors import UserError
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.kinds.kind import Examples, one_an_example, value_in
from flexbert.tasks.kinds.text_kind import TextTaskKind
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.tables import Table


@register("regression")
@dataclass(frozen=True, kw_only=True)
class Regression(TextTaskKind):
    """A number, fitted by its squared error."""

    def names_in(self, table: Table) -> tuple[str, ...]:
        return ()

    def examples(self, table: Table, names: tuple[str, ...]) -> Examples:
        first, second = self.texts(table)
        numbers = [self._number(table, index) for index in range(len(table.rows))]
        return Examples(first=first, second=second, labels=numbers)

    def _number(self, table: Table, index: int) -> float:
        value = value_in(table, index, self.label)
        try:
            number = float("nan") if isinstance(value, bool | None) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{table.place(index)}: {self.label}: expected a finite number, got {value!r}"
            )
        return number

    def num_outputs(self, names: Sequence[str]) -> int:
        return 1

    def losses(self, logits: Tensor, labels: Tensor, rows: Tensor | None) -> Tensor:
        return F.mse_loss(logits[:, 0].float(), labels, reduction="none")

    def predictions(self, split: EncodedSplit, scores: Sequence[np.ndarray]) -> SplitPredictions:
        return one_an_example(split, scores, lambda each: float(each[0, 0]))
