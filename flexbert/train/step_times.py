"""Where the time of training goes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from composer import Callback, Logger, State
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

# A moment: seconds of the host's clock, or where the GPU's queue stood. The latter waits for
# nothing, until it is read.
Moment = float | torch.cuda.Event

PARTS = ("data", "forward", "backward", "communication", "optimizer", "other")


class StepTimes(Callback):
    """Sums up how long each part of an update takes.

    Attributes:
        seconds: by part, since :meth:`clear`. ``data``: waiting for the loader, its start left out.
            ``forward``: with the loss, whose gradient by the logits is computed with it.
            ``communication``: what the backward waits for other processes' gradients once its own
            are there; what overlaps with it is part of ``backward``. ``optimizer``: its step alone.
            ``other``: all else from asking for a batch to the end of its update; neither evaluating
            nor saving.
        last: the same of the last update.
    """

    def __init__(self, device: torch.device) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last = dict.fromkeys(PARTS, 0.0)
        self._on_gpu = device.type == "cuda"
        # What ended when, of the current update.
        self._ends: list[tuple[str, Moment]] = []
        # The same of the update that has ended. It is read when the next one has: Composer has read
        # that one's loss by then, and so waited for the GPU anyway.
        self._unread: list[tuple[str, Moment]] = []
        self._gradients_there: Moment | None = None
        self._loader_started = False

    @property
    def seconds(self) -> dict[str, float]:
        self._read()
        return self._seconds

    @property
    def last(self) -> dict[str, float]:
        self._read()
        return self._last

    @property
    def total(self) -> float:
        """Seconds of all parts together."""
        return sum(self.seconds.values())

    def clear(self) -> None:
        self._read()
        self._seconds = dict.fromkeys(PARTS, 0.0)

    def fit_start(self, state: State, logger: Logger) -> None:
        if isinstance(state.model, DistributedDataParallel):
            state.model.register_comm_hook(None, self._sum_bucket)
        for optimizer in state.optimizers:
            optimizer.register_step_pre_hook(self._step_called)
            optimizer.register_step_post_hook(lambda *_: self._end("optimizer"))

    def _step_called(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The step itself begins where its closure ends, if it is given one.

        Composer's closure trains and then runs every callback's ``after_train_batch``, those of
        clipping among them, in whatever order.
        """
        self._end("other")
        itself, *rest = args
        if rest:
            rest[0] = self._ending_with_other(rest[0])
        if "closure" in kwargs:
            kwargs = {**kwargs, "closure": self._ending_with_other(kwargs["closure"])}
        return (itself, *rest), kwargs

    def _ending_with_other(self, closure: Callable[[], Any] | None) -> Callable[[], Any] | None:
        if closure is None:
            return None

        def marked() -> Any:
            result = closure()
            self._end("other")
            return result

        return marked

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self._ends = [("", self._now())]

    def after_dataloader(self, state: State, logger: Logger) -> None:
        if not self._loader_started:
            self._loader_started = True
            self.before_dataloader(state, logger)
        self._end("data")

    def before_forward(self, state: State, logger: Logger) -> None:
        self._end("other")

    def after_loss(self, state: State, logger: Logger) -> None:
        self._end("forward")

    def before_backward(self, state: State, logger: Logger) -> None:
        self._end("other")
        self._gradients_there = None

    def after_backward(self, state: State, logger: Logger) -> None:
        if self._gradients_there is None:
            self._end("backward")
        else:
            self._ends.append(("backward", self._gradients_there))
            self._end("communication")

    def batch_end(self, state: State, logger: Logger) -> None:
        self._end("other")
        self._read()
        self._unread, self._ends = self._ends, []

    def _read(self) -> None:
        """Add up the update that is unread, if there is one."""
        if not self._unread:
            return
        self._last = dict.fromkeys(PARTS, 0.0)
        for (_, begin), (part, end) in itertools.pairwise(self._unread):
            self._last[part] += _seconds_between(begin, end)
        for part, seconds in self._last.items():
            self._seconds[part] += seconds
        self._unread = []

    def _end(self, part: str) -> None:
        self._ends.append((part, self._now()))

    def _now(self) -> Moment:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    # Without annotations, because DDP refuses those that are strings.
    def _sum_bucket(self, group, bucket):  # type: ignore[no-untyped-def]
        """As DDP itself does. It is called last when the last gradients are there."""
        self._gradients_there = self._now()
        return allreduce_hook(group, bucket)


def _seconds_between(begin: Moment, end: Moment) -> float:
    if isinstance(begin, float):
        assert isinstance(end, float)
        return end - begin
    assert not isinstance(end, float)
    end.synchronize()
    return begin.elapsed_time(end) / 1e3
