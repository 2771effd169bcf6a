"""Does context extension do something? Masked loss by position, with and without it.

A miniature of ``yamls/base.yaml``, its lengths, window and thetas divided by 16, is pretrained at
64 tokens. From its last checkpoint three models train on for as many tokens: one through base's own
stages ``extend`` and ``decay`` (512 tokens, theta 16 times as large), one through the same with
theta left as it was, one at 64 tokens. All predict the same masked tokens of the same held-out
documents of 512 tokens. Weights, data order and training's masks differ from seed to seed.

    python -m benchmarks.context_extension FOLDER [--smoke]

FOLDER keeps corpora and runs; a command that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measuring import print_environment, print_header, print_row
from benchmarks.miniatures import make_corpus, trained
from benchmarks.verify_run import Example, examples
from data_prep.demo import write_demo
from flexbert import load_model
from flexbert.config.recipe import Recipe
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import run_command
from flexbert.nn.packed_batch import PackedBatch
from flexbert.recipes import load_recipe

BASE = Path(__file__).parent.parent / "yamls" / "base.yaml"
LENGTH, EXTENDED_LENGTH = 64, 512
BORDERS = (0, LENGTH, 2 * LENGTH, 4 * LENGTH, EXTENDED_LENGTH)
BUCKETS = [f"{begin} to {end - 1}" for begin, end in itertools.pairwise(BORDERS)]
VOCAB_SIZE = 1024
FIRST_SEED = 17

MINIATURE = (
    "precision=fp32",
    f"model={{vocab_size: {VOCAB_SIZE}, hidden_size: 64, num_layers: 4}}",
    "model.attention={num_heads: 2, windows.repeat: [global, 8, 8], output_dropout: 0.0}",
    "model.attention.rope.theta={global: 625, local: 625}",
    "model.mlp.intermediate_size=96",
    "model.init.std=0.1",
    f"data={{max_length: {LENGTH}, row_length: {EXTENDED_LENGTH}, num_workers: 0}}",
    "batch={size: 16, warmup: null, microbatch_rows: 2}",
    "optimizer.lr=3e-3",
    "schedule.warmup=0.05dur",
    "evaluation={interval: 1dur, rows: 16, microbatch_rows: 4}",
    "checkpoints.interval=1dur",
    "logging.interval=0.2dur",
    f"stages.extend={{data.max_length: {EXTENDED_LENGTH}, batch.size: 2, optimizer.lr: 1e-3}}",
    "stages.extend.model.attention.rope.theta.global=10_000",
    "stages.decay={evaluation.interval: 1dur, checkpoints.interval: 1dur}",
)
SAME_THETA = "stages.extend.model.attention.rope.theta.global=625"
SAME_LENGTH = f"stages.extend={{data.max_length: {LENGTH}, batch.size: 16}}"
# How each model goes on from the pretrained one.
CONTINUED: dict[str, list[str]] = {
    "unextended": [SAME_THETA, SAME_LENGTH],
    "extended-same-theta": [SAME_THETA],
    "extended": [],
}

NAMES = ["".join(pair) for pair in itertools.product("abcdefgh", repeat=2)]
VALUES = [name.upper() for name in NAMES]

# Of each model, the mean masked loss by bucket of positions.
Losses = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """Seeds, documents of facts to make, and tokens of each stage."""

    seeds: int
    facts: int
    pretrain: int
    extend: int
    decay: int

    @property
    def overrides(self) -> list[str]:
        stages = {"pretrain": self.pretrain, "extend": self.extend, "decay": self.decay}
        return [f"stages.{name}.duration={tokens}tok" for name, tokens in stages.items()]


FULL = Sizes(seeds=3, facts=8000, pretrain=2_500_000, extend=500_000, decay=100_000)
SMOKE = Sizes(seeds=1, facts=100, pretrain=4000, extend=4000, decay=4000)


def write_facts(folder: Path, num_documents: int) -> None:
    """Documents of 255 statements, each a name and its value, which is the document's own.

    Names come by Zipf's law, the most frequent first in an order that is the document's own too. So
    a frequent name recurs nearby and a rare one far away.
    """
    generator = random.Random(0)
    frequencies = [1 / rank for rank in range(1, len(NAMES) + 1)]
    lines = []
    for _ in range(num_documents):
        value = {name: generator.choice(VALUES) for name in NAMES}
        names = generator.sample(NAMES, len(NAMES))
        stated = generator.choices(names, frequencies, k=(EXTENDED_LENGTH - 2) // 2)
        text = "".join(f" {name} {value[name]}" for name in stated)
        lines.append(json.dumps({"text": text}) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "facts.jsonl").write_text("".join(lines))


def held_out(recipe: Recipe) -> list[Example]:
    """Chunks of the full length from the validation split, with the masks of evaluation."""
    whole_split = replace(recipe.evaluation, rows=None)
    chunks = examples(Corpora.open(recipe.data).first, recipe.data, whole_split)
    return [chunk for chunk in chunks if len(chunk.input_ids) == EXTENDED_LENGTH]


def losses_of_seed(settings: Sequence[str], documents: Sequence[Example]) -> Losses:
    pretrained = trained(BASE, [*settings, "run_name=pretrained", "stage=pretrain"])
    start = f"start_from={pretrained / 'checkpoints' / 'pretrain.pt'}"
    losses = {"pretrained": loss_by_position(pretrained, documents, EXTENDED_LENGTH)}
    for name, overrides in CONTINUED.items():
        run = trained(BASE, [*settings, f"run_name={name}", start, *overrides])
        losses[name] = loss_by_position(run, documents, EXTENDED_LENGTH)
        if name == "unextended":
            losses["unextended, in chunks"] = loss_by_position(run, documents, LENGTH)
    return losses


def loss_by_position(run: Path, documents: Sequence[Example], length: int) -> np.ndarray:
    """Mean loss in each bucket of a run's final model, which reads ``length`` tokens at a time."""
    model = load_model(run).model
    total, count = np.zeros(len(BUCKETS)), np.zeros(len(BUCKETS))
    for document in documents:
        packed = PackedBatch(
            tokens=torch.from_numpy(document.input_ids),
            cu_seqlens=torch.arange(0, EXTENDED_LENGTH + 1, length, dtype=torch.int32),
            max_seqlen=length,
            position_ids=torch.arange(EXTENDED_LENGTH) % length,
        )
        with torch.inference_mode():
            logits = model(packed, torch.from_numpy(document.positions))
        losses = F.cross_entropy(logits, torch.from_numpy(document.labels), reduction="none")
        bucket = np.digitize(document.positions, BORDERS[1:-1])
        total += np.bincount(bucket, losses.numpy(), minlength=len(BUCKETS))
        count += np.bincount(bucket, minlength=len(BUCKETS))
    return total / count


def print_tables(seeds: Sequence[Losses]) -> None:
    """Mean losses over seeds; then what is between the extended model and each other one."""
    names = list(seeds[0])
    print_header("loss", BUCKETS)
    for name in names:
        print_row(name, [f"{mean:.3f}" for mean in np.mean([s[name] for s in seeds], axis=0)])
    print()
    print_header("extended minus", BUCKETS)
    for name in names[:-1]:
        gaps = np.array([losses["extended"] - losses[name] for losses in seeds])
        print_row(name, [f"{g.mean():+.3f} ({g.min():+.3f} to {g.max():+.3f})" for g in gaps.T])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--smoke", action="store_true", help="facts alone, one seed, tiny sizes")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = SMOKE if arguments.smoke else FULL
    texts: dict[str, Callable[[Path], None]] = {
        "facts": partial(write_facts, num_documents=sizes.facts)
    }
    if not arguments.smoke:
        texts["sources"] = write_demo
    results = []
    for name, write_text in texts.items():
        folder = arguments.folder / name
        settings = [*MINIATURE, *sizes.overrides]
        settings.append(f"data.path={make_corpus(folder, VOCAB_SIZE, write_text)}")
        documents = held_out(load_recipe(BASE, settings).stages["extend"])
        seeds = [
            losses_of_seed(
                [*settings, f"seed={seed}", f"runs_folder={folder / f'seed-{seed}'}"], documents
            )
            for seed in range(FIRST_SEED, FIRST_SEED + sizes.seeds)
        ]
        results.append((name, documents, seeds))
    for name, documents, seeds in results:
        masked = sum(len(document.labels) for document in documents)
        print(
            f"\n{name}: {len(documents)} documents, {masked:,} masked tokens, {len(seeds)} seeds\n"
        )
        print_tables(seeds)
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
