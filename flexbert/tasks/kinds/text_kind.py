"""What kinds share that ask one thing of a text, or of a pair of texts."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from flexbert.config.fields import FUNCTION, key
from flexbert.tasks.kinds.kind import TaskKind, text_in
from flexbert.tasks.tables import Table


@dataclass(frozen=True, kw_only=True)
class TextTaskKind(TaskKind, ABC):
    """A label of a text, or of a pair.

    Attributes:
        text: the column of the text.
        pair: that of a second text, which follows it; null where there is none.
        label: that of the label.
    """

    head: ClassVar[str] = "sequence_classification"

    text: str = key(FUNCTION, default="text")
    pair: str | None = key(FUNCTION, default=None)
    label: str = key(FUNCTION, default="label")

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in (self.text, self.pair, self.label) if name is not None)

    def texts(self, table: Table) -> tuple[list[str], list[str] | None]:
        """The first text of every row, and the second where they are pairs.

        Raises:
            UserError: naming the first row without one.
        """
        count = range(len(table.rows))
        first = [text_in(table, index, self.text) for index in count]
        if self.pair is None:
            return first, None
        return first, [text_in(table, index, self.pair) for index in count]
