"""Widths that are matched are the nearest there are: against models of every width."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, UserError
from flexbert.nn.build import build_model
from flexbert.nn.flops import model_cost
from flexbert.nn.masked_lm import MaskedLM
from flexbert.sweeps.condition_notes import planned_conditions
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from tests.conftest import TINY_RECIPE

KEY = "model.mlp.intermediate_size"
CASES = 8


def written(folder: Path, **tree: Any) -> Sweep:
    path = folder / "matched.yaml"
    overrides = {"data.path": "/some/corpus", **tree.pop("overrides", {})}
    path.write_text(
        yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": overrides, **tree}, sort_keys=False)
    )
    return read_sweep(path)


def matched(folder: Path, **tree: Any) -> list[SweepRun]:
    sweep = written(folder, **tree)
    runs = resolve_runs(sweep, folder / "sweep")
    return [run for run in runs if run.seed == sweep.seeds[0]]


def count(model: ModelConfig, of: str) -> float:
    """Counted on the module itself."""
    built = build_model(model, device="meta")
    assert isinstance(built, MaskedLM)
    if of == "flops":
        return model_cost(built, model).flops_per_token(np.array([64]), 0.3)
    part = built.encoder if of == "encoder_parameters" else built
    of_tokens = sum(p.numel() for p in built.encoder.embedding.parameters())
    whole = sum(p.numel() for p in part.parameters())
    return whole - of_tokens if of == "encoder_parameters" else whole


def widened(model: ModelConfig, width: int) -> ModelConfig:
    mlp: Any = model.mlp
    return dataclasses.replace(model, mlp=dataclasses.replace(mlp, intermediate_size=width))


def cases() -> list[tuple[dict[str, Any], dict[str, Any], str, int]]:
    """Random changes of a random base, what is matched, and the multiple."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(CASES):
        overrides = {
            "model.hidden_size": int(rng.choice([32, 48])),
            "model.num_layers": int(rng.choice([4, 7])),
            KEY: int(rng.integers(60, 120)),
        }
        mlp = {"name": str(rng.choice(["mlp", "glu"])), "bias": bool(rng.choice([True, False]))}
        change: dict[str, Any] = {f"model.mlp.{key}": value for key, value in mlp.items()}
        change["model.mlp.activation"] = "silu"
        if rng.random() < 0.5:
            change["model.attention.bias"] = True
        of = str(rng.choice(["parameters", "encoder_parameters", "flops"]))
        found.append((overrides, change, of, int(rng.choice([1, 2, 8, 16]))))
    return found


@pytest.mark.parametrize("case", range(CASES))
def test_a_matched_width_is_the_nearest_that_the_multiple_allows(case: int, tmp_path: Path) -> None:
    overrides, change, of, multiple = cases()[case]
    base, own = matched(
        tmp_path,
        overrides=overrides,
        list=[{}, change],
        match={"of": of, "multiple": multiple},
        tolerance=0.2,
    )
    wanted = count(base.recipe.first.model, of)
    width = own.matched[KEY]
    model = own.recipe.first.model
    assert model.mlp.intermediate_size == width  # type: ignore[attr-defined]
    off = abs(count(model, of) - wanted)
    assert off <= 0.2 * wanted
    every = {n: abs(count(widened(model, n), of) - wanted) for n in range(multiple, 200, multiple)}
    if width != overrides[KEY]:
        assert width % multiple == 0
        assert off == min(every.values())
    else:
        assert off == 0 or off == min(every.values())
    assert base.matched == {}
    assert own.name != base.name


def test_geglu_and_gelu_are_made_equal_and_the_plan_says_how(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "list": [{}, {"model.mlp.name": "mlp"}],
        "seeds": [1, 2],
        "match": "parameters",
    }
    sweep = written(tmp_path, **tree)
    runs = resolve_runs(sweep, tmp_path / "sweep")
    # Two matrices of 72 have what three of 48 have.
    assert [run.matched for run in runs] == [{}, {}, {KEY: 72}, {KEY: 72}]
    assert planned_conditions(sweep, runs) == [
        f"name=mlp: {KEY} 72, not 48, to match parameters",
        "equal (counts within 1 percent): tokens, updates, FLOPs in all, data order, "
        "training masks, evaluation, initial weights, parameters, FLOPs a token, precision",
    ]


def test_a_wider_model_keeps_the_size_of_its_heads_where_they_are_in_proportion(
    tmp_path: Path,
) -> None:
    base, deep, shallow = matched(
        tmp_path,
        overrides={
            "model.hidden_size": 128,
            "model.attention.num_heads": 8,
            KEY: 192,
            "model.num_layers": 7,
        },
        list=[{}, {"model.num_layers": 13}, {"model.num_layers": 4}],
        match={
            "of": "encoder_parameters",
            "key": "model.hidden_size",
            "multiple": 4,
            "in_proportion": ["model.attention.num_heads", KEY],
        },
        tolerance=0.2,
    )
    wanted = count(base.recipe.first.model, "encoder_parameters")
    for run in (deep, shallow):
        model = run.recipe.first.model
        width = model.hidden_size
        assert (width // model.attention.num_heads, width % 16) == (16, 0)
        assert model.mlp.intermediate_size == width * 3 // 2  # type: ignore[attr-defined]
        off = abs(count(model, "encoder_parameters") - wanted)
        for heads in range(1, 40):
            mlp: Any = model.mlp
            other = dataclasses.replace(
                model,
                hidden_size=16 * heads,
                attention=dataclasses.replace(model.attention, num_heads=heads),
                mlp=dataclasses.replace(mlp, intermediate_size=24 * heads),
            )
            assert abs(count(other, "encoder_parameters") - wanted) >= off
    assert deep.recipe.first.model.hidden_size < 128 < shallow.recipe.first.model.hidden_size


PLAIN = [{}, {"model.mlp.name": "mlp"}]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "count": (
        {"list": PLAIN, "match": "parametres"},
        "match: no count .* did you mean 'parameters'",
    ),
    "unknown": ({"list": PLAIN, "match": {"of": "flops", "multple": 8}}, "did you mean 'multiple'"),
    "no of": ({"list": PLAIN, "match": {"multiple": 8}}, r"match\.of: no count None"),
    "multiple": ({"list": PLAIN, "match": {"of": "flops", "multiple": 0}}, r"match\.multiple"),
    "tolerance": ({"list": PLAIN, "tolerance": 1.5}, "tolerance: expected a share"),
    "no key": (
        {"list": PLAIN, "match": {"of": "flops", "key": "model.mlp.intermediat_size"}},
        "match: unknown key .* did you mean 'model.mlp.intermediate_size'",
    ),
    "no size": (
        {"list": PLAIN, "match": {"of": "flops", "key": "model.mlp.activation"}},
        "match: model.mlp.activation is no size",
    ),
    "set": (
        {"list": [{}, {"model.mlp": {"name": "mlp", "intermediate_size": 64}}], "match": "flops"},
        f"match: point .* sets {KEY} itself",
    ),
    "no width": (
        {"list": PLAIN, "match": {"of": "parameters", "multiple": 64}},
        r"within 1 percent of .* nearest, .*=64, is -\S+ percent off; widths are multiples of 64",
    ),
    "too large": (
        {"list": [{}, {"model.num_layers": 64}], "match": "encoder_parameters"},
        "match: point num_layers=64: no width gives encoder_parameters",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_matched_is_one_line(name: str, tmp_path: Path) -> None:
    tree, said = WRONG[name]
    with pytest.raises((ConfigError, UserError), match=said):
        matched(tmp_path, **tree)
