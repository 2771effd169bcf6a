"""Watching the numbers makes no update wait for a GPU.

Tensors are fake ones of a GPU that need not be there: reading a number off it raises. Copies from
it to the host are counted; they must be asked for without waiting.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flexbert.config.duration import Duration
from flexbert.train.callbacks import Gradients
from flexbert.train.health import host_copy
from flexbert.train.health.host_copy import HostCopy
from flexbert.train.health.update_guard import UpdateGuard


class Transfers(TorchDispatchMode):
    """Counts what goes from the GPU to the host, and whether it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bool] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.copy_.default and args[0].device != args[1].device:
            non_blocking = args[2] if len(args) > 2 else (kwargs or {}).get("non_blocking", False)
            self.waiting.append(not non_blocking)
        elif func is torch.ops.aten._to_copy.default and args[0].device != out.device:
            self.waiting.append(not (kwargs or {}).get("non_blocking", False))
        return out


def gradients_of(model: nn.Module, clip_norm: float | None) -> Gradients:
    recipe = SimpleNamespace(
        optimizer=SimpleNamespace(clip_norm=clip_norm),
        logging=SimpleNamespace(interval=Duration(10, "ba")),
    )
    run: Any = SimpleNamespace(recipe=recipe)
    return Gradients(run, model.parameters())


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_an_update_is_looked_at_without_waiting(
    monkeypatch: pytest.MonkeyPatch, clip_norm: float | None
) -> None:
    zeros = torch.zeros
    # Fake tensors have no pinned memory to be in.
    monkeypatch.setattr(host_copy.torch, "zeros", lambda *a, pin_memory=False, **k: zeros(*a, **k))
    with FakeTensorMode(allow_non_fake_inputs=True), Transfers() as transfers:
        model = nn.Linear(8, 8, device="cuda")
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        guard = UpdateGuard.__new__(UpdateGuard)
        guard.gradients = gradients_of(model, clip_norm)
        guard._norm = HostCopy(torch.device("cuda"))
        state: Any = None
        guard.gradients.after_train_batch(state, state)
        verdict = guard.verdict(torch.empty(1, device="cuda"))
        assert verdict.device.type == "cuda"
        assert verdict.shape == (1,)
        assert transfers.waiting == [False]
        with pytest.raises(DataDependentOutputException):
            verdict.item()  # which Composer does, as it did with the loss


def test_a_number_arrives() -> None:
    copy = HostCopy(torch.device("cpu"))
    copy.send(torch.tensor(2.5))
    assert copy.read() == 2.5
