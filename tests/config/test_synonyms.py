"""Names of other frameworks lead to ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

from flexbert.components import register_all
from flexbert.config import synonyms
from flexbert.config.backend_choice import AUTO
from flexbert.config.fields import declared, type_hints
from flexbert.config.keys import places
from flexbert.config.recipe import Recipe
from flexbert.config.registry import families, members
from flexbert.errors import ConfigError
from flexbert.nn.attention_backends import BACKENDS
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY, TINY_RECIPE

register_all()
KEYS = {
    f"{path}.{name}" if path else name for path, cls in places(Recipe) for name in declared(cls)
}


def values() -> Iterator[str]:
    """Every name and value that a recipe can choose from."""
    yield from (name for family in families() for name in members(family))
    yield from (AUTO, *BACKENDS)
    for _, cls in places(Recipe):
        for field in dataclasses.fields(cls):
            own = declared(cls)[field.name]
            yield from own.one_of if own is not None else ()
            yield from options(type_hints(cls)[field.name])


def options(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    else:
        for inside in get_args(hint):
            yield from options(inside)


def test_every_hint_leads_to_something_that_is_there() -> None:
    named = set(KEYS)
    for keys in synonyms.KEYS_OF.values():
        assert set(keys) <= named
    chosen = {*values(), "global", "local"}
    for names in synonyms.NAMES_OF.values():
        assert set(names) <= chosen, names


def test_no_key_of_ours_is_called_anothers_synonym_in_its_own_node() -> None:
    for other, keys in synonyms.KEYS_OF.items():
        for key in keys:
            node, _, leaf = key.rpartition(".")
            assert other == leaf or (f"{node}.{other}" if node else other) not in KEYS


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("optimizer.learning_rate=1e-3", "optimizer.lr"),
        ("lr=1e-3", "optimizer.lr"),
        ("stages.pretrain.learning_rate=1e-3", "optimizer.lr"),
        ("model.num_heads=4", "model.attention.num_heads"),
        ("model.num_hidden_layers=4", "model.num_layers"),
        ("model.attention.n_heads=4", "model.attention.num_heads"),
        ("model.rope_theta=4", "model.attention.rope.theta"),
        ("model.theta=4", "model.attention.rope.theta"),
        ("global_train_batch_size=4", "batch.size"),
        ("device_train_microbatch_size=4", "batch.microbatch_rows"),
        ("optimizer.max_grad_norm=1", "optimizer.clip_norm"),
        ("mlm_probability=0.3", "data.mask_rate"),
        ("save_interval=1ba", "checkpoints.interval"),
        ("model.layers.0.attention={name: multi_head, n_heads: 2}", "layers.0.attention.num_heads"),
        ("model.mlp.activation=swish", "'silu'"),
        ("model.mlp.activation=GELU-new", "'gelu_tanh'"),
        ("model.mlp.name=swiglu", "'glu'"),
        ("model.attention.backend=flash_attention_2", "'flash_attn_2'"),
        ("model.final_norm.name=layer_norm", "'layernorm'"),
        ("optimizer.name=adam", "'adamw'"),
        ("schedule.name=wsd", "'trapezoidal'"),
        ("precision=bf16", "'amp_bf16'"),
    ],
)
def test_a_synonym_leads_to_the_key_or_name_that_was_meant(given: str, meant: str) -> None:
    recipe = TINY_RECIPE
    if given.startswith("stages."):
        recipe = REPOSITORY / "yamls" / "base.yaml"
    with pytest.raises(ConfigError) as error:
        load_recipe(recipe, [given, "data.path=corpus"])
    assert f"did you mean {meant}" in str(error.value).replace("model.layers", "layers")


def test_what_was_only_mistyped_gets_the_nearest_of_its_node() -> None:
    with pytest.raises(ConfigError, match=r"data\.max_lenght: unknown key; did you mean 'max_len"):
        load_recipe(TINY_RECIPE, ["data.max_lenght=3"])
