"""Micro-batches that suit the device."""

from __future__ import annotations

import pytest
import torch
from composer.devices import DeviceCPU
from composer.utils import dist, get_device

from flexbert.nn.masked_lm import MaskedLM
from flexbert.plan.memory import activations_of, memory
from flexbert.plan.microbatch import SHARE
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import Stage, all_stages
from flexbert.train import device_microbatch
from flexbert.train.device_microbatch import suit_device
from tests.conftest import TINY_RECIPE

GIB = 1 << 30


@pytest.fixture
def allocators(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the C library's allocator is set up for: bytes needed and available."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(device_microbatch, "suit_allocator", lambda *sizes: asked.append(sizes))
    if not dist.is_initialized():
        dist.initialize_dist(get_device("cpu"))
    return asked


def stage_of(*overrides: str) -> Stage:
    """The tiny recipe's, micro-batches left open but for ``overrides``."""
    overrides = ("batch.microbatch_rows=null", *overrides)
    return all_stages(load_recipe(TINY_RECIPE, list(overrides), planning=True).stages)[0]


def needed(stage: Stage, rows: int) -> int:
    (activations,) = activations_of([stage.recipe])
    with torch.device("meta"):
        model = MaskedLM(stage.recipe.model)
    return memory(stage.recipe, model, activations, 1, rows).total


def on_a_machine_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_microbatch, "machine_bytes", lambda: size)


def test_what_the_recipe_says_is_taken(allocators: list[tuple[int, int]]) -> None:
    stage = stage_of("batch.microbatch_rows=3")
    assert suit_device(stage, DeviceCPU()) == 3
    assert [asked[0] for asked in allocators] == [needed(stage, 3)]


@pytest.mark.usefixtures("allocators")
@pytest.mark.parametrize(("row_length", "rows"), [(64, 128), (1024, 8), (8192, 1), (16384, 1)])
def test_a_cpu_takes_rows_of_some_thousand_tokens(
    row_length: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine_of(64 * GIB, monkeypatch)
    data = f"data={{row_length: {row_length}, max_length: 64}}"
    assert suit_device(stage_of(data, "batch.size=16384"), DeviceCPU()) == rows


@pytest.mark.usefixtures("allocators")
def test_no_more_rows_than_a_batch_has_or_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of("data={row_length: 256, max_length: 64}", "batch.size=32")
    on_a_machine_of(64 * GIB, monkeypatch)
    assert suit_device(stage, DeviceCPU()) == 8
    on_a_machine_of(int(needed(stage, 5) / SHARE) + 1, monkeypatch)
    assert suit_device(stage, DeviceCPU()) == 5
    on_a_machine_of(1, monkeypatch)
    assert suit_device(stage, DeviceCPU()) == 1
