"""How fast are masked batches made, against a plain DataLoader with transformers' collator?

Both read the same documents from the same memory-mapped corpus on one process, put special tokens
around them, mask 30 percent by 80/10/10, and hand over tensors. Ours also packs. The other pads
each batch to its longest document; real tokens are counted for both, padding for neither.

``maskings`` has the speed of whole-word and span masking as a part of token masking's, by turns: of
the whole loader on that corpus, where every token is a word, and of masking alone, where every
second id begins one.

    python -m benchmarks.data_loader [--tokens 50_000_000] [--mean 300]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from benchmarks.random_corpus import make_random_corpus
from flexbert.config.data import DataConfig, MaskSplit
from flexbert.config.masking_choice import (
    SINGLE_TOKENS,
    WORD,
    MaskingConfig,
    SpanMasking,
    WholeWordMasking,
)
from flexbert.data.format.corpus_format import TOKENIZER_FOLDER, CorpusMeta
from flexbert.data.packing.loader import train_loader
from flexbert.data.packing.masking import BEGINS_WORD, Masker, Ranges
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Split
from flexbert.data.sampling.samplers import PermutationConfig

VOCAB_SIZE = 50_368
CLS, SEP = VOCAB_SIZE - 4, VOCAB_SIZE - 3  # as the random corpus has them
MAX_LENGTH = 1024
ROW_LENGTH = 8192
ROUNDS = 3
MASKINGS: dict[str, MaskingConfig] = {
    "token": SINGLE_TOKENS,
    "whole_word": WholeWordMasking(),
    "span": SpanMasking(),
}


class PlainDocuments(Dataset[dict[str, np.ndarray]]):
    """Documents with special tokens, cut off at ``MAX_LENGTH``, as examples show it.

    The mask of special tokens comes along: without it the collator searches for them in Python.
    """

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return self.split.num_documents

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        count = min(int(self.split.lengths[index]), MAX_LENGTH - 2)
        tokens = self.split.gather(np.array([index]), np.zeros(1, np.int64), np.array([count]))
        special = np.zeros(count + 2, np.int64)
        special[[0, -1]] = 1
        input_ids = np.concatenate([[CLS], tokens, [SEP]])
        return {"input_ids": input_ids, "special_tokens_mask": special}


def plain_tokens(split: Split, tokenizer: PreTrainedTokenizerFast) -> Iterator[int]:
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
    for batch in DataLoader(PlainDocuments(split), 96, shuffle=True, collate_fn=collator):
        yield int(batch["attention_mask"].sum())


def our_tokens(split: Split, config: DataConfig) -> Iterator[int]:
    splits, key = {"corpus": split}, StreamKey(0, "benchmark")
    stream = training_stream(splits, config, key)
    builder = training_builder(stream, splits, config, key)
    loader = train_loader(stream, builder, config, rows_per_update=rows, microbatch_rows=12)
    for batch in loader:
        yield sum(microbatch["num_tokens"] for microbatch in batch["microbatches"])


def rows(update: int) -> int:
    return 96


def tokens_per_second(make: Callable[[], Iterator[int]], seconds: float) -> float:
    """After a first batch that is not counted."""
    batches = make()
    next(batches)
    begin = time.perf_counter()
    total = 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        total += next(batches)
    return total / elapsed


def masked_tokens(meta: CorpusMeta, masking: MaskingConfig) -> Iterator[int]:
    """Rows of random ordinary tokens, masked; how many tokens they have."""
    borders = np.where(np.arange(meta.vocab_size) % 2, 0, BEGINS_WORD).astype(np.uint8)
    masker = Masker(
        meta,
        0.3,
        MaskSplit(),
        at_least_one=True,
        masking=masking,
        borders=borders if masking.units == WORD else None,
    )
    generator = np.random.default_rng(0)
    ids = generator.integers(0, CLS - 1, 12 * ROW_LENGTH)
    begins = np.arange(12) * ROW_LENGTH
    while True:
        keys = generator.integers(0, 1 << 63, 12, np.uint64)
        ranges = Ranges(begins, begins + ROW_LENGTH, keys)
        masker.mask(ids.copy(), ranges, masker.capacity(ROW_LENGTH, 1) * 12)
        yield len(ids)


def maskings_compared(
    split: Split, config: DataConfig, seconds: float
) -> dict[str, dict[str, float]]:
    """Of each masking, its speed as a part of token masking's."""

    def loader(masking: MaskingConfig) -> Iterator[int]:
        return our_tokens(split, replace(config, masking=masking))

    def masking_alone(masking: MaskingConfig) -> Iterator[int]:
        return masked_tokens(split.meta, masking)

    compared: dict[str, dict[str, float]] = {}
    for what, make in (("loader", loader), ("masking", masking_alone)):
        speeds: dict[str, list[float]] = {name: [] for name in MASKINGS}
        for _ in range(ROUNDS):
            for name, masking in MASKINGS.items():
                speeds[name].append(tokens_per_second(partial(make, masking), seconds))
        medians = {name: float(np.median(of_name)) for name, of_name in speeds.items()}
        compared[what] = {n: round(m / medians["token"], 2) for n, m in medians.items()}
        compared[what]["token_mtokens_per_second"] = round(medians["token"] / 1e6, 1)
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=50_000_000, help="tokens in the corpus")
    parser.add_argument("--mean", type=int, default=300, help="tokens per document")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_random_corpus(folder, VOCAB_SIZE, arguments.tokens, arguments.mean)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / TOKENIZER_FOLDER)
        config = DataConfig(
            path=folder,
            sampler=PermutationConfig(),
            mask_rate=0.3,
            max_length=MAX_LENGTH,
            row_length=ROW_LENGTH,
            num_workers=0,
        )
        split = Corpora.open(config).first.split("train")
        ours, plain = [], []
        for _ in range(ROUNDS):
            ours.append(tokens_per_second(lambda: our_tokens(split, config), arguments.seconds))
            plain.append(
                tokens_per_second(lambda: plain_tokens(split, tokenizer), arguments.seconds)
            )
        maskings = maskings_compared(split, config, arguments.seconds)
    record = {
        "flexbert_tokens_per_second": round(float(np.median(ours))),
        "plain_tokens_per_second": round(float(np.median(plain))),
        "ratio": round(float(np.median(ours) / np.median(plain)), 1),
        "maskings": maskings,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
