"""Small tasks, models and suites for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.huggingface.tokenizer import of_older_transformers
from flexbert.nn.build import build_model
from flexbert.nn.init import MegatronInitConfig
from flexbert.tasks.fine_tuning import FitStart
from flexbert.tasks.suite import Task, load_suite
from flexbert.tasks.task_data import EncodedTask, TaskExamples, encode_task, read_task
from tests.huggingface.cases import SPECIAL
from tests.nn.cases import VOCAB_SIZE, attention_config, small_model

WORDS = [f"w{index}" for index in range(10, VOCAB_SIZE)]
MAX_LENGTH = 48
# Without early stopping, warmup and bfloat16: what tests compare is exact.
PLAIN: dict[str, Any] = {
    "max_length": MAX_LENGTH,
    "batch_size": 8,
    "epochs": 2,
    "precision": "fp32",
    "early_stopping": None,
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
    "schedule": {
        "name": "trapezoidal",
        "warmup": "0.1dur",
        "decay": "0.9dur",
        "decay_shape": "linear",
    },
}
KINDS: dict[str, dict[str, Any]] = {
    "classification": {"name": "classification"},
    "pair": {"name": "classification", "pair": "other"},
    "regression": {"name": "regression", "pair": "other"},
    "token_classification": {"name": "token_classification"},
    "multiple_choice": {"name": "multiple_choice"},
    "question_answering": {"name": "question_answering", "stride": 4},
}
METRICS = {"regression": ["spearman", "pearson"], "question_answering": ["f1", "exact_match"]}
# The answer is the word behind it.
MARK = "w10"


def word_pair_tokenizer(folder: Path) -> dict[str, str]:
    """A word for every token of the small models, with a template for pairs and their types."""
    words = {f"w{index}": index for index in range(VOCAB_SIZE)}
    by_id = {index: word for word, index in words.items()} | {v: k for k, v in SPECIAL.items()}
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in by_id.items()}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 5), ("[SEP]", 7)],
    )
    roles = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **roles
    ).save_pretrained(folder)
    texts = {path.name: path.read_text() for path in sorted(folder.iterdir())}
    return of_older_transformers(texts)


def tiny_model(**changes: Any) -> ModelConfig:
    """A ModernBERT that learns within some updates."""
    fields = {
        "num_layers": 2,
        "attention": attention_config(num_heads=2, windows=["global", 8]),
        "init": MegatronInitConfig(std=0.1),
    }
    return small_model(**fields | changes)


def write_tiny(path: Path, tokenizer: Mapping[str, str], seed: int = 0, **changes: Any) -> Path:
    """A checkpoint of the tiny model."""
    config = tiny_model(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = build_model(config).state_dict()
    recipe: dict[str, Any] = {"model": encode(config), "data": {"max_length": MAX_LENGTH}}
    write_checkpoint(path, Checkpoint(recipe=recipe, tokenizer=dict(tokenizer), model=weights))
    return path


def rows_of(kind: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a task that can be learned: what they are of stands in their first words."""
    draw = np.random.default_rng(seed)

    def text(first: str, longest: int = 18) -> str:
        return " ".join([first, *draw.choice(WORDS, size=draw.integers(1, longest))])

    rows: list[dict[str, Any]] = []
    for number in range(count):
        label = int(draw.integers(3))
        row: dict[str, Any] = {"text": text(f"w{20 + label}")}
        if kind in ("pair", "regression"):
            row["other"] = text(f"w{30 + label}")
        if kind == "regression":
            row["label"] = label + round(float(draw.random()), 3)
        elif kind == "token_classification":
            words = list(draw.choice(WORDS, size=draw.integers(1, 20)))
            row = {"tokens": words, "labels": [("O", "B-X", "B-Y")[int(w[1:]) % 3] for w in words]}
        elif kind == "question_answering":
            row = _question(draw)
        elif kind == "multiple_choice":
            choices = [text(f"w{40 + (label + i) % 3}", 8) for i in range(2 + number % 2)]
            row |= {"choices": choices, "label": min(label, len(choices) - 1)}
        else:
            row["label"] = ("low", "mid", "top")[label]
        rows.append(row)
    return rows


def _question(draw: np.random.Generator) -> dict[str, Any]:
    """As SQuAD's: the answer is one word."""
    before, after = (list(draw.choice(WORDS[1:], size=draw.integers(1, 14))) for _ in range(2))
    answer = str(draw.choice(WORDS[1:]))
    start = len(" ".join([*before, MARK])) + 1
    return {
        "question": str(draw.choice(WORDS[1:])),
        "context": " ".join([*before, MARK, answer, *after]),
        "answers": {"text": [answer], "answer_start": [start]},
    }


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_suite(folder: Path, tasks: Mapping[str, Any], **defaults: Any) -> Path:
    """A suite of tasks whose nodes win over :data:`PLAIN` and these defaults."""
    path = folder / "suite.yaml"
    tree = {"suite": "test", "defaults": {**PLAIN, **defaults}, "tasks": tasks}
    path.write_text(yaml.safe_dump(tree))
    return path


def task_node(folder: Path, kind: str, train: int = 40, validation: int = 24) -> dict[str, Any]:
    """A task of a kind with rows of its own."""
    splits = {
        split: str(write_jsonl(folder / f"{kind}-{split}.jsonl", rows_of(kind, count, seed)))
        for seed, (split, count) in enumerate({"train": train, "validation": validation}.items())
    }
    return {"data": splits, "kind": KINDS[kind], "metrics": METRICS.get(kind, ["accuracy"])}


def one_task(folder: Path, kind: str, *, train: int = 40, **settings: Any) -> Task:
    """A suite's only task."""
    node = {**task_node(folder, kind, train=train), **settings}
    return load_suite(write_suite(folder, {"task": node})).tasks["task"]


def encoded(
    task: Task, config: ModelConfig, tokenizer: Mapping[str, str]
) -> tuple[TaskExamples, EncodedTask]:
    """A task's examples, and the same in a model's tokens."""
    examples = read_task(task)
    return examples, encode_task(examples, config, tokenizer, task.settings.max_length, "model")


def start_of(config: ModelConfig, seed: int = 0) -> FitStart:
    """A trained model's stand-in."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FitStart(config=config, weights=build_model(config).state_dict())
