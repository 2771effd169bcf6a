"""Linear probes, against scikit-learn's on features that are made one text at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import sklearn.linear_model
import torch

from flexbert.nn.encoder import Encoder
from flexbert.nn.packed_batch import PackedBatch
from flexbert.tasks.fine_tuning import FitStart
from flexbert.tasks.probing import Probed, probe
from flexbert.tasks.suite import ProbeConfig, Task
from flexbert.tasks.task_data import EncodedTask, TaskExamples
from tests.tasks.cases import encoded, one_task, start_of, tiny_model

CPU = torch.device("cpu")
TOLERANCE = 1e-3
L2 = 1e-2


Layers = Literal["last", "first_and_last"]
BOTH: Layers = "first_and_last"


def probed(
    tmp_path: Path,
    kind: str,
    tokenizer: dict[str, str],
    start: FitStart,
    *,
    l2: float = L2,
    layers: Layers = BOTH,
) -> tuple[Task, TaskExamples, EncodedTask, Probed]:
    task = one_task(tmp_path, kind, train=60)
    settings = replace(task.settings, probe=ProbeConfig(l2=(l2,), layers=layers))
    examples, data = encoded(task, start.config, tokenizer)
    found = probe(
        start, data, settings, examples=examples, tokenizer=tokenizer, seed=17, device=CPU
    )
    return task, examples, data, found


def hidden_states(start: FitStart, texts: list[str], layers: Layers = BOTH) -> list[torch.Tensor]:
    """Of each text alone: ``w20 w21`` is ``[CLS] 20 21 [SEP]``."""
    assert start.weights is not None
    encoder = Encoder(start.config)
    own = {k.removeprefix("encoder."): v for k, v in start.weights.items() if k[:8] == "encoder."}
    encoder.load_state_dict(own)
    found = []
    for text in texts:
        tokens = torch.tensor([5, *(int(word[1:]) for word in text.split()), 7])
        packed = PackedBatch(
            tokens=tokens,
            cu_seqlens=torch.tensor([0, len(tokens)], dtype=torch.int32),
            max_seqlen=len(tokens),
            position_ids=torch.arange(len(tokens)),
        )
        with torch.no_grad():
            last = encoder.eval()(packed)
            first = encoder.embedding.norm(encoder.token_matrix[tokens])  # type: ignore[operator]
        found.append(last if layers == "last" else torch.cat([first, last], dim=1))
    return found


def means(start: FitStart, texts: list[str], layers: Layers = BOTH) -> np.ndarray:
    hidden = hidden_states(start, texts, layers)
    return torch.stack([each.mean(0) for each in hidden]).double().numpy()


def scaled(train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre, spread = train.mean(0), train.std(0)
    return (train - centre) / spread, (other - centre) / spread


def probabilities(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().softmax(-1).numpy()


def expected_probabilities(train: np.ndarray, labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of a logistic regression with the same penalty: C is one over the sum of both."""
    train, other = scaled(train, other)
    model = sklearn.linear_model.LogisticRegression(
        C=1 / (L2 * len(labels)), tol=1e-10, max_iter=10_000
    )
    found: np.ndarray = model.fit(train, labels).predict_proba(other)
    return found


@pytest.mark.parametrize("layers", ["last", BOTH])
def test_a_probe_of_classes_is_a_logistic_regression(
    tmp_path: Path, pair_tokenizer: dict[str, str], layers: Layers
) -> None:
    start = start_of(tiny_model())
    _, examples, data, found = probed(
        tmp_path, "classification", pair_tokenizer, start, layers=layers
    )
    texts = [[str(text) for text in examples.splits[n].first] for n in ("train", "validation")]
    train, other = (means(start, own, layers) for own in texts)
    expected = expected_probabilities(train, data.train.labels, other)
    given = probabilities(np.concatenate(found.scores["validation"]))
    np.testing.assert_allclose(given, expected, atol=TOLERANCE)


def test_a_probe_of_words_is_a_logistic_regression(
    tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    start = start_of(tiny_model())
    _, examples, _, found = probed(tmp_path, "token_classification", pair_tokenizer, start)

    def words_of(split: str) -> tuple[np.ndarray, np.ndarray]:
        texts = [" ".join(words) for words in examples.splits[split].first]
        states = [hidden[1:-1] for hidden in hidden_states(start, texts)]
        labels = np.concatenate([np.array(each) for each in examples.splits[split].labels])
        return torch.cat(states).double().numpy(), labels

    train, labels = words_of("train")
    expected = expected_probabilities(train, labels, words_of("validation")[0])
    given = probabilities(np.concatenate(found.scores["validation"]))
    np.testing.assert_allclose(given, expected, atol=TOLERANCE)


def test_a_probe_of_numbers_is_a_ridge_regression_on_both_texts(
    tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    start = start_of(tiny_model())
    _, examples, data, found = probed(tmp_path, "regression", pair_tokenizer, start)

    def of(name: str) -> tuple[np.ndarray, np.ndarray]:
        first, other = (getattr(examples.splits[split], name) for split in ("train", "validation"))
        return scaled(means(start, list(first)), means(start, list(other)))

    both = zip(of("first"), of("second"), strict=True)
    train, other = scaled(*(np.concatenate([u, v, abs(u - v), u * v], axis=1) for u, v in both))
    labels = data.train.labels.astype(np.float64)
    # The mean of squares with l2 / 2 times the weights' squares; the bias is not penalised.
    centred = labels - labels.mean()
    gram = train.T @ train + L2 / 2 * len(labels) * np.eye(train.shape[1])
    weights = np.linalg.solve(gram, train.T @ centred)
    given = np.concatenate(found.scores["validation"])[:, 0]
    np.testing.assert_allclose(given, other @ weights + labels.mean(), atol=TOLERANCE)


def test_the_validation_rows_choose_the_penalty(
    tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    start = start_of(tiny_model())
    values = {}
    for l2 in (1e-4, 10.0):
        *_, data, found = probed(tmp_path, "classification", pair_tokenizer, start, l2=l2)
        values[l2] = data.score("validation", found.scores["validation"], ["accuracy"])["accuracy"]
    task = one_task(tmp_path, "classification", train=60)
    examples, data = encoded(task, start.config, pair_tokenizer)
    settings = replace(task.settings, probe=ProbeConfig(l2=tuple(values)))
    found = probe(
        start, data, settings, examples=examples, tokenizer=pair_tokenizer, seed=17, device=CPU
    )
    assert values[1e-4] != values[10.0], "they are told apart"
    assert found.l2 == max(values, key=values.__getitem__)


@pytest.mark.parametrize("kind", ["classification", "pair", "multiple_choice"])
def test_no_weight_and_no_global_state_changes_and_a_probe_is_repeatable(
    tmp_path: Path, pair_tokenizer: dict[str, str], kind: str
) -> None:
    start = start_of(tiny_model())
    assert start.weights is not None
    before = {name: value.clone() for name, value in start.weights.items()}
    state = torch.get_rng_state()
    first = probed(tmp_path, kind, pair_tokenizer, start)[-1]
    again = probed(tmp_path, kind, pair_tokenizer, start)[-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in start.weights.items())
    for one, other in zip(first.scores["validation"], again.scores["validation"], strict=True):
        assert np.array_equal(one, other)


def test_untrained_weights_are_those_of_the_seed(
    tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    untrained = FitStart(config=tiny_model(), weights=None)
    one = probed(tmp_path, "classification", pair_tokenizer, untrained)[-1]
    same = probed(tmp_path, "classification", pair_tokenizer, start_of(tiny_model(), 17))[-1]
    for a, b in zip(one.scores["validation"], same.scores["validation"], strict=True):
        assert np.array_equal(a, b)
