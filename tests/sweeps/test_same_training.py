"""A key that changes nothing of what is measured is refused before anything trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flexbert.errors import ConfigError
from flexbert.nn.build import build_model
from flexbert.nn.packed_batch import unpad
from flexbert.recipes import load_recipe
from flexbert.sweeps.runs import resolve_runs
from flexbert.sweeps.same_training import same_trainings
from flexbert.sweeps.sweep_file import read_sweep
from tests.conftest import TINY_RECIPE

CORPUS = {"data.path": "/some/corpus"}
CONSTANT: dict[str, Any] = {"name": "constant"}
BASES = "{global: null, local: 10000.0}"
# Of four layers all that the pattern comes to.
LISTED = {"repeat": ["global", 16, 16, "global"]}


def notes_of(folder: Path, **tree: object) -> list[str]:
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": CORPUS, **tree}))
    sweep = read_sweep(path)
    return list(same_trainings(sweep, resolve_runs(sweep, folder / "sweep")))


# Of the tiny recipe; a window has half of its width to each side.
LONGEST = 64
WHOLE = 2 * (LONGEST - 1)
WINDOWS = "model.attention.windows.repeat"
THETA = "model.attention.rope.theta"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "the base's own value": (
        {"list": [{}, {"batch.size": 6}]},
        r"batch\.size: changes nothing: .* the same recipe",
    ),
    "two spellings": (
        {"grid": {"schedule.warmup": ["2ba", "2.0ba"]}},
        r"schedule\.warmup: changes nothing: .* the same recipe",
    ),
    "a schedule with nothing to do": (
        {
            "list": [
                {"schedule": CONSTANT},
                {
                    "schedule": {
                        **{"name": "trapezoidal", "warmup": "0ba"},
                        **{"decay": "0ba", "final_fraction": 0.0},
                    }
                },
            ]
        },
        r"schedule.*: changes nothing: .* train the same, update by update",
    ),
    "a schedule of what is zero": (
        {
            "overrides": {**CORPUS, "optimizer.weight_decay": 0.0},
            "list": [{}, {"weight_decay_schedule": {"name": "cosine"}}],
        },
        r"weight_decay_schedule.*: changes nothing",
    ),
    "windows as a longer list": (
        {"list": [{}, {"model.attention.windows": LISTED}]},
        r"windows.*: changes nothing: .* update by update",
    ),
    "windows that all see whole sequences": (
        {"grid": {WINDOWS: [["global", WHOLE], ["global", 4 * WHOLE]]}},
        r"windows\.repeat: changes nothing of eval_loss: .* since their windows reach over whole",
    ),
    "a wide window with the rotary base of global layers": (
        {
            "list": [
                {WINDOWS: ["global"], THETA: {"global": 1e4, "local": None}},
                {WINDOWS: ["global", WHOLE], THETA: {"global": 1e4, "local": 1e4}},
            ]
        },
        r"windows\.repeat.*: changes nothing of eval_loss",
    ),
    "what is printed": (
        {"grid": {"logging.interval": ["1ba", "2ba"]}},
        r"logging\.interval: changes nothing of eval_loss: .*measure tokens_per_second",
    ),
    "how many are kept": (
        {"grid": {"checkpoints.keep": [1, 2]}, "measure": ["eval_loss", "eval_accuracy"]},
        r"checkpoints\.keep: changes nothing of eval_loss, eval_accuracy",
    ),
    "drawn twice": (
        {"random": {"count": 3, "keys": {"batch.size.choice": [6, 8]}}},
        r"random\.count: .* is drawn twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_nothing_is_refused_by_its_key(tmp_path: Path, name: str) -> None:
    tree, said = REFUSED[name]
    with pytest.raises(ConfigError, match=said):
        notes_of(tmp_path, **tree)


NOTED: dict[str, tuple[dict[str, Any], str]] = {
    "the speed of windows": (
        {"grid": {WINDOWS: [["global", WHOLE], ["global", 4 * WHOLE]]}, "measure": ["mfu"]},
        f"note: {WINDOWS} changes speed and memory, and nothing of the training",
    ),
    "speed": (
        {"grid": {"batch.microbatch_rows": [1, 2, 3]}, "measure": ["eval_loss", "peak_memory"]},
        "note: batch.microbatch_rows changes speed and memory, and nothing of the training",
    ),
    "evaluation": (
        {"grid": {"evaluation.mask_rate": [0.15, 0.3]}},
        "note: evaluation.mask_rate changes what is measured, and nothing of the training",
    ),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_changes_the_measurement_alone_is_noted_once(tmp_path: Path, name: str) -> None:
    tree, note = NOTED[name]
    assert notes_of(tmp_path, **tree) == [note]


DIFFERENT: dict[str, dict[str, Any]] = {
    "corpus": {"overrides": {}, "grid": {"data.path": ["/one", "/other"]}},
    "warmup": {"grid": {"schedule.warmup": ["3ba", "4ba"]}},
    "decay": {"grid": {"schedule.decay_shape": ["linear", "one_minus_sqrt"]}},
    "windows": {"grid": {"model.attention.windows.repeat": [["global", 16], ["global", 16, 16]]}},
    "windows that one sees less of": {
        "grid": {WINDOWS: [["global", WHOLE - 2], ["global", WHOLE]]}
    },
    "a wide window with a rotary base of its own": {
        "list": [
            {WINDOWS: ["global"], THETA: {"global": 1e5, "local": None}},
            {WINDOWS: ["global", WHOLE], THETA: {"global": 1e5, "local": 1e4}},
        ]
    },
    # Of which the learning rate's curve is the same, and weight decay is not.
    "weight decay": {"grid": {"optimizer.weight_decay": [0.0, 0.1]}},
    # Where evaluations decide when a run ends, how often there are some is part of the training.
    "stopping": {
        "overrides": {**CORPUS, "evaluation.early_stopping": {}},
        "grid": {"evaluation.interval": ["2ba", "3ba"]},
    },
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_changes_the_training_is_neither(tmp_path: Path, name: str) -> None:
    assert notes_of(tmp_path, **DIFFERENT[name]) == []


@pytest.mark.parametrize("width", [WHOLE - 2, WHOLE, WHOLE + 2])
def test_windows_are_one_exactly_where_a_model_computes_the_same(
    width: int, tmp_path: Path
) -> None:
    tokens = torch.randint(0, 500, (LONGEST,), generator=torch.Generator().manual_seed(0))
    packed, _ = unpad(tokens[None], torch.ones(1, LONGEST, dtype=torch.long))
    logits = []
    for own in (width, 8 * LONGEST):
        recipe = load_recipe(
            TINY_RECIPE, ["data.path=/a", f"{WINDOWS}=[{own}]", f"{THETA}={BASES}"]
        )
        torch.manual_seed(1)
        model = build_model(recipe.first.model).eval()
        with torch.no_grad():
            logits.append(model(packed))
    is_same = torch.equal(*logits)
    grid = {WINDOWS: [[width], [8 * LONGEST]]}
    overrides = {**CORPUS, f"{THETA}.global": None}
    if is_same:
        with pytest.raises(ConfigError, match="changes nothing"):
            notes_of(tmp_path, overrides=overrides, grid=grid)
    else:
        assert notes_of(tmp_path, overrides=overrides, grid=grid) == []
    assert is_same == (width >= WHOLE)
