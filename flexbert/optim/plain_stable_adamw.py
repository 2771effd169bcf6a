"""StableAdamW's update in torch's operations: for CPUs, and for GPUs where optimi's kernel is out.

optimi's own path without Triton reads a number off the device for every parameter, so that a GPU
stands still as often; and it runs one operation after the other over whole tensors, some 28 times
through memory. Here the length of a step stays on the device, and on a CPU a slice stays in cache
from one operation to the next. Two passes are left, since the length of a step follows from a mean
over the whole tensor: the moments with that mean, then the step. Every operation gives the same
bits each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from flexbert.config.optimizer import ParameterGroup

# Numbers in a slice. On a CPU 2^15 to 2^19 took 42, 35, 30, 28 and 28 ms for 12 million parameters
# on one core with 1 MiB of cache, optimi's 63 ms. Of 2^20 temporaries are so large that each is
# memory new from the system: 60 ms. Elsewhere a slice bounds what is alive besides the parameters.
_SLICE = {"cpu": 1 << 17}
_ELSEWHERE = 1 << 26
# Where a number can be read without waiting for the device.
_READ_ON = ("cpu",)


class WithoutTriton(Optimizer):
    """Mixed into optimi's StableAdamW: the same groups and state, updated to the same values."""

    # optimi's: the state of a parameter that has none yet.
    _init_state: Callable[[ParameterGroup, dict[str, Any], Tensor], None]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if not group["setup"]:
                group.update(setup=True, step=torch.tensor(0, dtype=torch.int32))
            count = group["step"].add_(1).item()
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    self._init_state(group, state, parameter)
                    moments = state["exp_avg"], state["exp_avg_sq"]
                    _update(parameter, parameter.grad, *moments, group, count)
        return loss


def _update(
    parameter: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    group: ParameterGroup,
    count: int,
) -> None:
    """Update ``count`` of one parameter, counted from 1 (Wortsman et al. 2023, algorithm 2)."""
    beta1, beta2 = ((b**count - b) / (b**count - 1) for b in (group["beta1"], group["beta2"]))
    eps, decay = group["eps"], group["weight_decay"]
    slices = _slices(parameter, gradient, exp_avg, exp_avg_sq)
    squares = torch.zeros((), dtype=torch.float64, device=parameter.device)
    for _, g, m, v in slices:
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        squares += g.square().div_(v.clamp(min=eps**2)).sum()
    lr = group["lr"] / (squares / parameter.numel()).sqrt_().clamp_(min=1.0)
    step = lr.item() if parameter.device.type in _READ_ON else lr
    for p, _, m, v in slices:
        if decay:
            p.mul_(1 - step / group["max_lr"] * decay)
        root = v.sqrt().add_(eps)
        if isinstance(step, Tensor):
            p.sub_(torch.div(m, root, out=root).mul_(step))
        else:
            p.addcdiv_(m, root, value=-step)


def _slices(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Slices of tensors of the same shape, the same of each.

    A slice is rows along the first dimension, which asks nothing of strides.
    """
    first = tensors[0]
    size = _SLICE.get(first.device.type, _ELSEWHERE)
    if first.numel() <= size:
        return [tensors]
    rows = max(1, size * len(first) // first.numel())
    return list(zip(*(tensor.split(rows) for tensor in tensors), strict=True))
