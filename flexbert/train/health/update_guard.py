"""Updates whose loss or gradients are not finite are skipped; after too many the run stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from torch import Tensor, nn
from torch.optim import Optimizer

from flexbert.checkpoint.checkpoint import HealthState
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.train.callbacks import DataPosition, Gradients
from flexbert.train.health.health_log import HealthLog
from flexbert.train.health.host_copy import HostCopy
from flexbert.train.health.spikes import Spike, SpikeDetector
from flexbert.train.processes.peers import Peers
from flexbert.train.processes.run_errors import NumbersError
from flexbert.train.processes.stopping import StopBetween
from flexbert.train.run_folder import RunFolder
from flexbert.train.stage_run import StageRun

_SHOWN_PARTS = 5


_NEVER_MASKED = "special, unknown and reserved tokens are never masked; see data_prep inspect"


class UpdateGuard(Callback):
    """Looks at every update's numbers, and lets the optimizer step only where they are finite.

    The loss is each process's own, so whether it is finite is agreed on; gradients are the sum over
    all processes. Composer reads one number between the backward pass and the step; it reads this
    verdict, so that nothing else has to wait for the device.

    Attributes:
        is_skipping: whether the last update was skipped.
        skipped, in_a_row: how many were, in the run, and last.
        can_roll_back: whether there is a checkpoint within the stage.
    """

    def __init__(
        self,
        run: StageRun,
        model: nn.Module,
        gradients: Gradients,
        position: DataPosition,
        folder: RunFolder,
        stop: StopBetween,
        peers: Peers,
        state: HealthState,
    ) -> None:
        """
        Args:
            state: what a checkpoint remembers.
        """
        config = run.recipe.health
        self.run = run
        self.gradients = gradients
        self.position = position
        self.folder = folder
        self.stop = stop
        self.peers = peers
        self.log = HealthLog(folder.path, is_writer=peers.rank.is_first)
        self.skipped = state.skipped
        self.in_a_row = state.skipped_in_a_row
        self.detector = (
            None
            if config.spikes is None
            else SpikeDetector(config.spikes, state.losses, state.grad_norms)
        )
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._norm = HostCopy(next(model.parameters()).device)
        self._losses: list[Tensor] = []
        self._batch: Mapping[str, Any] = {}
        self._step = 0
        self.is_skipping = False
        self._is_empty = False
        self._empty_in_a_row = 0
        self.can_roll_back: Callable[[], bool] = lambda: False

    @property
    def is_sick(self) -> bool:
        """Whether the weights are in doubt: the last update was skipped, or is to be undone."""
        return self.in_a_row > 0 or self.stop.roll_back_asked

    def state(self) -> HealthState:
        """For a checkpoint."""
        detector = self.detector
        return HealthState(
            skipped=self.skipped,
            skipped_in_a_row=self.in_a_row,
            losses=tuple(detector.losses) if detector else (),
            grad_norms=tuple(detector.norms) if detector else (),
        )

    def batch_start(self, state: State, logger: Logger) -> None:
        self._losses = []
        self._is_empty = False
        self._batch = state.batch
        self._step = int(state.timestamp.batch.value) + 1

    def after_loss(self, state: State, logger: Logger) -> None:
        assert isinstance(state.loss, Tensor), "a masked LM has one loss"
        self._losses.append(state.loss.detach())

    def verdict(self, loss: Tensor) -> Tensor:
        """1 where the update is to be skipped, else 0, on the device; the same on every process.

        Args:
            loss: this process's part of the update's.
        """
        norm = self.gradients.norm
        self._norm.send(norm)
        skip = (~(torch.isfinite(loss.detach()) & torch.isfinite(norm))).float().reshape(1)
        dist.all_reduce(skip, reduce_operation="MAX")
        return skip

    def nothing_to_predict(self) -> Tensor:
        """The verdict on an update of which no process has a token to predict: it is skipped, and
        leaves no doubt about the weights."""
        self._is_empty = True
        return torch.ones(1)

    def guard(self, optimizer: Optimizer) -> None:
        """Let the optimizer step only after a verdict."""
        step: Callable[[], Any] = optimizer.step

        def step_if_finite(closure: Callable[[], float]) -> None:
            self.is_skipping = bool(closure())
            if self.is_skipping:
                self._tell_skipped()
            else:
                step()

        optimizer.step = step_if_finite  # type: ignore[method-assign, assignment]

    def batch_end(self, state: State, logger: Logger) -> None:
        self._empty_in_a_row = self._empty_in_a_row + 1 if self._is_empty else 0
        if self._is_empty:
            self.skipped += 1
            if self._empty_in_a_row > self.run.recipe.health.max_skipped:
                raise NumbersError(
                    f"{self._empty_in_a_row} updates in a row had no token to predict (health."
                    f"max_skipped: {self.run.recipe.health.max_skipped}): {_NEVER_MASKED}"
                )
            return
        if self.is_skipping:
            self.skipped += 1
            self.in_a_row += 1
            if self.in_a_row > self.run.recipe.health.max_skipped:
                self._give_up()
            return
        self.in_a_row = 0
        if self.detector is None:
            return
        loss = state.total_loss_dict["loss/train/total"]
        spike = self.detector.see(loss, self._norm.read())
        if spike is not None:
            self._tell_spike(spike)

    def _tell_spike(self, spike: Spike) -> None:
        assert self.detector is not None, "it has found one"
        first, count = self._rows()
        outlook = ""
        if self.detector.config.action == "roll_back":
            self.stop.roll_back_asked = self.can_roll_back()
            if not self.stop.roll_back_asked:
                outlook = "; not rolled back: the stage has no checkpoint yet"
        self.log.note(
            "spike",
            f"step {self._step}: {spike}{outlook}",
            stage=self.run.stage.name,
            step=self._step,
            name=spike.name,
            value=spike.value,
            median=spike.median,
            deviations=spike.deviations,
            first_row=first,
            rows=count,
        )

    def _tell_skipped(self) -> None:
        """Where the numbers come from; slow, and seldom."""
        if self._is_empty:
            what = f"none of its {self._rows()[1]} rows has a token to predict: {_NEVER_MASKED}"
            self._note_skipped(what, rows=[], parts={})
            return
        own = [loss.item() for loss in self._losses]
        size = len(self._batch["microbatches"][0]["input_ids"]) // self.run.recipe.data.row_length
        everyone = self.peers.gather("finding what was not finite", [str(loss) for loss in own])
        world = len(everyone)
        _, count = self._rows()
        bad = sorted(
            row
            for rank, losses in enumerate(everyone)
            for number, loss in enumerate(losses)
            if not math.isfinite(float(loss))
            for row in range(
                rank + world * number * size, rank + world * (number + 1) * size, world
            )
            if row < count
        )
        parts = self._largest_parts()
        what = f"the loss of {len(bad)} of {count} rows is" if bad else "its gradients are"
        norms = ", ".join(f"{name} {norm:.3g}" for name, norm in parts.items())
        self._note_skipped(f"{what} not finite; gradient norms: {norms}", rows=bad, parts=parts)

    def _note_skipped(self, why: str, *, rows: list[int], parts: dict[str, float]) -> None:
        """
        Args:
            rows: of the update, that are the reason; empty means all.
            parts: norms of gradients by part of the model.
        """
        first, count = self._rows()
        self.log.note(
            "skipped",
            f"step {self._step} is skipped: {why}",
            stage=self.run.stage.name,
            step=self._step,
            packing_window=self.position.position.packing_window.index,
            first_row=first,
            rows=rows or list(range(count)),
            gradient_norms=parts,
        )

    def _rows(self) -> tuple[int, int]:
        """The update's first row in the stage's stream, and its number of rows."""
        before = self.position.position
        first = before.packing_window.row + before.row
        return first, self.run.stage.batches.rows(self._batch["position"].update - 1)

    def _largest_parts(self) -> dict[str, float]:
        """Norms of gradients by part of the model: those that are not finite, then the largest."""
        norms = torch.stack(self.gradients.norms).double().tolist()
        squares: dict[str, float] = {}
        for parameter, norm in zip(self.gradients.with_gradient, norms, strict=True):
            part = _part(self._names[parameter])
            squares[part] = squares.get(part, 0.0) + norm * norm
        largest = sorted(squares.items(), key=lambda item: (math.isfinite(item[1]), -item[1]))
        return {part: math.sqrt(square) for part, square in largest[:_SHOWN_PARTS]}

    def _give_up(self) -> None:
        saved = list_checkpoints(self.folder.checkpoints)
        good = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        first = self._step - self.in_a_row + 1
        raise NumbersError(
            f"the loss or the gradients of {self.in_a_row} updates in a row were not finite (steps "
            f"{first} to {self._step}, health.max_skipped: {self.run.recipe.health.max_skipped}); "
            f"{good}; where they came from: {self.log.file}; their rows: flexbert rows "
            f"{self.folder.path} {first}; a lower optimizer.lr may help"
        )


def require_finite(weights: Mapping[str, Tensor], what: str, last_good: Path | None) -> None:
    """Raises: NumbersError if a number of these tensors is not finite; it names the first such."""
    tensors = {name: t for name, t in weights.items() if t.is_floating_point() and t.numel()}
    # The largest, because squares of numbers that are finite may not be.
    largest = torch.stack(
        [norm.float() for norm in torch._foreach_norm(list(tensors.values()), float("inf"))]
    )
    for name, finite in zip(tensors, torch.isfinite(largest).tolist(), strict=True):
        if not finite:
            good = f"the last good checkpoint is {last_good}" if last_good else "none is saved yet"
            raise NumbersError(f"{what} of {name} is not finite, and is not saved; {good}")


def _part(name: str) -> str:
    """The part of the model that a parameter belongs to: a layer, or what its name begins with."""
    words = name.split(".")
    numbers = [index for index, word in enumerate(words) if word.isdecimal()]
    return ".".join(words[: numbers[0] + 1]) if numbers else ".".join(words[:2])
