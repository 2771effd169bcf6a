"""A fit: repeatable to the bit, and nothing outside it changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from flexbert.config.model import ModelConfig
from flexbert.tasks.fine_tuning import Course, FitStart, Fitted, fine_tune
from flexbert.tasks.suite import EarlyStopping, Task
from flexbert.tasks.task_data import EncodedTask
from tests.nn.cases import attention_config
from tests.tasks.cases import encoded, one_task, start_of, tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return one_task(tmp_path_factory.mktemp("rows"), "classification", head_dropout=0.1)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    """With dropout, so that a fit has every kind of chance in it."""
    attention = attention_config(num_heads=2, windows=["global", 8], output_dropout=0.1)
    return tiny_model(attention=attention)


@pytest.fixture(scope="module")
def data(task: Task, config: ModelConfig, pair_tokenizer: dict[str, str]) -> EncodedTask:
    return encoded(task, config, pair_tokenizer)[1]


def fitted(config: ModelConfig, task: Task, data: EncodedTask, **changes: Any) -> Fitted:
    seed = changes.pop("seed", 17)
    start = changes.pop("start", start_of(config))
    settings = replace(task.settings, **changes)
    return fine_tune(start, data, settings, seed=seed, device=CPU)


def same_weights(one: Fitted, other: Fitted) -> bool:
    return all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def test_the_same_fit_is_the_same_to_the_bit_and_another_seed_is_not(
    config: ModelConfig, task: Task, data: EncodedTask
) -> None:
    one, again = fitted(config, task, data), fitted(config, task, data)
    assert same_weights(one, again)
    assert one.evaluations == again.evaluations
    assert not same_weights(one, fitted(config, task, data, seed=18))


def test_an_untrained_start_is_drawn_by_the_seed(
    config: ModelConfig, task: Task, data: EncodedTask
) -> None:
    untrained = FitStart(config=config, weights=None)
    one, again = (fitted(config, task, data, start=untrained) for _ in range(2))
    assert same_weights(one, again)


def test_the_global_random_state_and_the_start_stay_as_they_are(
    config: ModelConfig, task: Task, data: EncodedTask
) -> None:
    start = start_of(config)
    assert start.weights is not None
    before = {name: value.clone() for name, value in start.weights.items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    found = fitted(config, task, data, start=start)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]
    assert all(torch.equal(value, before[name]) for name, value in start.weights.items())
    assert not torch.equal(
        found.weights["encoder.layers.0.mlp.up.weight"], before["encoder.layers.0.mlp.up.weight"]
    )


def test_micro_batches_add_up_to_the_batch(task: Task, data: EncodedTask) -> None:
    config = tiny_model()
    whole = fitted(config, task, data, head_dropout=0.0)
    parts = fitted(config, task, data, head_dropout=0.0, microbatch_tokens=48)
    for name, value in whole.weights.items():
        torch.testing.assert_close(value, parts.weights[name], rtol=1e-3, atol=1e-4)


def test_the_best_evaluation_is_kept_and_patience_ends_a_fit(
    config: ModelConfig, task: Task, data: EncodedTask
) -> None:
    patience = EarlyStopping(patience=2, evaluations_per_epoch=2)
    found = fitted(config, task, data, epochs=30, early_stopping=patience)
    values = [each.metrics["accuracy"] for each in found.evaluations]
    best = values.index(max(values))
    assert found.best == found.evaluations[best]
    assert len(values) == best + 1 + 2
    assert found.epochs_run < 30
    assert data.score("validation", found.scores, ["accuracy"])["accuracy"] == values[best]


def test_a_fit_that_diverges_ends_and_says_so(
    config: ModelConfig, task: Task, data: EncodedTask
) -> None:
    optimizer = replace(task.settings.optimizer, lr=1e30)
    found = fitted(
        config, task, data, optimizer=optimizer, epochs=4, early_stopping=EarlyStopping()
    )
    assert found.diverged
    assert found.epochs_run < 4


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("epochs", [1, 3])
def test_an_epoch_takes_every_example_once_in_an_order_of_its_own(
    examples: int, epochs: int
) -> None:
    per_epoch = -(-examples // 8)
    course = Course(
        examples=examples,
        batch_size=8,
        updates=per_epoch * epochs,
        evaluations_per_epoch=1,
        seed=17,
    )
    batches = list(course.batches())
    assert len(batches) == course.updates
    orders = np.concatenate(batches).reshape(epochs, examples)
    assert (np.sort(orders) == np.arange(examples)).all()
    if examples > 8 and epochs > 1:
        assert len({tuple(order) for order in orders}) == epochs
    assert course.evaluated == {per_epoch * (epoch + 1) for epoch in range(epochs)}
