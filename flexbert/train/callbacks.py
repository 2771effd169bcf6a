"""What the trainer does around each update."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from torch import Tensor, nn

from flexbert.config.optimizer import Multipliers
from flexbert.config.training import MovingAverageConfig
from flexbert.data.packing.position import DataState
from flexbert.data.packing.window_index import PackingWindowIndex
from flexbert.train.stage_data import StageData
from flexbert.train.stage_run import StageRun, completes


class Hyperparameters(Callback):
    """Sets every hyperparameter on every parameter group from the recipe and the stage's clock.

    Composer steps its schedulers before its clock moves, and a loaded checkpoint brings its own
    values back; neither is ever used.
    """

    def __init__(self, run: StageRun) -> None:
        self.run = run

    def batch_start(self, state: State, logger: Logger) -> None:
        recipe, clock = self.run.recipe, self.run.clock(state.timestamp)
        multipliers = Multipliers(
            lr=recipe.schedule.multiplier(clock),
            weight_decay=self.run.stage.weight_decay_multiplier(clock),
        )
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group.update(recipe.optimizer.hyperparameters(group, multipliers))


class UpdateSeed(Callback):
    """Seeds torch for each update from (seed, stage, update, rank).

    Dropout is then the same after a resume as without one; Composer does not restore the random
    state in the middle of an epoch.
    """

    def __init__(self, run: StageRun) -> None:
        self.run = run

    def batch_start(self, state: State, logger: Logger) -> None:
        update = self.run.clock(state.timestamp).updates
        stage = self.run.stage
        key = f"{stage.recipe.seed}/{stage.name}/{update}/{dist.get_global_rank()}"
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "little") >> 1)


class Gradients(Callback):
    """Measures the gradients of every update, and clips them where the recipe says so.

    How far weights moved is told of updates that are recorded alone: it takes a copy of them.
    Nothing waits for the device; the log reads the numbers.

    Attributes:
        with_gradient: the parameters that have one in this update.
        norms: of each one's gradient, before clipping.
        norm: of all of them together.
    """

    def __init__(self, run: StageRun, parameters: Iterable[nn.Parameter]) -> None:
        self.run = run
        self.parameters = [p for p in parameters if p.requires_grad]
        self.measured: dict[str, Tensor] = {}
        self.with_gradient: list[nn.Parameter] = []
        self.norms: list[Tensor] = []
        self.norm = torch.zeros(())
        self._is_recorded = False
        self._before: list[Tensor] = []

    def batch_start(self, state: State, logger: Logger) -> None:
        self.measured = {}
        position = state.batch["position"]
        after = self.run.stage.clock(position.tokens, position.update)
        interval = self.run.recipe.logging.interval
        self._is_recorded = completes(interval, self.run.clock(state.timestamp), after)

    @torch.no_grad()
    def after_train_batch(self, state: State, logger: Logger) -> None:
        clip_norm = self.run.recipe.optimizer.clip_norm
        self.with_gradient = [p for p in self.parameters if p.grad is not None]
        gradients = [p.grad for p in self.with_gradient if p.grad is not None]
        self.norms = list(torch._foreach_norm(gradients))
        self.norm = torch.linalg.vector_norm(torch.stack(self.norms))
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, clip_norm, self.norm)
        if self._is_recorded:
            self.measured = {"grad_norm": self.norm}
            self._before = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def batch_end(self, state: State, logger: Logger) -> None:
        if not self._before:
            return  # not recorded, or an update without gradients: nothing to predict
        # In place, so that there is never a second copy.
        torch._foreach_sub_(self._before, [p.detach() for p in self.parameters])
        count = sum(parameter.numel() for parameter in self.parameters)
        self.measured["update_rms"] = nn.utils.get_total_norm(self._before) / count**0.5
        self._before = []


class MovingAverage(Callback):
    """An exponential moving average of the weights, kept with them in checkpoints.

    It begins at the weights as they are when there is none yet.
    """

    def __init__(self, config: MovingAverageConfig, model: nn.Module) -> None:
        self.config = config
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        self.weights: Mapping[str, Tensor] = {}

    def fit_start(self, state: State, logger: Logger) -> None:
        self.weights = {
            name: self.weights[name].to(parameter.device)
            if self.weights
            else parameter.detach().clone()
            for name, parameter in self.parameters.items()
        }

    @torch.no_grad()
    def batch_end(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch.value) % self.config.every == 0:
            current = [self.parameters[name] for name in self.weights]
            torch._foreach_lerp_(list(self.weights.values()), current, 1 - self.config.decay)


class DataPosition(Callback):
    """Keeps the position in the data that belongs to the batch last trained on.

    The position comes with the batch, so that a loader that reads ahead cannot run ahead of it. It
    is the same on every process, which makes Composer's saving of rank 0's callbacks right.
    """

    def __init__(self, data: StageData, index: PackingWindowIndex) -> None:
        """
        Args:
            index: receives the beginnings of windows, from the first process.
        """
        self.data = data
        self.index = index
        self.position = data.start

    def batch_end(self, state: State, logger: Logger) -> None:
        self.position = state.batch["position"]
        if dist.get_global_rank() == 0:
            self.index.write(state.batch["packing_windows"])

    def state(self) -> DataState:
        """For a checkpoint: the place behind the last update."""
        return self.data.state(self.position)
