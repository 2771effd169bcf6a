"""What a recipe trains, stage by stage, in the numbers that can be known beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexbert.config.duration import Duration
from flexbert.config.schema import Recipe
from flexbert.recipe.batches import rows_per_update

PRETRAIN = "pretrain"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training with its own clock, order of data and schedule.

    Attributes:
        name: enters the seed of the data order, so that no two stages repeat an order.
    """

    name: str
    recipe: Recipe

    @property
    def duration(self) -> Duration:
        return self.recipe.duration

    @property
    def nominal_tokens_per_update(self) -> int:
        """Tokens in one update if every row were full."""
        return self.recipe.batch.rows(self.recipe.data) * self.recipe.data.row_length

    @property
    def nominal_updates(self) -> int:
        """Updates the stage takes if every row is full."""
        if self.duration.unit == "ba":
            return int(self.duration.value)
        return math.ceil(self.duration.value / self.nominal_tokens_per_update)

    @property
    def nominal_tokens(self) -> int:
        """Tokens the stage takes if every row is full."""
        if self.duration.unit == "tok":
            return int(self.duration.value)
        return int(self.duration.value) * self.nominal_tokens_per_update

    def rows_per_update(self, update: int) -> int:
        """Packed rows of one update over all processes: a function of the update number alone."""
        return rows_per_update(self.recipe.batch, self.recipe.data, update)


def stages(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a recipe in order."""
    return (Stage(name=PRETRAIN, recipe=recipe),)
