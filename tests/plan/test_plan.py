"""Plans of whole recipes: published numbers, costs, curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexbert.commands import main
from flexbert.nn.build import build_model
from flexbert.plan import Plan, make_plan
from flexbert.plan.plan import MicrobatchPlan
from flexbert.plan.plan_picture import draw_plan, stage_curves
from flexbert.plan.stage_cost import Hardware
from flexbert.pretrained.load_model import LoadedModel, save_model
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import all_stages
from tests.conftest import REPOSITORY, TINY_RECIPE, Overrides

Output = pytest.CaptureFixture[str]
BASE, LARGE = (REPOSITORY / "yamls" / f"{name}.yaml" for name in ("base", "large"))

# arXiv 2412.13663, table 3. Steps follow from tokens and batches, warmups included.
PUBLISHED = {
    "base": {
        "pretrain": (1_719_000_000_000, 1024, 4608, 8e-4),
        "extend": (250_000_000_000, 8192, 576, 3e-4),
        "decay": (50_000_000_000, 8192, 576, 3e-4),
    },
    "large": {
        "pretrain": (902_000_000_000, 1024, 4928, 5e-4),
        "pretrain_lower": (800_000_000_000, 1024, 4928, 5e-5),
        "extend": (250_000_000_000, 8192, 616, 5e-5),
        "decay": (50_000_000_000, 8192, 624, 5e-5),
    },
}
WARMUPS = {
    "base": ([768, 1536, 2304, 3072, 3840], 4239),
    "large": (list(range(448, 4481, 448)), 396),
}


def plan(recipe: Path, *overrides: str, processes: int = 1, **hardware: float) -> Plan:
    """The plan of a recipe; ``hardware`` is what ``flexbert plan`` has options for."""
    loaded = load_recipe(recipe, overrides, planning=True)
    return make_plan(loaded, processes, Hardware(**hardware))


def plan_json(capsys: Output, *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    planned: dict[str, Any] = json.loads(capsys.readouterr().out)
    return planned


STAGE_KEYS = {
    *("name", "tokens", "steps", "steps_are", "lr", "decay_begins"),
    *("max_length", "row_length", "mask_rate"),
    *("batch_size", "batch_tokens", "batch_warmup", "rows_per_batch", "processes"),
    *("microbatches", "rows_per_microbatch", "idle_rows", "microbatch_rows"),
    *("microbatch_rows_are", "fitting_rows", "memory", "gpu_hours", "changes", "layers"),
    *("flops_per_token", "flops_lengths", "corpora", "packing_efficiency", "sources"),
    *("checkpoints", "hours"),
}


def test_json_has_the_keys_that_programs_read(
    capsys: Output, tiny: Overrides, corpus: Path
) -> None:
    arguments = tiny("batch={size: 8, warmup: {start: 2, duration: 6ba}}")
    planned = plan_json(capsys, str(TINY_RECIPE), *arguments)
    assert set(planned) >= {
        *("run_name", "run_folder", "plugins", "to_be_given", "notes"),
        *("begins_from", "beginning_checked"),
        *("parameters", "layers", "flops_per_token", "flops_lengths", "flops_formula", "hardware"),
        *("tokens", "steps", "gpu_hours", "hours", "checkpoints", "remarks", "stages", "recipe"),
    }
    assert set(planned["parameters"]) == {
        *("total", "embedding", "encoder", "attention", "mlp", "norms", "head"),
    }
    assert set(planned["hardware"]) == {
        *("device", "mfu", "peak_tflops", "gpu_memory", "tokens_per_second"),
    }
    (stage,) = planned["stages"]
    assert set(stage) == STAGE_KEYS
    assert planned["layers"] == stage["layers"]
    assert set(stage["layers"][0]) == {"index", "attention", "window", "theta", "block", "mlp"}
    assert set(stage["batch_warmup"][0]) == {"batch_size", "steps"}
    assert set(stage["memory"]) == {
        *("weights", "gradients", "optimizer", "moving_average", "communication"),
        *("activations", "loss", "total"),
    }
    assert set(stage["checkpoints"]) == {"count", "bytes_each", "keep", "best", "waiting"}
    assert set(planned["checkpoints"]) == {
        *("written", "at_once", "largest_bytes", "total_bytes", "free_bytes"),
    }
    (described,) = stage["corpora"].values()
    assert described["path"] == str(corpus)
    assert set(described["splits"]["train"]) == {"documents", "tokens"}
    (source,) = stage["sources"].values()
    assert set(source) == {"share", "tokens", "epochs"}
    without = plan_json(capsys, str(BASE))["stages"][0]
    assert set(without) == STAGE_KEYS
    assert without["corpora"] is without["packing_efficiency"] is without["sources"] is None


@pytest.mark.parametrize("name", ["base", "large"])
def test_stages_have_the_published_tokens_and_batches(name: str) -> None:
    stages = plan(REPOSITORY / "yamls" / f"{name}.yaml").stages
    found = {
        stage.name: (stage.length.tokens, stage.max_length, stage.batch.size, stage.lr)
        for stage in stages
    }
    assert found == PUBLISHED[name]
    assert list(found) == list(PUBLISHED[name])
    sizes, updates = WARMUPS[name]
    for stage in stages:
        tokens, length, full, _ = found[stage.name]
        smaller = [(batch.batch_size, batch.steps) for batch in stage.batch.warmup]
        is_first = stage.name == "pretrain"
        assert smaller == ([(size, updates) for size in sizes] if is_first else [])
        warmup = sum(size * steps * length for size, steps in smaller)
        steps = sum(steps for _, steps in smaller)
        assert stage.length.steps == steps + -(-(tokens - warmup) // (full * length))
    thetas = [{layer.theta for layer in stage.layers} for stage in stages]
    assert thetas[0] == {10_000}
    assert thetas[-1] == thetas[-2] == {10_000, 160_000}


def test_hours_are_those_of_the_stated_efficiency() -> None:
    """The paper's 191 hours on 8 H100s for base's pretraining: RECIPE's 26 percent of 989."""
    planned = plan(BASE, mfu=0.26, peak_tflops=989)
    assert planned.stages[0].gpu_hours / 8 == pytest.approx(191, rel=0.02)
    flops = sum(stage.length.tokens * stage.cost.flops for stage in planned.stages)
    assert planned.gpu_hours == pytest.approx(flops / (0.26 * 989e12) / 3600)


def test_hours_by_the_clock_are_shared_by_gpus_and_count_idle_rows() -> None:
    alone, eight = plan(BASE), plan(BASE, processes=8)
    assert alone.hours == alone.gpu_hours == eight.gpu_hours
    assert eight.hours == pytest.approx(eight.gpu_hours / 8)
    # 576 rows on 512 GPUs are 2 each, 1024 computed.
    many = plan(BASE, processes=512)
    assert many.hours == pytest.approx(many.gpu_hours / 512 * 1024 / 576, rel=1e-6)


def test_hours_of_a_measured_rate_are_tokens_over_it(capsys: Output) -> None:
    planned = plan(BASE, tokens_per_second=1e6, processes=8)
    assert planned.hours == pytest.approx(2_019_000_000_000 / 8e6 / 3600)
    assert main(["plan", str(BASE), "--tokens-per-second", "1e6", "--gpus", "8"]) == 0
    printed = capsys.readouterr().out
    assert "561 GPU-hours at 1,000,000 tokens a second on one GPU, as given" in printed
    assert "2.9 days on 8 GPUs" in printed


def test_a_device_by_name_gives_peak_and_memory(capsys: Output) -> None:
    h100, a100 = (plan_json(capsys, str(BASE), "--device", name) for name in ("H100", "A100-40GB"))
    assert a100["gpu_hours"] / h100["gpu_hours"] == pytest.approx(989 / 312)
    assert a100["hardware"]["gpu_memory"] == 40
    other = plan_json(capsys, str(BASE), "--device", "A100", "--gpu-memory", "40")
    assert other["hardware"] == {**a100["hardware"], "device": "A100"}
    assert main(["plan", str(BASE), "--device", "A10O"]) == 2
    assert "--device 'A10O': did you mean 'A10'" in capsys.readouterr().err


def test_the_papers_micro_batches_are_about_what_its_gpus_hold() -> None:
    """96 and 56 sequences of 1024 on H100s of 80 GB, where compiling saves what is too much."""
    for file in (BASE, LARGE):
        first = plan(file, processes=8).stages[0]
        assert 65e9 < first.microbatch.memory.total < 100e9


def first_microbatch(rows: int | None, **hardware: float) -> MicrobatchPlan:
    """Of base's pretraining on 8 processes, with the recipe's ``rows`` or those that fit."""
    given = f"batch.microbatch_rows={'null' if rows is None else rows}"
    return plan(BASE, given, processes=8, **hardware).stages[0].microbatch


@pytest.mark.slow
def test_micro_batches_left_open_are_as_large_as_fit() -> None:
    left_open = first_microbatch(None)
    one_more = first_microbatch(left_open.rows + 1)
    assert left_open.memory.total <= 0.8 * 80 * 2**30 < one_more.memory.total
    assert first_microbatch(None, gpu_memory=1).rows == 1
    # Never more than there are: 576 rows of 8192 tokens, on 8 processes.
    assert first_microbatch(None, gpu_memory=1e6).rows == 72


def test_micro_batches_left_open_leave_few_rows_idle() -> None:
    """Where 5 rows fit, 15 micro-batches of them were 75 rows for 72; 18 of 4 are 72."""
    gpu_memory = first_microbatch(5).memory.total / 0.8 / 2**30 + 0.01
    planned = plan(BASE, "batch.microbatch_rows=null", processes=8, gpu_memory=gpu_memory)
    batch = planned.stages[0].batch
    assert (batch.num_microbatches, batch.rows_per_microbatch) == (18, 4)
    assert batch.idle_rows == 0


def test_memory_is_that_of_the_micro_batches_there_are() -> None:
    """576 rows on 576 processes are one each, whatever the recipe allows."""
    many = plan(BASE, processes=576).stages[0]
    assert many.microbatch.rows == many.batch.rows_per_microbatch == 1
    assert many.microbatch.memory == first_microbatch(1).memory


@pytest.mark.parametrize("rows", ["null", "12"])
def test_a_plan_tells_what_does_not_fit(capsys: Output, rows: str) -> None:
    arguments = ["plan", str(BASE), f"batch.microbatch_rows={rows}", "--gpu-memory"]
    assert main([*arguments, "2"]) == 0
    assert "more than a GPU of 2 GiB has" in capsys.readouterr().out
    assert main([*arguments, "40"]) == 0
    assert ("more than a GPU of 40 GiB has; 4 would" in capsys.readouterr().out) == (rows == "12")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--mfu", "0"),
        ("--mfu", "40"),
        ("--mfu", "nan"),
        ("--peak-tflops", "-1"),
        ("--peak-tflops", "inf"),
        ("--processes", "0"),
        ("--gpu-memory", "0"),
        ("--gpu-memory", "nan"),
        ("--tokens-per-second", "0"),
        ("--gpus", "-1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(capsys: Output, option: str, value: str) -> None:
    assert main(["plan", str(TINY_RECIPE), option, value]) == 2
    wanted = "above 0 and at most 1" if option == "--mfu" else "positive and finite"
    option = {"--gpus": "--processes"}.get(option, option)
    assert f"error: {option}: must be {wanted}, got" in capsys.readouterr().err


def test_a_group_of_no_parameter_is_refused_by_the_plan(capsys: Output) -> None:
    group = "optimizer.groups=[{parameters: encoder.embeding.*, lr_multiplier: 0.5}]"
    assert main(["plan", str(TINY_RECIPE), group]) == 2
    error = capsys.readouterr().err
    assert "optimizer.groups.0.parameters" in error
    assert "the nearest is 'encoder.embedding." in error


def test_weights_to_begin_from_are_checked_where_they_are_at_hand(
    capsys: Output, tmp_path: Path
) -> None:
    old = load_recipe(TINY_RECIPE, [], planning=True).first.model
    path = tmp_path / "old.pt"
    save_model(LoadedModel(build_model(old), old, {}, None), path)
    tile = f"init_from={{checkpoint: {path}, method: tile_center}}"
    wider = ("model.hidden_size=48", "model.attention.num_heads=3")
    assert plan(TINY_RECIPE, tile, *wider).beginning_checked
    assert main(["plan", str(TINY_RECIPE), tile, "model.hidden_size=16"]) == 2
    assert "model.hidden_size" in capsys.readouterr().err
    large = plan(LARGE)
    assert large.begins_from == Path("runs/modernbert-base/checkpoints/pretrain.pt")
    assert not large.beginning_checked
    assert main(["plan", str(LARGE)]) == 0
    assert "not checked: whether a run can begin from runs/modernbert" in capsys.readouterr().out
    assert plan(BASE).begins_from is None
    assert main(["plan", str(TINY_RECIPE), f"start_from={path}"]) == 2
    assert f"start_from: {path} holds weights alone" in capsys.readouterr().err


def test_curves_are_what_updates_will_be_set_to() -> None:
    stages = all_stages(load_recipe(BASE, [], planning=True).stages)
    pretrain, extend, decay = (stage_curves(stage) for stage in stages)
    assert pretrain["lr"][0] == 0
    assert pretrain["lr"].max() == 8e-4
    assert set(extend["lr"]) == {3e-4}
    assert set(pretrain["batch_size"]) == {768, 1536, 2304, 3072, 3840, 4608}
    assert np.all(np.diff(pretrain["batch_size"]) >= 0)
    assert set(extend["global theta"]) == {160_000}
    assert decay["lr"][0] == 3e-4
    assert decay["lr"][-1] == pytest.approx(3e-4 * 0.001, rel=0.1)


def test_a_picture_is_drawn(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.png"
    assert main(["plan", str(BASE), "--picture", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert main(["plan", str(TINY_RECIPE), "--picture", str(tmp_path / "plan.doc")]) == 2
    assert "not a kind of picture" in capsys.readouterr().err


def test_a_scheduled_mask_rate_is_drawn(tmp_path: Path) -> None:
    schedule = "mask_rate_schedule={name: trapezoidal, decay: 1dur, decay_shape: linear}"
    loaded = load_recipe(TINY_RECIPE, [schedule], planning=True)
    (stage,) = all_stages(loaded.stages)
    rates = stage_curves(stage)["mask_rate"]
    assert rates == pytest.approx(0.3 * (1 - np.arange(12) / 12))
    assert draw_plan(loaded, tmp_path / "plan.svg").exists()


def test_a_plan_holds_the_whole_resolved_recipe(capsys: Output, tiny: Overrides) -> None:
    planned = plan_json(capsys, str(TINY_RECIPE), *tiny())
    assert planned["recipe"] == load_recipe(TINY_RECIPE, tiny()).resolved
