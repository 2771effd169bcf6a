"""A fit follows the losses of transformers, whose batches are padded, on every kind of task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from benchmarks.fine_tuning_peers import HAS_TRAINER, Collate, Feature, Peer
from flexbert.config.model import ModelConfig
from flexbert.config.training import IGNORE
from flexbert.huggingface.export import export_checkpoint
from flexbert.pretrained.load_model import LoadedModel, save_model
from flexbert.tasks.fine_tuning import FitStart, course_of, fine_tune, new_start
from flexbert.tasks.suite import Task
from flexbert.tasks.task_data import EncodedTask
from tests.tasks.cases import (
    MAX_LENGTH,
    encoded,
    one_task,
    rows_of,
    start_of,
    tiny_model,
    write_jsonl,
)

SEED = 17
EXAMPLES = 132  # in batches of 8 the last one of an epoch has 4: 17 updates, 51 in three epochs
TOLERANCE = 1e-4
HYPERPARAMETERS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01, "warmup": 5}
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
    "schedule": {"name": "trapezoidal", "warmup": "5ba", "decay": "46ba", "decay_shape": "linear"},
}
CLASSES = {
    "classification": transformers.AutoModelForSequenceClassification,
    "pair": transformers.AutoModelForSequenceClassification,
    "regression": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "multiple_choice": transformers.AutoModelForMultipleChoice,
    "question_answering": transformers.AutoModelForQuestionAnswering,
}


def exported(
    start: FitStart, task: Task, data: EncodedTask, tokenizer: Mapping[str, str], folder: Path
) -> Path:
    """The model that a fit begins with, its new head included, as a folder of transformers."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        config, model = new_start(start, task.settings, data)
    loaded = LoadedModel(model, config, tokenizer, MAX_LENGTH)  # type: ignore[arg-type]
    save_model(loaded, folder / "start.pt")
    export_checkpoint(folder / "start.pt", folder / "start")
    return folder / "start"


def features_of(kind: str, folder: Path, tokenizer: Any) -> list[Feature]:
    """The training rows as transformers' examples of fine-tuning make features of them."""
    rows = [json.loads(line) for line in (folder / f"{kind}-train.jsonl").read_text().splitlines()]
    features: list[Feature] = []
    for row in rows:
        if kind == "token_classification":
            made = tokenizer(row["tokens"], is_split_into_words=True)
            names = ["B-X", "B-Y", "O"]
            labels, seen = [], set()
            for word in made.word_ids():
                is_first = word is not None and word not in seen
                labels.append(names.index(row["labels"][word]) if is_first else IGNORE)
                seen.add(word)
            features.append({**made, "labels": labels})
        elif kind == "multiple_choice":
            choices = row["choices"]
            made = tokenizer([row["text"]] * len(choices), choices)
            features.append({**made, "label": row["label"]})
        elif kind == "question_answering":
            made = tokenizer(row["question"], row["context"])
            (start,) = row["answers"]["answer_start"]
            place = made.char_to_token(start, sequence_index=1)
            features.append({**made, "start_positions": place, "end_positions": place})
        else:
            made = tokenizer(*[row[name] for name in ("text", "other") if name in row])
            label = row["label"]
            is_number = isinstance(label, float)
            made["label"] = label if is_number else ["low", "mid", "top"].index(label)
            features.append(dict(made))
    return features


def collator(kind: str, tokenizer: Any) -> Collate:
    if kind == "token_classification":
        return transformers.DataCollatorForTokenClassification(tokenizer)
    if kind == "multiple_choice":
        return transformers.DataCollatorForMultipleChoice(tokenizer)
    return transformers.DataCollatorWithPadding(tokenizer)


def both(
    tmp_path: Path, kind: str, config: ModelConfig, tokenizer: Mapping[str, str], trainer: bool
) -> tuple[list[float], list[float]]:
    """Losses of ours and of theirs."""
    task = one_task(tmp_path, kind, train=EXAMPLES, **SETTINGS)
    if kind == "multiple_choice":
        # Theirs takes as many choices of every example.
        rows = [row for row in rows_of(kind, 2 * EXAMPLES) if len(row["choices"]) == 3]
        write_jsonl(tmp_path / f"{kind}-train.jsonl", rows)
    if kind == "question_answering":
        # Theirs takes padding for places where an answer might be.
        rows = [row for row in rows_of(kind, 24 * EXAMPLES) if len(row["context"].split()) == 16]
        write_jsonl(tmp_path / f"{kind}-train.jsonl", rows[:EXAMPLES])
    _, data = encoded(task, config, tokenizer)
    start = start_of(config)
    ours: list[float] = []
    fine_tune(start, data, task.settings, seed=SEED, device=torch.device("cpu"), losses=ours)

    folder = exported(start, task, data, tokenizer, tmp_path)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = CLASSES[kind].from_pretrained(folder, attn_implementation="sdpa")
    batches = course_of(task.settings, len(data.train), SEED).batches()
    order: list[int] = np.concatenate(list(batches)).tolist()
    peer = Peer(
        model=model,
        features=features_of(kind, tmp_path, their_tokenizer),
        collate=collator(kind, their_tokenizer),
        orders=[order[i : i + EXAMPLES] for i in range(0, len(order), EXAMPLES)],
        batch_size=8,
        **HYPERPARAMETERS,
    )
    cpu = torch.device("cpu")
    return ours, peer.by_trainer(tmp_path / "out", cpu) if trainer else peer.by_hand(cpu)


@pytest.mark.parametrize(
    "trainer",
    [
        pytest.param(
            True,
            marks=pytest.mark.skipif(not HAS_TRAINER, reason="transformers' Trainer: accelerate"),
            id="trainer",
        ),
        pytest.param(False, id="by-hand"),
    ],
)
@pytest.mark.parametrize("kind", CLASSES)
def test_a_fit_follows_the_losses_of_transformers(
    tmp_path: Path, pair_tokenizer: dict[str, str], kind: str, trainer: bool
) -> None:
    ours, theirs = both(tmp_path, kind, tiny_model(), pair_tokenizer, trainer)
    assert len(ours) == len(theirs) == 51
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    assert abs(ours[-1] - ours[0]) > 100 * TOLERANCE, "something was learned"
