"""How fast is fine-tuning, against transformers' Trainer on batches padded to their longest?

The same ModernBERT-shaped model with a new head of three classes, the same examples, the same
batches, AdamW: ours lays the examples of a batch end to end, theirs are padded by
``DataCollatorWithPadding`` (sdpa attention, otherwise the Trainer's defaults; nothing is saved,
logged or evaluated). The Trainer's loop written by hand stands next to it: what it needs for itself
is no part of that. All take turns, in another order each round, and are timed from the first
update's preparation to the last update; tables show medians of rounds.

Texts have 40 tokens on average (log-normal, sigma 0.5), or mixed lengths of 8 to 512 (median 64,
sigma 1).

    python -m benchmarks.fine_tuning [--smoke] [--precision fp32|amp_bf16] [--batch N] [--updates N]
        [--rounds N] [--layers N] [--hidden N] [--device NAME] [--threads N] [--profile]
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models

from benchmarks.fine_tuning_peers import HAS_TRAINER, Peer
from benchmarks.measuring import (
    median_seconds,
    print_environment,
    print_header,
    print_row,
    this_device,
)
from benchmarks.profiles import print_profile
from flexbert.components import register_all
from flexbert.config.duration import Duration
from flexbert.errors import run_command
from flexbert.huggingface.importing import read_folder
from flexbert.huggingface.quiet import quiet_transformers
from flexbert.optim.adamw import AdamW
from flexbert.schedule.schedules import Trapezoidal
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.fine_tuning import FitStart, course_of, fine_tune
from flexbert.tasks.kinds.text_classification import Classification
from flexbert.tasks.suite import TaskConfig, TaskData
from flexbert.tasks.task_data import TRAIN, VALIDATION, EncodedTask

NAMES = ("first", "second", "third")
VOCAB_SIZE = 8192
CLS, SEP, PAD = VOCAB_SIZE - 4, VOCAB_SIZE - 3, VOCAB_SIZE - 2
SEED = 17
OURS, TRAINER, BY_HAND = "flexbert", "transformers' Trainer", "its loop by hand"
# Median and sigma of log-normal lengths, and the shortest and longest.
LENGTHS = {
    "40 on average": (40 * math.exp(-0.125), 0.5, 4, 512),
    "8 to 512": (64.0, 1.0, 8, 512),
}


def lengths_of(name: str, count: int) -> np.ndarray:
    median, sigma, least, most = LENGTHS[name]
    drawn = np.random.default_rng(SEED).lognormal(math.log(median), sigma, count)
    return np.clip(drawn.round(), least, most).astype(np.int64)


def split_of(lengths: np.ndarray) -> EncodedSplit:
    """Random tokens in texts of these lengths, special tokens included."""
    draw = np.random.default_rng(SEED)
    borders = np.concatenate([[0], lengths.cumsum()])
    tokens = draw.integers(CLS, size=borders[-1], dtype=np.int32)
    tokens[borders[:-1]], tokens[borders[1:] - 1] = CLS, SEP
    return EncodedSplit(
        tokens=tokens,
        borders=borders,
        token_types=None,
        labels=draw.integers(len(NAMES), size=len(lengths)),
        sequences=None,
        cut=0,
        labels_of="examples",
    )


def their_config(layers: int, hidden: int) -> Any:
    return transformers.ModernBertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=hidden * 3 // 2,
        cls_token_id=CLS,
        sep_token_id=SEP,
        pad_token_id=PAD,
        bos_token_id=CLS,
        eos_token_id=SEP,
        num_labels=len(NAMES),
        classifier_pooling="mean",
        reference_compile=False,
        attn_implementation="sdpa",
    )


def settings_of(arguments: argparse.Namespace) -> TaskConfig:
    return TaskConfig(
        data=TaskData(train="random"),
        kind=Classification(),
        metrics=("accuracy",),
        batch_size=arguments.batch,
        epochs=1,
        early_stopping=None,
        optimizer=AdamW(lr=5e-5, weight_decay=0.01),
        schedule=Trapezoidal(
            warmup=Duration.parse("0dur"), decay=Duration.parse("1dur"), decay_shape="linear"
        ),
        precision=arguments.precision,
    )


def ways(
    name: str, arguments: argparse.Namespace, device: torch.device, folder: Path
) -> tuple[np.ndarray, np.ndarray, dict[str, Callable[[], object]]]:
    """Lengths of the examples, their order, and all ways to go through them once."""
    transformers.ModernBertForSequenceClassification(
        their_config(arguments.layers, arguments.hidden)
    ).save_pretrained(folder)
    read = read_folder(folder)
    start = FitStart(config=read.config, weights=read.state)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    settings = settings_of(arguments)
    train = split_of(lengths_of(name, arguments.batch * arguments.updates))
    few = split_of(train.lengths[:2])
    task = EncodedTask(kind=settings.kind, names=NAMES, splits={TRAIN: train, VALIDATION: few})
    order = np.concatenate(list(course_of(settings, len(train), SEED).batches()))
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": PAD}, unk_token="[PAD]")),
        pad_token="[PAD]",
    )
    texts = np.split(train.tokens.astype(np.int64), train.borders[1:-1])
    features = [
        {"input_ids": text.tolist(), "attention_mask": [1] * len(text), "labels": int(label)}
        for text, label in zip(texts, train.labels, strict=True)
    ]

    def peer() -> Peer:
        return Peer(
            model=copy.deepcopy(theirs),
            features=features,
            collate=transformers.DataCollatorWithPadding(words),
            orders=[order.tolist()],
            batch_size=arguments.batch,
            lr=5e-5,
            weight_decay=0.01,
            bf16=arguments.precision == "amp_bf16",
        )

    found: dict[str, Callable[[], object]] = {
        OURS: lambda: fine_tune(start, task, settings, seed=SEED, device=device),
        BY_HAND: lambda: peer().by_hand(device),
    }
    if HAS_TRAINER:
        found[TRAINER] = lambda: peer().by_trainer(folder / "out", device)
    return train.lengths, order, found


def compare(arguments: argparse.Namespace) -> int:
    quiet_transformers()
    register_all()
    device = torch.device(arguments.device) if arguments.device else this_device()
    if not HAS_TRAINER:
        print("note: the Trainer needs the package accelerate, which is not installed\n")
    for name in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            lengths, order, found = ways(name, arguments, device, Path(folder))
            times = median_seconds(found, arguments.rounds, device)
            print_table(name, lengths, order, arguments, times)
            if arguments.profile:
                print_profile(found[OURS], device)
    print_environment()
    return 0


def print_table(
    name: str,
    lengths: np.ndarray,
    order: np.ndarray,
    arguments: argparse.Namespace,
    times: dict[str, float],
) -> None:
    longest = lengths[order].reshape(-1, arguments.batch).max(axis=1)
    padding = 1 - lengths.sum() / (longest.sum() * arguments.batch)
    print(
        f"texts of {name} ({lengths.mean():.0f} tokens), {arguments.updates} updates of "
        f"{arguments.batch}, {padding:.0%} of padded batches is padding, {arguments.precision}\n"
    )
    print_header("way", ["ms an update", "real tokens/s", "flexbert is"])
    for way, seconds in times.items():
        print_row(
            way,
            [
                f"{1e3 * seconds / arguments.updates:.1f}",
                f"{lengths.sum() / seconds:,.0f}",
                f"{seconds / times[OURS]:.2f} times as fast",
            ],
        )
    print(flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--precision", choices=["fp32", "amp_bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--device", help="the GPU if there is one, else the CPU")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--profile", action="store_true", help="of ours")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, one round")
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        small = {"layers": 2, "hidden": 64, "batch": 4, "updates": 3, "rounds": 1}
        vars(arguments).update(small)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    return run_command(lambda: compare(arguments))


if __name__ == "__main__":
    sys.exit(main())
