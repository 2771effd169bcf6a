"""Remarks of a plan: each where it should be, and none on what is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flexbert.commands import main
from flexbert.data.format.corpus_format import CorpusMeta
from flexbert.plan import make_plan
from flexbert.plan.remarks import clock_text, cpu_remarks
from flexbert.plan.stage_cost import Hardware
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import all_stages
from tests.conftest import REPOSITORY, TINY_RECIPE, Overrides, completed

BASE = REPOSITORY / "yamls" / "base.yaml"


def remarks(
    recipe: Path, *overrides: str, processes: int = 1, hardware: Hardware | None = None
) -> list[str]:
    loaded = load_recipe(recipe, overrides, planning=True)
    return list(make_plan(loaded, processes, hardware).remarks)


def the_remark(recipe: Path, *overrides: str, processes: int = 1) -> str:
    (only,) = remarks(recipe, *overrides, processes=processes)
    return only


@pytest.fixture
def whole(tiny: Overrides) -> Overrides:
    """The tiny recipe, whose batch is odd for other tests, with one of whole micro-batches."""
    return lambda *more: tiny("batch.size=8", *more)


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize("name", ["adapt", "base", "large", "quickstart"])
def test_a_shipped_recipe_has_none(
    name: str, processes: int, tiny: Overrides, trained: Path
) -> None:
    recipe = REPOSITORY / "yamls" / f"{name}.yaml"
    # The quickstart names its corpus, which is made for it. Its batch of 2 rows is for 2 processes.
    few = [*tiny("evaluation.rows=4", "model.vocab_size=512", "duration=20000tok")]
    given = [*few, "batch.size=64"] if name == "quickstart" else completed(recipe, trained)
    assert remarks(recipe, *given, processes=processes) == []


def test_a_corpus_that_fits_its_recipe_has_none(whole: Overrides) -> None:
    assert remarks(TINY_RECIPE, *whole()) == []


def test_positions_that_no_export_has_are_remarked_with_the_way_out(
    capsys: pytest.CaptureFixture[str], whole: Overrides, corpus: Path
) -> None:
    """RoBERTa counts positions from the pad id, which is 1 in its own tokenizer alone."""
    pad = CorpusMeta.read(corpus).special_ids.pad
    roberta = TINY_RECIPE.parent / "tiny_run.yaml"
    shrunk = (
        "model.vocab_size=512",
        "model.hidden_size=32",
        "model.num_layers=2",
        "model.attention.num_heads=2",
        "model.mlp.intermediate_size=48",
    )
    recipe = corpus.parent / "roberta.yaml"
    recipe.write_text(f"include: [{REPOSITORY}/yamls/models/roberta-base.yaml, {roberta}]\n")
    found = the_remark(recipe, *whole(), *shrunk)
    assert "cannot be exported to Hugging Face" in found
    assert f"the corpus's pad id is {pad}" in found
    assert f"set model.embedding.positions.offset={pad + 1}" in found
    assert remarks(recipe, *whole(), *shrunk, f"model.embedding.positions.offset={pad + 1}") == []
    # Any pad id may come with a corpus that is not there yet.
    assert remarks(recipe, "batch.size=8", *shrunk) == []
    assert main(["plan", str(recipe), *whole(), *shrunk]) == 0
    assert f"\nremark: {found}\n" in capsys.readouterr().out
    assert main(["plan", str(recipe), *whole(), *shrunk, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == [found]


def test_a_block_that_no_architecture_has_is_remarked() -> None:
    found = the_remark(BASE, "model.block.norm={name: rmsnorm}")
    assert "no Hugging Face architecture" in found
    assert "load its checkpoints with flexbert.load_model" in found


def test_an_evaluation_larger_than_its_split_is_remarked(whole: Overrides, corpus: Path) -> None:
    split = CorpusMeta.read(corpus).splits["validation"]
    tokens = split.tokens + 2 * split.documents
    length = load_recipe(TINY_RECIPE, whole()).first.data.row_length
    assert remarks(TINY_RECIPE, *whole(f"evaluation.rows={tokens // length}")) == []
    found = the_remark(TINY_RECIPE, *whole(f"evaluation.rows={2 * tokens // length}"))
    assert f"the validation split of {tokens:,} tokens" in found
    assert remarks(TINY_RECIPE, *whole("evaluation.rows=null")) == []


def test_a_vocabulary_far_larger_than_the_tokenizers_is_remarked(whole: Overrides) -> None:
    assert remarks(TINY_RECIPE, *whole("model.vocab_size=640")) == []
    found = the_remark(TINY_RECIPE, *whole("model.vocab_size=50368"))
    assert "model.vocab_size: 50,368 are far more than the 512" in found
    assert "512 would do" in found


@pytest.mark.slow
def test_checkpoints_that_no_average_can_choose_from_are_remarked() -> None:
    decay = "stages.decay"
    assert remarks(BASE, f"{decay}.evaluation.interval=250ba") == []
    assert remarks(BASE, f"{decay}.evaluation.interval=750ba") == []  # they meet at 1,500
    found = the_remark(BASE, f"{decay}={{duration: 8000ba, evaluation.interval: 7901ba}}")
    assert "flexbert average --best finds no evaluated checkpoint" in found
    few = f"{decay}={{duration: 8000ba, evaluation.interval: 7901ba, checkpoints.keep: 2}}"
    assert remarks(BASE, few) == []
    best = few.replace("checkpoints.keep: 2", "checkpoints: {keep: 2, keep_best: {count: 1}}")
    assert "checkpoints.keep_best finds no evaluated checkpoint" in the_remark(BASE, best)


def test_more_patience_than_evaluations_is_remarked() -> None:
    stage = "stages.decay={duration: 8000ba, evaluation: {interval: 1000ba, early_stopping: %s}}"
    assert remarks(BASE, stage % "{patience: 6}") == []
    assert remarks(BASE, stage % "{patience: 7, restore: best}") == []
    found = the_remark(BASE, stage % "{patience: 7}")
    assert "of stage decay can change nothing: with 8 evaluations and a patience of 7" in found


def test_an_average_of_more_updates_than_there_are_is_remarked(whole: Overrides) -> None:
    assert remarks(TINY_RECIPE, *whole("moving_average={decay: 0.8}")) == []
    found = the_remark(TINY_RECIPE, *whole("moving_average={decay: 0.9999}"))
    assert "averages over about 10,000 updates, and the run has 12" in found


def test_many_epochs_are_remarked(whole: Overrides) -> None:
    found = the_remark(TINY_RECIPE, *whole("duration=30000ba"))
    assert "times over" in found


def test_rows_that_do_not_divide_are_remarked_with_sizes_that_do() -> None:
    """576 rows of base on 400 processes are 2 for each, or 800."""
    found = remarks(BASE, processes=400)
    assert len(found) == 3  # one a stage
    assert "576 rows are not whole micro-batches" in found[0]
    sizes = found[0].rpartition("batch.size ")[2].removesuffix(" leaves none").split(" or ")
    for size in sizes:
        stage = f"stages.pretrain.batch={{size: {size.replace(',', '')}, warmup: null}}"
        assert not any("stage pretrain" in one for one in remarks(BASE, stage, processes=400))


def test_years_are_remarked_and_months_on_a_cpu() -> None:
    slow = Hardware(peak_tflops=10)
    (found,) = remarks(BASE, hardware=slow)
    assert found.startswith("the run would take ")
    assert "years on these GPUs" in found
    assert remarks(BASE, hardware=Hardware()) == []
    (on_cpu,) = remarks(BASE, hardware=Hardware(device="cpu", peak_tflops=500))
    assert "days on a CPU" in on_cpu


def test_a_run_on_this_cpu_is_remarked_where_it_takes_months() -> None:
    base = all_stages(load_recipe(BASE, [], planning=True).stages)
    tiny = all_stages(load_recipe(TINY_RECIPE, [], planning=True).stages)
    assert "on a CPU" in "".join(cpu_remarks(base, 1))
    assert cpu_remarks(tiny, 1) == []


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.01, "under 2 minutes"),
        (0.5, "30 minutes"),
        (2.5, "2.5 hours"),
        (47, "47 hours"),
        (48, "2.0 days"),
        (24 * 365 * 20, "20 years"),
    ],
)
def test_times_are_in_the_unit_that_leaves_few_digits(hours: float, text: str) -> None:
    assert clock_text(hours) == text
