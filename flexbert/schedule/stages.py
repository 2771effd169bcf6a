"""What a recipe trains, stage by stage, in the numbers that can be known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flexbert.config.clock import StageClock
from flexbert.config.duration import Duration
from flexbert.config.encode import encode
from flexbert.config.recipe import Recipe
from flexbert.config.tree import changed_keys
from flexbert.schedule.batch_sizes import BatchSizes


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training with its own clock, order of data and schedule.

    Attributes:
        name: enters the seed of the data order, so that no two stages repeat an order.
    """

    name: str
    recipe: Recipe

    @property
    def duration(self) -> Duration:
        return self.recipe.duration

    @cached_property
    def batches(self) -> BatchSizes:
        """How large each update is, counted from the stage's beginning."""
        return BatchSizes.of(self.recipe.batch, self.recipe.data, self.duration)

    @property
    def nominal_tokens_per_update(self) -> int:
        """Tokens in one update after any batch warmup, if every row were full."""
        return self.recipe.batch.size * self.recipe.data.max_length

    @property
    def nominal_updates(self) -> int:
        """Updates the stage takes if every row is full."""
        if self.duration.unit == "ba":
            return int(self.duration.value)
        return self.batches.updates_for(self.duration.value / self.recipe.data.row_length)

    @property
    def nominal_tokens(self) -> int:
        """Tokens the stage takes if every row is full."""
        if self.duration.unit == "tok":
            return int(self.duration.value)
        return self.batches.rows_before(int(self.duration.value)) * self.recipe.data.row_length

    def clock(self, tokens: int, updates: int) -> StageClock:
        """The stage's clock after these tokens and updates of it."""
        return StageClock(tokens=tokens, updates=updates, duration=self.duration)

    def learning_rate(self, clock: StageClock) -> float:
        """For the update that starts at ``clock``."""
        return self.recipe.optimizer.lr * self.recipe.schedule.multiplier(clock)

    def weight_decay_multiplier(self, clock: StageClock) -> float:
        """What the weight decay is scaled by in the update that starts at ``clock``."""
        schedule = self.recipe.weight_decay_schedule
        return 1.0 if schedule is None else schedule.multiplier(clock)

    def weight_decay(self, clock: StageClock) -> float:
        """For the update that starts at ``clock``."""
        return self.recipe.optimizer.weight_decay * self.weight_decay_multiplier(clock)

    def mask_rate(self, tokens: int, updates: int) -> float:
        """Share of tokens to select in the update that these tokens and updates come before."""
        schedule, rate = self.recipe.mask_rate_schedule, self.recipe.data.mask_rate
        if schedule is None:
            return rate
        return rate * schedule.multiplier(self.clock(tokens, updates))


def all_stages(recipes: Mapping[str, Recipe]) -> tuple[Stage, ...]:
    """The stages that a recipe trains, in order: all, or the one that it asks for alone."""
    stages = tuple(Stage(name=name, recipe=recipe) for name, recipe in recipes.items())
    chosen = stages[0].recipe.stage
    return stages if chosen is None else tuple(s for s in stages if s.name == chosen)


def changes(before: Stage, after: Stage) -> dict[str, tuple[Any, Any]]:
    """What a stage changes, by dotted key: the value before it and its own."""
    return changed_keys(encode(before.recipe), encode(after.recipe))


def transition_text(stage: Stage, before: Stage | None, step: int, tokens: int) -> str:
    """What the beginning of a stage is announced with.

    Args:
        before: the stage that it follows in this run.
        step, tokens: updates and tokens of the run before it.
    """
    lines = [f"stage {stage.name} begins after update {step:,} ({tokens:,} tokens)"]
    if before is not None:
        lines += [f"  {key}: {old} -> {new}" for key, (old, new) in changes(before, stage).items()]
        same = stage.recipe.optimizer.name == before.recipe.optimizer.name
        kept = "weights and the optimizer's state are" if same else "weights alone are"
        lines.append(f"  {kept} carried over; the data begins an order of its own")
    return "\n".join(lines)
