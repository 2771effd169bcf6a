"""Tiling against its formula in plain loops, one entry after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from flexbert.checkpoint.tiling import layer_sources, plan_tiling, tile
from flexbert.config.init_from import DepthMapping, InitMethod
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.nn.build import Model, build_model
from flexbert.nn.mlp import GLU, GLUConfig
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.projection import Decoder
from tests.checkpoint.tiling_cases import (
    FAMILIES,
    HEAD_DIM,
    Family,
    albert,
    bert,
    grouped_queries,
    modernbert,
    random_state,
)
from tests.nn.cases import attention_config, global_every, packed_batch
from tests.nn.tolerances import assert_same

METHODS: tuple[InitMethod, ...] = get_args(InitMethod)
TILINGS = [method for method in METHODS if method != "copy"]


def seeded_model(config: ModelConfig, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    return build_model(config)


def old_place(i: int, new: int, old: int, unit: int, method: str) -> int | None:
    """Which of ``old`` entries the entry i of ``new`` takes, by the formula."""
    which, inside = divmod(i, unit)
    num, old_num = new // unit, old // unit
    match method:
        case "tile_edge":
            source = which % old_num
        case "tile_center":
            source = (which - (num - old_num) // 2) % old_num
        case "center_random":
            source = which - (num - old_num) // 2
            if not 0 <= source < old_num:
                return None
    return source * unit + inside


def tiled(old: Tensor, initial: Tensor, method: str, rows: int = 1, columns: int = 1) -> Tensor:
    """A matrix, or a vector as a matrix of one column, from units of so many rows and columns."""
    if old.dim() < 2:
        return tiled(old.reshape(-1, 1), initial.reshape(-1, 1), method, rows).view(initial.shape)
    result = initial.clone()
    for r in range(len(initial)):
        row = old_place(r, len(initial), len(old), rows, method)
        for c in range(initial.shape[1]):
            column = old_place(c, initial.shape[1], old.shape[1], columns, method)
            if row is not None and column is not None:
                result[r, c] = old[row, column]
    return result


def split_qkv(fused: Tensor, num_kv_heads: int) -> tuple[Tensor, ...]:
    keys = num_kv_heads * HEAD_DIM
    return fused.split((len(fused) - 2 * keys, keys, keys))


def old_name(name: str, old_layers: int, new_layers: int) -> str:
    parts = name.split(".")
    if parts[1] == "layers":
        parts[2] = str(min(round(int(parts[2]) * old_layers / new_layers), old_layers - 1))
    return ".".join(parts)


@pytest.mark.parametrize("method", TILINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_tiled_by_the_formula(family: Family, method: InitMethod) -> None:
    """What is fused is taken apart by hand; differences of sizes are even and odd."""
    old = family(hidden=8, heads=2, intermediate=6, num_layers=3)
    new = family(hidden=14, heads=5, intermediate=11, num_layers=5)
    group = HEAD_DIM * (2 if family is grouped_queries else 1)
    state, model = random_state(old), seeded_model(new)
    drawn = {name: parameter.clone() for name, parameter in model.named_parameters()}
    notes = tile(model, state, plan_tiling(new, old, method))
    for name, parameter in model.named_parameters():
        before, initial = state[old_name(name, 3, 5)], drawn[name]
        part = model.get_submodule(name.rsplit(".", 2)[0])
        if ".attention.qkv." in name:
            q, k, v = zip(split_qkv(before, 2), split_qkv(initial, 5), strict=True)
            expected = torch.cat(
                (
                    tiled(*q, method, rows=group),
                    tiled(*k, method, rows=HEAD_DIM),
                    tiled(*v, method, rows=HEAD_DIM),
                )
            )
        elif name.endswith(".attention.out.weight"):
            expected = tiled(before, initial, method, columns=group)
        elif isinstance(part, GLU) and ".up." in name:
            halves = zip(before.chunk(2), initial.chunk(2), strict=True)
            expected = torch.cat([tiled(*half, method) for half in halves])
        else:
            expected = tiled(before, initial, method)
        assert torch.equal(parameter, expected), name
    assert bool(notes) == (method == "center_random")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_sizes_give_the_same_model(family: Family, method: InitMethod) -> None:
    state, model = random_state(family()), build_model(family())
    assert tile(model, state, plan_tiling(family(), family(), method)) == []
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state[name]), name


def test_values_outside_the_old_matrix_stay_as_drawn() -> None:
    old, new = modernbert(), modernbert(hidden=14)
    model = seeded_model(new)
    (note,) = tile(model, random_state(old), plan_tiling(new, old, "center_random"))
    drawn = seeded_model(new)
    for name in ("encoder.embedding.tokens.weight", "head.dense.weight"):
        weight, before = model.get_parameter(name), drawn.get_parameter(name)
        assert torch.equal(weight[:, :3], before[:, :3])
        assert torch.equal(weight[:, 11:], before[:, 11:])
    assert (model.encoder.final_norm.weight[[0, 1, 2, 11, 12, 13]] == 1).all()
    same = sum(
        int((p == q).sum()) for p, q in zip(model.parameters(), drawn.parameters(), strict=True)
    )
    total = sum(p.numel() for p in model.parameters())
    assert note == f"initial values stay around the checkpoint's: {same:,} of {total:,}"


@pytest.mark.parametrize("method", ["tile_center", "tile_edge"])
@pytest.mark.parametrize("family", [modernbert, grouped_queries, bert, albert])
def test_twice_the_width_and_half_the_matrices_is_the_same_function(
    family: Family, method: InitMethod
) -> None:
    """Every channel and head stands there twice, so every sum over them is twice as large."""
    untied = replace(family().head, tied=False)  # an embedding is looked up, a decoder sums
    old, new = family(head=untied), family(hidden=16, heads=4, intermediate=12, head=untied)
    state, model = random_state(old), build_model(new)
    tile(model, state, plan_tiling(new, old, method))
    for module in model.modules():
        if isinstance(module, nn.Linear | Decoder):
            module.weight.data /= 2
    small = build_model(old)
    small.load_state_dict(state)
    batch = packed_batch((5, 16, 1))
    assert_same(model.eval()(batch), small.eval()(batch))


def test_a_norm_that_the_old_layer_skips_stays_and_is_noted() -> None:
    old, new = modernbert(num_layers=2), modernbert(num_layers=5)
    state, model = random_state(old), build_model(new)
    (note,) = tile(model, state, plan_tiling(new, old, "tile_center"))
    assert layer_sources(new, old, "scaled") == (0, 0, 1, 1, 1)
    assert note == (
        "initial values stay in encoder.layers.1.attention_norm.weight: the checkpoint's layer has "
        "no such norm"
    )
    first, second, third, *_ = model.encoder.layers
    assert (second.attention_norm.weight == 1).all()
    assert torch.equal(second.attention.qkv.weight, first.attention.qkv.weight)
    assert torch.equal(third.attention_norm.weight, state["encoder.layers.1.attention_norm.weight"])


def test_scaled_depth_from_base_to_large_changes_the_kind_of_12_layers() -> None:
    base, large = modernbert(num_layers=22), modernbert(num_layers=28)
    sources = layer_sources(large, base, "scaled")
    assert sources == tuple(round(i * 22 / 28) for i in range(28))
    assert sum(not same for same in same_kinds(large, base, sources)) == 12
    sources = layer_sources(large, base, "same_kind")
    assert all(same_kinds(large, base, sources))
    assert all(abs(source - i * 22 / 28) <= 1.5 for i, source in enumerate(sources))


def same_kinds(new: ModelConfig, old: ModelConfig, sources: tuple[int, ...]) -> list[bool]:
    plan, old_plan = layer_plan(new), layer_plan(old)
    return [plan[i].attention == old_plan[j].attention for i, j in enumerate(sources)]


@pytest.mark.parametrize(
    ("depth", "old", "new", "sources"),
    [
        ("scaled", 7, 7, (0, 1, 2, 3, 4, 5, 6)),
        ("same_kind", 7, 7, (0, 1, 2, 3, 4, 5, 6)),
        ("scaled", 2, 5, (0, 0, 1, 1, 1)),
        # Halves go to even numbers, and 3.5 would run past the end.
        ("scaled", 4, 8, (0, 0, 1, 2, 2, 2, 3, 3)),
        # Layers 0 and 3 are global; layer 3 stands at 1.5, as near to 0 as to 3.
        ("same_kind", 4, 8, (0, 1, 1, 0, 2, 2, 3, 2)),
    ],
)
def test_old_layers_of_new_ones(
    depth: DepthMapping, old: int, new: int, sources: tuple[int, ...]
) -> None:
    assert layer_sources(modernbert(num_layers=new), modernbert(num_layers=old), depth) == sources


def test_what_has_no_parameters_may_be_another() -> None:
    old = modernbert()
    new = modernbert(
        attention=attention_config(
            num_heads=2,
            head_dim=HEAD_DIM,
            windows=global_every(3, 4),
            output_dropout=0.1,
            rope=None,
            alibi=True,
        ),
        mlp=GLUConfig(intermediate_size=6, activation="silu", dropout=0.1),
        final_norm=LayerNormConfig(eps=1e-6),
    )
    state, model = random_state(old), build_model(new)
    tile(model, state, plan_tiling(new, old, "copy"))
    assert all(torch.equal(p, state[name]) for name, p in model.named_parameters())
