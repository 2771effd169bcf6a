"""The callback that shows a stage while it trains."""

from __future__ import annotations

import time
from collections.abc import Mapping

from composer import Callback, Logger, State

from flexbert.pictures import as_count
from flexbert.train.console.console import Console
from flexbert.train.console.lines import (
    Interval,
    Score,
    Standing,
    alive_line,
    duration_text,
    eval_lines,
    train_line,
)
from flexbert.train.console.time_left import TimeLeft
from flexbert.train.stage_run import StageRun

QUIET_SECONDS = 60.0


class StageDisplay(Callback):
    """A line for each record, a sign of life a minute after the last, and the live bar.

    It measures what :class:`TimeLeft` needs: updates by Composer's clock, which all processes agree
    on and which stands still in evaluations; evaluations and checkpoints by its own.
    """

    def __init__(self, run: StageRun, console: Console, time_left: TimeLeft) -> None:
        self.run = run
        self.console = console
        self.time_left = time_left
        self._printed = time.monotonic()
        self._evaluation_began = self._saving_began = 0.0
        self._saving = 0.0
        self._microbatch = self._num_microbatches = 0
        self._loss: float | None = None

    def show_training(self, state: State, interval: Interval) -> None:
        """Print a record of training."""
        self._loss = interval.loss
        if self.console.speaks:
            self._print(train_line(self._standing(state), interval, self.console.width))

    def show_evaluation(self, state: State, whole: Score, by_source: Mapping[str, Score]) -> None:
        """Print what an evaluation found."""
        if self.console.speaks:
            standing, width = self._standing(state), self.console.width
            self._print("\n".join(eval_lines(standing, whole, by_source, width)))

    def fit_start(self, state: State, logger: Logger) -> None:
        self._printed = time.monotonic()

    def before_dataloader(self, state: State, logger: Logger) -> None:
        if self._saving_began:
            self._saving = time.monotonic() - self._saving_began
            self.time_left.add_checkpoint(self._saving)
            self._saving_began = 0.0

    def batch_start(self, state: State, logger: Logger) -> None:
        self._microbatch, self._num_microbatches = 0, len(state.batch["microbatches"])

    def before_forward(self, state: State, logger: Logger) -> None:
        self._microbatch += 1
        update = int(state.timestamp.batch.value) + 1
        doing = f"in update {update:,}, micro-batch {self._microbatch} of {self._num_microbatches}"
        self._refresh(state, doing)

    def batch_end(self, state: State, logger: Logger) -> None:
        before, after = state.previous_timestamp, state.timestamp
        assert before is not None, "an update has just ended"
        # Rows of padding, which make micro-batches equal, are in no stage's length.
        rows = self.run.stage.batches.rows(self.run.clock(before).updates)
        seconds = (after.total_wct - before.total_wct).total_seconds()
        self.time_left.add_update(
            int(after.token.value) - int(before.token.value),
            rows * self.run.recipe.data.row_length,
            max(0.0, seconds - self._saving),
        )
        self._saving = 0.0
        # A record of this update is a sign of life already, and comes next.
        if not self.run.completed(self.run.recipe.logging.interval, state):
            self._refresh(state, "")

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.run.completed(self.run.recipe.checkpoints.interval, state):
            self._saving_began = time.monotonic()

    def eval_before_all(self, state: State, logger: Logger) -> None:
        self._evaluation_began = time.monotonic()

    def eval_batch_start(self, state: State, logger: Logger) -> None:
        number, count = int(state.eval_timestamp.batch.value) + 1, int(state.dataloader_len or 0)
        source = f" {state.dataloader_label}" if len(state.evaluators) > 1 else ""
        self._refresh(state, f"evaluating{source}, batch {number:,} of {count:,}")

    def eval_after_all(self, state: State, logger: Logger) -> None:
        self.time_left.add_evaluation(time.monotonic() - self._evaluation_began)

    def _standing(self, state: State) -> Standing:
        clock = self.run.clock(state.timestamp)
        return Standing(
            stage=self.run.stage.name,
            step=int(state.timestamp.batch.value),
            tokens=int(state.timestamp.token.value),
            fraction=self.time_left.fraction(clock),
            seconds=state.timestamp.total_wct.total_seconds(),
            left=self.time_left.seconds(clock),
        )

    def _refresh(self, state: State, doing: str) -> None:
        """Draw the bar where it is time; without one print a line where none was for a minute.

        Args:
            doing: what goes on; empty where an update has just ended.
        """
        bar = self.console.bar
        is_late = bar is None and time.monotonic() - self._printed >= QUIET_SECONDS
        if not self.console.speaks or not (is_late or (bar is not None and bar.is_due)):
            return
        standing = self._standing(state)
        if bar is None:
            speed = self._tokens_per_second()
            self._print(alive_line(standing, doing, speed, self.console.width))
        else:
            bar.show(standing.fraction, self._bar_text(standing, doing))

    def _bar_text(self, standing: Standing, doing: str) -> str:
        speed = self._tokens_per_second()
        parts = [f"{standing.stage} {standing.fraction:.1%}", f"step {standing.step:,}"]
        if doing.startswith("evaluating"):
            parts.append(doing)
        else:
            parts += [f"loss {self._loss:.3f}"] if self._loss is not None else []
            parts += [f"{as_count(speed)} tok/s"] if speed is not None else []
        if standing.left is not None:
            parts.append(f"{duration_text(standing.left)} left")
        return "  ".join(parts)

    def _tokens_per_second(self) -> float | None:
        each = self.time_left.pace.seconds_per_token
        return None if not each else 1 / each

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        self.console.say(text)
