"""What a sweep says is equal is: shown on the batches and weights that training would have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.packing.loader import eval_loader, train_loader
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.nn.build import build_model
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import Stage, all_stages
from flexbert.sweeps.conditions import (
    EVALUATION,
    FLOPS,
    MASKS,
    ORDER,
    PARAMETERS,
    PRECISION,
    TOKENS,
    UPDATES,
    WEIGHTS,
    compare_conditions,
    conditions_of,
    more_or_fewer,
)
from flexbert.sweeps.counts import KnownCorpora
from flexbert.sweeps.initial_weights import shared_weights
from tests.conftest import TINY_RECIPE

ROWS = 30

CHANGES = {
    "activation": ["model.mlp.activation=silu"],
    "learning rate": ["optimizer.lr=3e-3"],
    "precision": ["precision=amp_bf16"],
    "workers": ["data.num_workers=1"],
    "micro-batch": ["batch.microbatch_rows=1"],
    "batch": ["batch.size=12"],
    "longer": ["duration=20ba"],
    "sampler": ["data.sampler={name: shard_blocks}"],
    "max_length": ["data.max_length=32", "batch.size=12"],
    "row_length": ["data.row_length=192"],
    "window": ["data.packing_window=40"],
    "merged": ["data.merge_below=20"],
    "mask rate": ["data.mask_rate=0.15"],
    "mask split": ["data.mask_split={mask: 1.0, random: 0.0, keep: 0.0}"],
    "words": ["data.masking={name: whole_word}"],
    "words everywhere": ["data.masking={name: whole_word}", "evaluation.masking=training"],
    "mask schedule": ["mask_rate_schedule={name: trapezoidal, warmup: 0ba, decay: 12ba}"],
    "evaluation rate": ["evaluation.mask_rate=0.3"],
    "evaluation rows": ["evaluation.rows=3"],
    "seed": ["seed=6"],
}


@pytest.fixture
def recipes(corpus: Path) -> Any:
    def load(*overrides: str) -> LoadedRecipe:
        return load_recipe(TINY_RECIPE, [f"data.path={corpus}", *overrides])

    return load


def findings(own: LoadedRecipe, reference: LoadedRecipe) -> dict[str, str | None]:
    corpora = KnownCorpora()
    conditions = [conditions_of(loaded, corpora) for loaded in (own, reference)]
    return {
        each.condition: each.problem
        for each in compare_conditions(conditions[0], conditions[1], tolerance=0.01)
    }


def sequences(batch: dict[str, Any]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The tokens of each sequence of a micro-batch, unmasked, and what the model sees of them."""
    masked = batch["input_ids"].numpy()
    whole = masked.copy()
    count = batch["num_masked"]
    whole[batch["masked_positions"].numpy()[:count]] = batch["labels"].numpy()[:count]
    for begin, end in itertools.pairwise(batch["cu_seqlens"].tolist()):
        # Replacements may be the token itself: which positions are predicted counts too.
        positions = batch["masked_positions"].numpy()[:count]
        inside = positions[(begin <= positions) & (positions < end)] - begin
        if end > begin:
            yield tuple(whole[begin:end].tolist()), (*masked[begin:end].tolist(), -1, *inside)


def training_rows(loaded: LoadedRecipe) -> tuple[list[Any], list[Any]]:
    """The first rows of a run, unmasked and as they are seen."""
    (stage,) = all_stages(loaded.stages)
    data = stage.recipe.data
    splits = Corpora.open(data).splits("train")
    key = StreamKey(stage.recipe.seed, stage.name)
    stream = training_stream(splits, data, key)
    batches = train_loader(
        stream,
        training_builder(stream, splits, data, key),
        data,
        rows_per_update=stage.batches.rows,
        microbatch_rows=1,
        mask_rate=stage.mask_rate if stage.recipe.mask_rate_schedule else None,
    )
    rows = (list(sequences(row)) for batch in batches for row in batch["microbatches"])
    first = list(itertools.islice(rows, ROWS))
    return [[s[0] for s in row] for row in first], [[s[1] for s in row] for row in first]


def evaluated(loaded: LoadedRecipe) -> list[Any]:
    """All that the run is evaluated on, as it is seen; in which order is no matter."""
    stage: Stage = all_stages(loaded.stages)[-1]
    recipe = stage.recipe
    (split,) = Corpora.open(recipe.data).splits("validation").values()
    batches = eval_loader(
        split,
        recipe.data,
        mask_rate=recipe.evaluation.mask_rate,
        masking=recipe.evaluation.masking_of(recipe.data),
        microbatch_rows=1,
        max_rows=recipe.evaluation.rows_of(1.0),
    )
    found = [s for batch in batches for row in batch["microbatches"] for s in sequences(row)]
    # Padding is a sequence too, of which nothing is predicted.
    return sorted(s for s in found if s[1][-1] != -1)


@pytest.mark.parametrize("name", CHANGES)
def test_order_and_masks_are_called_equal_exactly_where_the_batches_are(
    name: str, recipes: Any
) -> None:
    reference, own = recipes("data.num_workers=0"), recipes("data.num_workers=0", *CHANGES[name])
    rows, seen = training_rows(reference)
    own_rows, own_seen = training_rows(own)
    found = findings(own, reference)
    assert (found[ORDER] is None) == (rows == own_rows), found
    if found[ORDER] is None:
        assert (found[MASKS] is None) == (seen == own_seen), found
    else:
        assert found[MASKS] == ""
    assert (found[EVALUATION] is None) == (evaluated(own) == evaluated(reference)), found


def test_all_of_a_split_is_evaluated_whatever_the_rows_are(recipes: Any) -> None:
    reference, own = (
        recipes("evaluation.rows=null", f"data.row_length={length}") for length in (128, 192)
    )
    assert evaluated(own) == evaluated(reference)
    assert findings(own, reference)[EVALUATION] is None


def test_corpora_are_compared_by_what_they_hold_and_by_their_paths_where_they_are_not_there(
    recipes: Any, corpus: Path, tmp_path: Path
) -> None:
    link = tmp_path / "same"
    link.symlink_to(corpus)
    assert findings(recipes(f"data.path={link}"), recipes())[ORDER] is None
    lost = [recipes(f"data.path={tmp_path / name}") for name in ("lost", "gone")]
    assert findings(lost[0], lost[0])[ORDER] is None
    found = findings(lost[1], lost[0])
    assert found[ORDER] == "another data order (corpus.path)"
    assert found[EVALUATION] == "evaluated on other texts"


MODELS = {
    "activation": ["model.mlp.activation=silu"],
    "final norm": ["model.final_norm={name: rmsnorm}"],
    "bias": ["model.mlp.bias=true", "model.attention.bias=true"],
    "plain mlp": ["model.mlp={name: mlp, intermediate_size: 64}"],
    "plain mlp of as many weights": ["model.mlp={name: mlp, intermediate_size: 72}"],
    "deeper": ["model.num_layers=7"],
    "wider": ["model.hidden_size=60"],
    "vocabulary": ["model.vocab_size=576"],
    "untied": ["model.head.tied=false"],
    "other spread": ["model.init.std=0.03"],
    "normals": ["model.init={name: normal}"],
    "odd": ["model.init={name: normal}", "model.mlp.intermediate_size=45"],
    "mitchell": ["model.init={name: mitchell}"],
}
ODD = ["model.init={name: normal}", "model.vocab_size=513", "model.hidden_size=30"]
ODD += ["model.attention.num_heads=3"]


@pytest.mark.parametrize(
    "base", [[], ["model.init={name: normal}"], ODD], ids=["", "normal", "odd"]
)
@pytest.mark.parametrize("name", MODELS)
def test_weights_are_called_equal_exactly_where_one_seed_draws_the_same(
    name: str, base: list[str], recipes: Any
) -> None:
    models = [recipes(*base, *more).first.model for more in ([], MODELS[name])]
    drawn = []
    for config in models:
        torch.manual_seed(3)
        drawn.append(dict(build_model(config).named_parameters()))
    shared = [
        (weights, drawn[1][name])
        for name, weights in drawn[0].items()
        if name in drawn[1] and drawn[1][name].shape == weights.shape
    ]
    before = torch.get_rng_state()
    found = shared_weights(models[0], models[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert found.count == sum(one.numel() for one, _ in shared)
    assert found.equal == sum(one.numel() for one, two in shared if torch.equal(one, two))


UNEQUAL = {
    "optimizer.lr=3e-3": {},
    "model.mlp.activation=silu": {},
    "batch.size=12": {TOKENS: "2 times as many tokens"},
    "duration=10ba": {TOKENS: "17 percent fewer tokens", UPDATES: "17 percent fewer updates"},
    "precision=amp_bf16": {PRECISION: "precision amp_bf16, not fp32"},
    "data.mask_rate=0.29": {MASKS: "other masks in training (data.mask_rate)"},
    "evaluation.mask_rate=0.3": {EVALUATION: "evaluated with other masks (evaluation.mask_rate)"},
}


@pytest.mark.parametrize("override", UNEQUAL)
def test_what_is_not_equal_and_nothing_else_is_said(override: str, recipes: Any) -> None:
    found = findings(recipes(override), recipes())
    assert {name: problem for name, problem in found.items() if problem} == UNEQUAL[override]


def test_fewer_updates_at_the_same_tokens(recipes: Any) -> None:
    tokens = ["duration=9216tok", "schedule={name: constant}"]
    found = findings(recipes(*tokens, "batch.size=24"), recipes(*tokens))
    assert found[TOKENS] is None
    assert found[UPDATES] == "4 times fewer updates at the same tokens"


def test_counts_are_those_of_the_models(recipes: Any) -> None:
    own, reference = recipes("model.mlp.intermediate_size=64"), recipes()
    found = findings(own, reference)

    def total(loaded: LoadedRecipe, part: str = "") -> int:
        model = build_model(loaded.first.model, device="meta")
        return sum(p.numel() for name, p in model.named_parameters() if name.startswith(part))

    more, in_encoder = (
        100 * (total(own, part) / total(reference, part) - 1) for part in ("", "encoder.layers")
    )
    # The final norm is the encoder's too, and next to nothing.
    assert found[PARAMETERS] == (
        f"{more:.2g} percent more parameters ({in_encoder:.2g} percent more in the encoder)"
    )
    assert found[FLOPS] is not None
    assert found[WEIGHTS] is not None


def test_by_how_much_a_count_is_off_is_said_from_the_tolerance_on() -> None:
    assert more_or_fewer(101, 100, "steps", 0.01) is None
    assert more_or_fewer(102, 100, "steps", 0.01) == "2 percent more steps"
    assert more_or_fewer(98.4, 100, "steps", 0.01) == "1.6 percent fewer steps"
    assert more_or_fewer(100, 100, "steps", 0) is None
    assert more_or_fewer(25, 100, "steps", 0.01) == "4 times fewer steps"
    assert more_or_fewer(256, 100, "steps", 0.01) == "2.56 times as many steps"
    rng = np.random.default_rng(0)
    for own, other in rng.integers(1, 10_000, (200, 2)).tolist():
        is_equal = more_or_fewer(own, other, "steps", 0.01) is None
        assert is_equal == (abs(own / other - 1) <= 0.01)
