"""What a run needs of its device; and that no stage leaves anything open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, Logger, State
from composer.devices import DeviceCPU

from flexbert.config.recipe import Recipe
from flexbert.devices.float32 import allows_tf32, forbid_tf32
from flexbert.errors import UserError, run_command
from flexbert.optim import stable_adamw
from flexbert.recipes import load_recipe
from flexbert.train import device_checks
from flexbert.train.device_checks import device_notes, memory_advice, training_device
from flexbert.train.run import DONE, _Run, train
from tests.conftest import TINY_RECIPE, Overrides
from tests.devices.machines import TOO_OLD, Machine

SHORT = ("duration=2ba", "schedule={name: constant}")
CUDA_OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def allow_tf32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


@pytest.fixture
def like_a_gpus_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Composer's device of a CPU turns TF32 on, as that of a GPU does whenever one is made."""
    made = DeviceCPU.__init__

    def init(self: DeviceCPU, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        allow_tf32()

    monkeypatch.setattr(DeviceCPU, "__init__", init)
    yield
    forbid_tf32()


class Watch(Callback):
    """Whether TF32 is allowed, wherever the model runs."""

    def __init__(self) -> None:
        self.allowed: list[bool] = []

    def before_forward(self, state: State, logger: Logger) -> None:
        self.allowed.append(allows_tf32())

    def eval_before_forward(self, state: State, logger: Logger) -> None:
        self.allowed.append(allows_tf32())


def test_a_run_on_a_gpu_that_cannot_be_used_is_refused(
    tiny: Overrides, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.has_driver()
    machine.has_gpu()
    machine.cuda_fails(TOO_OLD)
    loaded = load_recipe(TINY_RECIPE, tiny(*SHORT))
    assert run_command(lambda: train(loaded, command=["test"])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the NVIDIA driver here is 470.57.02")
    assert line.endswith('CUDA_VISIBLE_DEVICES="" trains on the CPU')
    assert not loaded.first.run_folder.exists()


def test_more_processes_than_gpus_are_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device_checks.dist, "get_local_world_size", lambda: 8)
    with pytest.raises(UserError, match=r"8 processes on this machine, and GPUs for 2"):
        training_device()


@pytest.mark.usefixtures("like_a_gpus_device")
def test_float32_is_float32_in_training_and_evaluation(tiny: Overrides) -> None:
    watch = Watch()
    loaded = load_recipe(TINY_RECIPE, tiny(*SHORT, "evaluation.interval=1ba"))
    assert train(loaded, command=["test"], callbacks=[watch]) == DONE
    # Two updates of two micro-batches, and their evaluations.
    assert len(watch.allowed) > 4
    assert not any(watch.allowed)
    allow_tf32()
    assert allows_tf32()


def recipe(tiny: Overrides, *more: str) -> Recipe:
    return load_recipe(TINY_RECIPE, tiny(*more)).first


def test_what_is_computed_with_is_said(tiny: Overrides, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    exact = "precision: fp32: matrix products in float32; TF32 is off"
    assert device_notes(recipe(tiny), cpu) == [exact]
    (note,) = device_notes(recipe(tiny, "precision=amp_bf16"), cpu)
    assert "in bfloat16" in note
    monkeypatch.setattr(stable_adamw, "triton_problem", lambda device: None)
    assert device_notes(recipe(tiny), cuda) == [exact]
    monkeypatch.setattr(stable_adamw, "triton_problem", lambda device: "there is no C compiler")
    notes = device_notes(recipe(tiny), cuda)
    assert notes[1].endswith("which are slower: there is no C compiler")
    adamw = "optimizer={name: adamw, lr: 1.0e-3, clip_norm: 1.0}"
    assert device_notes(recipe(tiny, adamw), cuda) == [exact]
    torch.use_deterministic_algorithms(True)
    try:
        monkeypatch.setattr(stable_adamw, "triton_problem", lambda device: None)
        assert "not deterministic" in device_notes(recipe(tiny), cuda)[1]
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("capability", "is_warned"), [((7, 5), True), ((8, 0), False)])
def test_a_gpu_that_imitates_bfloat16_is_told(
    capability: tuple[int, int],
    is_warned: bool,
    tiny: Overrides,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(stable_adamw, "triton_problem", lambda device: None)
    notes = device_notes(recipe(tiny, "precision=amp_bf16"), torch.device("cuda"))
    assert any("has no units for bfloat16" in note for note in notes) is is_warned
    assert len(device_notes(recipe(tiny), torch.device("cuda"))) == 1


class OutOfMemory(Callback):
    def before_backward(self, state: State, logger: Logger) -> None:
        raise torch.OutOfMemoryError(CUDA_OUT_OF_MEMORY)


def test_out_of_memory_is_one_line_with_what_to_change(tiny: Overrides) -> None:
    loaded = load_recipe(TINY_RECIPE, tiny(*SHORT))
    with pytest.raises(UserError) as raised:
        train(loaded, command=["test"], callbacks=[OutOfMemory()])
    line = str(raised.value)
    assert line.startswith(f"out of memory ({CUDA_OUT_OF_MEMORY})")
    assert "batch.microbatch_rows" in line
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_left_as_they_are() -> None:
    error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError) as raised, memory_advice():
        raise error
    assert raised.value is error


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_many_stages_leave_as_many_files_open_as_one(
    workers: int, tiny: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_files: list[int] = []
    find_start = _Run._find_start

    def counting(run: _Run, *rest: Any) -> Any:
        open_files.append(len(os.listdir("/proc/self/fd")))
        return find_start(run, *rest)

    # Called before the first stage and behind each.
    monkeypatch.setattr(_Run, "_find_start", counting)
    stages = "stages={a: {duration: 2ba}, b: {duration: 2ba}, c: {duration: 2ba}}"
    settings = ("schedule={name: constant}", "evaluation.interval=1ba", stages)
    loaded = load_recipe(TINY_RECIPE, tiny(*settings, f"data.num_workers={workers}"))
    assert train(loaded, command=["test"]) == DONE
    _, *behind = open_files
    assert len(behind) == 3
    assert len(set(behind)) == 1
