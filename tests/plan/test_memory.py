"""The plan's memory against what an allocator sees."""

from __future__ import annotations

import pytest
import torch

from benchmarks.measuring import allocated_at_most
from flexbert.config.recipe import Recipe
from flexbert.data.packing.masking import most_masked
from flexbert.nn.build import build_model
from flexbert.nn.device_kind import as_on_a_gpu
from flexbert.nn.packed_batch import PackedBatch
from flexbert.plan.memory import Memory, activations_of, memory
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE

LENGTH, ROW = 256, 1024
SHAPE = (
    "model.hidden_size=128",
    "model.mlp.intermediate_size=192",
    "model.attention={num_heads: 4, windows.repeat: [global, 64, 64]}",
    "model.vocab_size=4096",
    f"data.max_length={LENGTH}",
    f"data.row_length={ROW}",
)


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe(TINY_RECIPE, [*SHAPE, "batch.size=16", *overrides], planning=True).first


def planned_memory(recipe: Recipe, processes: int) -> Memory:
    (activations,) = activations_of([recipe])
    rows = recipe.batch.microbatch_rows or 1
    return memory(recipe, build_model(recipe.model, device="meta"), activations, processes, rows)


def allocated_by_a_step(recipe: Recipe) -> int:
    """Bytes on top of the weights in a forward and a backward pass, as torch's allocator says."""
    model = build_model(recipe.model)
    rows = recipe.batch.microbatch_rows
    assert rows is not None
    num_masked = rows * most_masked(recipe.data.mask_rate, ROW, 1)
    packed = PackedBatch(
        tokens=torch.zeros(rows * ROW, dtype=torch.int64),
        cu_seqlens=torch.arange(0, rows * ROW + 1, LENGTH, dtype=torch.int32),
        max_seqlen=LENGTH,
        position_ids=torch.arange(LENGTH).repeat(rows * ROW // LENGTH),
    )
    labels = torch.zeros(num_masked, dtype=torch.int64)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "amp_bf16"):
            logits = model.deferred_logits(packed, torch.arange(num_masked))
        recipe.loss(logits, labels).backward()

    return allocated_at_most(step, torch.device("cpu"))


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
@pytest.mark.parametrize("rows", [4, 8])
def test_forward_and_backward_take_what_the_plan_says(precision: str, rows: int) -> None:
    recipe = recipe_of(f"precision={precision}", f"batch.microbatch_rows={rows}")
    planned = planned_memory(recipe, processes=1)
    # Beside these there are one layer's temporaries.
    expected = planned.gradients + planned.activations + planned.loss
    if precision == "amp_bf16":
        # Only on a CPU does softmax take a copy in float32 first.
        expected += 4 * rows * most_masked(recipe.data.mask_rate, ROW, 1) * recipe.model.vocab_size
    with as_on_a_gpu():
        allocated = allocated_by_a_step(recipe)
    assert allocated == pytest.approx(expected, rel=0.1)


def test_what_a_run_holds_is_counted_by_part() -> None:
    recipe = recipe_of()
    count = sum(parameter.numel() for parameter in build_model(recipe.model).parameters())
    planned = planned_memory(recipe, processes=1)
    assert planned.weights == planned.gradients == 4 * count
    assert planned.optimizer == 8 * count
    assert planned.communication == planned.moving_average == 0
    assert planned.total == 16 * count + planned.activations + planned.loss
    assert planned_memory(recipe, processes=2).communication == 4 * count
    averaged = recipe_of("moving_average.decay=0.9")
    assert planned_memory(averaged, processes=1).moving_average == 4 * count


def test_muon_keeps_one_number_for_each_of_a_linear_layers_weights() -> None:
    recipe = recipe_of("optimizer={name: muon, lr: 1e-3}")
    model = build_model(recipe.model)
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert planned_memory(recipe, processes=1).optimizer == 4 * (2 * count - linear)


def test_a_backend_for_gpus_alone_can_be_planned_for_anywhere() -> None:
    named = recipe_of("model.attention.backend=flash_attn_2")
    assert planned_memory(named, processes=1) == planned_memory(recipe_of(), processes=1)


def test_each_stage_has_its_own_activations() -> None:
    short, long = (
        recipe_of(),
        recipe_of(f"data={{max_length: {4 * LENGTH}, row_length: {4 * ROW}}}"),
    )
    first, second, third = activations_of([short, long, recipe_of("seed=1")])
    assert first == third
    assert second.per_row > 3 * first.per_row
