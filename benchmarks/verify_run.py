"""Is a run's final loss what it says, and is the model better than counting neighbours?

Recomputes the last evaluation of a run from its checkpoint, apart from the trainer: the documents
are padded instead of packed, the model comes from ``flexbert.load_model``, and the cross-entropy is
computed in float64. Then a model that knows only the two neighbours of a masked token, counted in
the training split, predicts the same tokens from the same input.

    python benchmarks/verify_run.py runs/quickstart

It exits with 1 unless both losses agree and the model beats counting neighbours.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flexbert import load_model
from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.config.data import DataConfig
from flexbert.config.decode import decode
from flexbert.config.training import EvaluationConfig
from flexbert.data.counting.neighbours import neighbours_of
from flexbert.data.packing.loader import eval_loader
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Corpus
from flexbert.errors import UserError, run_command
from flexbert.manifest_file import Manifest
from flexbert.metrics_file import read_metrics

# bfloat16 keeps 8 bits: padded and packed sums round differently, by far less than this on average.
TOLERANCE = 0.01
SEQUENCES_PER_FORWARD = 16


@dataclass(frozen=True)
class Example:
    """One document chunk as evaluation sees it: ids [T], masked positions and labels [M]."""

    input_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def examples(corpus: Corpus, data: DataConfig, evaluation: EvaluationConfig) -> Iterator[Example]:
    """Every chunk of the validation split with the masks of evaluation."""
    loader = eval_loader(
        corpus.split("validation"),
        data,
        mask_rate=evaluation.mask_rate,
        microbatch_rows=1,
        max_rows=evaluation.rows,
    )
    for batch in loader:
        for row in batch["microbatches"]:
            ids, borders = row["input_ids"].numpy(), row["cu_seqlens"].numpy()
            positions = row["masked_positions"].numpy()[: row["num_masked"]]
            labels = row["labels"].numpy()[: row["num_masked"]]
            for begin, end in itertools.pairwise(borders):
                if begin < end and ids[begin] == corpus.meta.special_ids.cls:
                    inside = (positions >= begin) & (positions < end)
                    yield Example(ids[begin:end], positions[inside] - begin, labels[inside])


def model_loss(checkpoint: Path, chosen: list[Example], pad: int, bf16: bool) -> float:
    """Mean cross-entropy in nats over all masked tokens, from padded batches."""
    model = load_model(checkpoint)
    total = count = 0.0
    for begin in range(0, len(chosen), SEQUENCES_PER_FORWARD):
        group = chosen[begin : begin + SEQUENCES_PER_FORWARD]
        shape = len(group), max(len(example.input_ids) for example in group)
        input_ids = torch.full(shape, pad)
        attention_mask = torch.zeros(shape, dtype=torch.int64)
        for row, example in enumerate(group):
            length = len(example.input_ids)
            input_ids[row, :length] = torch.from_numpy(example.input_ids)
            attention_mask[row, :length] = 1
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(input_ids, attention_mask)
        for row, example in enumerate(group):
            log_probs = logits[row, torch.from_numpy(example.positions)].double().log_softmax(-1)
            total -= log_probs[torch.arange(len(example.labels)), example.labels].sum().item()
            count += len(example.labels)
    return total / count


def neighbour_loss(corpus: Corpus, chosen: list[Example]) -> float:
    """The same mean for the model that counts neighbours."""
    model = neighbours_of(corpus.split("train", verify_hashes=False))
    left = np.concatenate([example.input_ids[example.positions - 1] for example in chosen])
    right = np.concatenate([example.input_ids[example.positions + 1] for example in chosen])
    labels = np.concatenate([example.labels for example in chosen])
    return float(-model.log_prob(left, labels, right).mean())


def verify(run_folder: Path) -> int:
    reported = [record.numbers["eval_loss"] for record in read_metrics(run_folder, "eval")]
    checkpoints = list_checkpoints(run_folder / "checkpoints")
    if not reported or not checkpoints:
        raise UserError(f"{run_folder}: not a finished run")
    config = read_checkpoint(checkpoints[-1]).recipe  # that of the last stage
    data = decode(DataConfig, config["data"])
    evaluation = decode(EvaluationConfig, config["evaluation"])
    corpus = Corpora.open(data).first
    chosen = list(examples(corpus, data, evaluation))

    bf16 = config["precision"] == "amp_bf16"
    recomputed = model_loss(checkpoints[-1], chosen, corpus.meta.special_ids.pad, bf16)
    neighbours = neighbour_loss(corpus, chosen)
    entropy = Manifest.read(run_folder).unigram_entropy
    agrees = abs(recomputed - reported[-1]) < TOLERANCE
    print(f"checkpoint               {checkpoints[-1]}")
    print(f"validation               {sum(len(e.labels) for e in chosen):,} masked tokens")
    print(f"loss, recomputed         {recomputed:.4f} nats")
    print(f"loss, the trainer's      {reported[-1]:.4f} nats: {'agrees' if agrees else 'DIFFERS'}")
    for name, other in (("counting neighbours", neighbours), ("unigram entropy", entropy)):
        print(f"{name:<24} {other:.4f} nats: {other - recomputed:+.4f} from the model's")
    return 0 if agrees and recomputed < neighbours else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run_folder", type=Path)
    arguments = parser.parse_args()
    sys.exit(run_command(lambda: verify(arguments.run_folder)))
