"""No update makes the process wait for a GPU.

Parameters and gradients are fake: torch knows their device, a GPU that need not be there, and their
shape, and there is no content. Whatever would read a number off that GPU, ``.item()`` or an ``if``,
therefore raises. Counts of updates that lie on the CPU do no harm and may be read: of a number that
``torch.tensor`` makes there, a fake tensor keeps the content. A wait inside of a kernel's launch is
not seen.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flexbert.checkpoint.optimizer_state import load_optimizer_state, optimizer_state
from flexbert.config.optimizer import AdamFamilyConfig, Multipliers
from flexbert.optim import stable_adamw
from tests.optim.cases import CONFIGS, Model


class NoCopies(TorchDispatchMode):
    """Refuses operations that see two devices; those that copy wait, and the content goes along."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        devices = {leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)}
        assert len(devices) <= 1, func
        return out


class Launches:
    """Stands for a Triton kernel, which is launched as ``kernel[grid](...)``."""

    def __init__(self) -> None:
        self.count = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Launches:
        return self

    def __call__(self, **arguments: object) -> None:
        self.count += 1


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    """In place of optimi's kernels, and of choosing the device they run on."""
    optimi = importlib.import_module("optimi.stableadamw")
    if not optimi.HAS_TRITON:
        pytest.skip("needs triton")
    kernel = Launches()
    for name in ("_stableadamw_exp_avg_kernel", "_stableadamw_update_kernel"):
        monkeypatch.setattr(optimi, name, kernel)
    monkeypatch.setattr(optimi, "_device_guard", lambda tensor: contextlib.nullcontext())
    monkeypatch.setattr(stable_adamw, "triton_problem", lambda device: None)
    return kernel


@pytest.fixture
def model() -> Iterator[nn.Module]:
    """Matrices and vectors on a GPU, with gradients."""
    with FakeTensorMode():
        with torch.device("cuda"):
            model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6), nn.LayerNorm(6))
        for parameter in model.parameters():
            assert parameter.is_cuda
            parameter.grad = torch.zeros_like(parameter)
        yield model


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_an_update_reads_nothing_off_the_gpu(
    config: AdamFamilyConfig, model: nn.Module, launches: Launches
) -> None:
    second_update(config, model, launches)
    expected = 2 * len(list(model.parameters())) if config is CONFIGS["stable_adamw"] else 0
    assert launches.count == expected


@pytest.fixture(params=["deterministic", "no C compiler"])
def without_triton(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, launches: Launches
) -> Iterator[None]:
    """What keeps optimi's kernels out on a GPU."""
    if request.param == "deterministic":
        torch.use_deterministic_algorithms(True)
    else:
        monkeypatch.setattr(stable_adamw, "triton_problem", lambda device: "no C compiler")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("without_triton")
def test_without_its_kernels_stable_adamw_reads_nothing_off_the_gpu_either(
    model: nn.Module, launches: Launches
) -> None:
    second_update(CONFIGS["stable_adamw"], model, launches)
    assert launches.count == 0


def second_update(config: AdamFamilyConfig, model: nn.Module, launches: Launches) -> None:
    """The second of two, which may neither copy nor wait."""
    optimizer = config.build(model)
    # The first makes the state, and may bring it to the device.
    optimizer.step()
    launches.count = 0
    with NoCopies():
        for group in optimizer.param_groups:
            group.update(config.hyperparameters(group, Multipliers(lr=0.5)))
        optimizer.step()


def test_a_checkpoint_takes_the_state_of_the_kernels(launches: Launches) -> None:
    """Real tensors: the state that optimi makes for its kernels, as a run on a GPU saves it."""
    config, source = CONFIGS["stable_adamw"], Model()
    for parameter in source.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer = config.build(source)
    optimizer.step()
    assert launches.count == 2 * len(list(source.parameters()))
    saved = optimizer_state("stable_adamw", source, optimizer)

    target = Model(seed=1)
    loaded = config.build(target)
    load_optimizer_state(saved, target, loaded)
    for (name, parameter), own in zip(source.named_parameters(), target.parameters(), strict=True):
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(loaded.state[own][key].float(), value.float()), (name, key)


def test_what_waits_is_seen(model: nn.Module) -> None:
    (parameter, *_) = model.parameters()
    with pytest.raises(DataDependentOutputException):
        parameter.sum().item()
    with pytest.raises(AssertionError), NoCopies():
        parameter.cpu()
