"""How full are packed rows, against best-fit decreasing without a limit of sequences?

Web-like lengths are lognormal, at least 4 tokens, cut to chunks of at most ``max_length``. With a
corpus, its own training split is packed as well.

    python benchmarks/packing.py [CORPUS]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from flexbert.data.packing.best_fit import enough_sequences, pack
from flexbert.data.reading.corpus import Corpus
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.errors import run_command

WINDOW = 16_384
SHAPES = ((1024, 1024), (8192, 1024), (8192, 8192), (16_384, 1024), (16_384, 8192))


def web_documents(mean: int, count: int, seed: int = 0) -> np.ndarray:
    """Tokens of ``count`` documents: a lognormal with sigma 1.2 and this mean."""
    sigma = 1.2
    drawn = np.random.default_rng(seed).lognormal(math.log(mean) - sigma**2 / 2, sigma, count)
    return np.maximum(drawn.astype(np.int64), 4)


def cut(documents: np.ndarray, max_length: int) -> np.ndarray:
    """Lengths of their chunks, special tokens included, in random order."""
    content = max_length - 2
    parts = -(-documents // content)
    chunks = np.full(parts.sum(), max_length)
    chunks[np.cumsum(parts) - 1] = documents - (parts - 1) * content + 2
    np.random.default_rng(1).shuffle(chunks)
    return chunks


def report(name: str, chunks: np.ndarray, row_length: int, max_length: int) -> None:
    """One line: the share of tokens that are not padding, by our rule and by the textbook's."""
    limit = enough_sequences(chunks[:WINDOW], row_length)
    windows = [chunks[begin : begin + WINDOW] for begin in range(0, len(chunks), WINDOW)]
    ours = sum(pack(window, row_length, limit).num_rows for window in windows)
    unlimited = sum(pack(window, row_length, len(window)).num_rows for window in windows)
    tokens = chunks.sum() / row_length
    print(
        f"{name:<16} rows of {row_length:>6}, sequences of {max_length:>4}: "
        f"{tokens / ours:.4f} full with at most {limit} chunks a row, "
        f"{tokens / unlimited:.4f} without a limit"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path, nargs="?")
    arguments = parser.parse_args()
    return run_command(lambda: measure(arguments.corpus))


def measure(corpus: Path | None) -> int:
    for row_length, max_length in SHAPES:
        for mean in (300, 1000):
            chunks = cut(web_documents(mean, 2 * WINDOW), max_length)
            report(f"web, mean {mean}", chunks, row_length, max_length)
        if corpus:
            numbered = Chunks(Corpus.open(corpus).split("train"), Cut(max_length))
            chunks = numbered.lengths(np.random.default_rng(2).permutation(len(numbered)))
            report("corpus", chunks, row_length, max_length)
    return 0


if __name__ == "__main__":
    sys.exit(main())
