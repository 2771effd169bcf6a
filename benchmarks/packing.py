"""How full are packed rows, against best-fit decreasing without a limit of segments?

Web-like lengths are lognormal, at least 4 tokens, cut to pieces of at most ``max_length``. With a
corpus, its own training split is packed as well.

    python benchmarks/packing.py [CORPUS]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from flexbert.data.corpus import Corpus
from flexbert.data.packing import enough_segments, pack
from flexbert.data.pieces import Cut, Pieces
from flexbert.errors import run_command

WINDOW = 16_384
SHAPES = ((1024, 1024), (8192, 1024), (8192, 8192), (16_384, 1024), (16_384, 8192))


def web_documents(mean: int, count: int, seed: int = 0) -> np.ndarray:
    """Tokens of ``count`` documents: a lognormal with sigma 1.2 and this mean."""
    sigma = 1.2
    drawn = np.random.default_rng(seed).lognormal(math.log(mean) - sigma**2 / 2, sigma, count)
    return np.maximum(drawn.astype(np.int64), 4)


def cut(documents: np.ndarray, max_length: int) -> np.ndarray:
    """Lengths of their pieces, special tokens included, in random order."""
    content = max_length - 2
    parts = -(-documents // content)
    pieces = np.full(parts.sum(), max_length)
    pieces[np.cumsum(parts) - 1] = documents - (parts - 1) * content + 2
    np.random.default_rng(1).shuffle(pieces)
    return pieces


def report(name: str, pieces: np.ndarray, row_length: int, max_length: int) -> None:
    """One line: the share of tokens that are not padding, by our rule and by the textbook's."""
    limit = enough_segments(pieces[:WINDOW], row_length)
    windows = [pieces[begin : begin + WINDOW] for begin in range(0, len(pieces), WINDOW)]
    ours = sum(pack(window, row_length, limit).num_rows for window in windows)
    unlimited = sum(pack(window, row_length, len(window)).num_rows for window in windows)
    tokens = pieces.sum() / row_length
    print(
        f"{name:<16} rows of {row_length:>6}, sequences of {max_length:>4}: "
        f"{tokens / ours:.4f} full with at most {limit} pieces a row, "
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
            pieces = cut(web_documents(mean, 2 * WINDOW), max_length)
            report(f"web, mean {mean}", pieces, row_length, max_length)
        if corpus:
            numbered = Pieces(Corpus.open(corpus).split("train"), Cut(max_length))
            pieces = numbered.lengths(np.random.default_rng(2).permutation(len(numbered)))
            report("corpus", pieces, row_length, max_length)
    return 0


if __name__ == "__main__":
    sys.exit(main())
