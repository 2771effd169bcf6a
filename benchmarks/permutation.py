"""Is a shuffle of very many items unbiased, and does packing leave it so?

An order of n items is cut into 1,000 consecutive blocks. Of a permutation drawn uniformly, a
block's mean is the mean of a sample without replacement: its variance is known, and it does not
depend on the block's place. Two numbers tell how far an order is from that: the variance of the
block means over what chance allows (1 is right, with a standard deviation of 0.045), and the
correlation of a block's mean with its place (0 is right, with 0.032).

The packed streams are the chunk numbers in the order in which training meets them, row by row: of a
corpus whose documents come in no order, and of one that is sorted by length, where a biased order
or a biased packing would both show.

    python -m benchmarks.permutation [--sizes 1e6 1e7 1e8 2e8]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from flexbert.data.packing.best_fit import enough_sequences
from flexbert.data.packing.row_stream import RowLayout, RowStream, ShuffledRows
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.data.sampling.mixture import Bucket, Mixture
from flexbert.data.sampling.permutation import permutation
from flexbert.data.sampling.samplers import PermutationSampler, SamplerKey

NUM_BLOCKS = 1000
MAX_LENGTH, ROW_LENGTH, WINDOW = 1024, 8192, 16_384


def bias(order: np.ndarray) -> tuple[float, float]:
    """Variance of block means over what chance allows, and their correlation with their place."""
    num_items = len(order)
    borders = np.arange(NUM_BLOCKS + 1) * num_items // NUM_BLOCKS
    means = np.array(
        [order[begin:end].mean(dtype=np.float64) for begin, end in itertools.pairwise(borders)]
    )
    size = num_items / NUM_BLOCKS
    variance = (num_items**2 - 1) / 12 / size * (num_items - size) / (num_items - 1)
    expected = (num_items - 1) / 2
    ratio = float(((means - expected) ** 2).mean() / variance)
    return ratio, float(np.corrcoef(means, np.arange(NUM_BLOCKS))[0, 1])


def torch_order(num_items: int, seed: int) -> np.ndarray:
    return torch.randperm(num_items, generator=torch.Generator().manual_seed(seed)).numpy()


def our_order(num_items: int, seed: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return np.array(permutation(num_items, seed, Path(folder)))


def packed_order(num_items: int, seed: int, *, by_length: bool) -> np.ndarray:
    """One epoch's chunk numbers, row by row."""
    drawn = np.random.default_rng(seed).lognormal(np.log(300) - 0.5, 1.0, num_items)
    lengths = np.clip(drawn, 4, MAX_LENGTH - 2).astype(np.uint32)
    if by_length:
        lengths.sort()
    split = SimpleNamespace(
        lengths=lengths,
        num_documents=num_items,
        num_tokens=int(lengths.sum()),
        require_documents=lambda: None,
    )
    chunks = Chunks(split, Cut(MAX_LENGTH))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        order = PermutationSampler(chunks, SamplerKey(seed, "benchmark", ()), Path(folder))
        mixture = Mixture([Bucket("", "", chunks, order, 1.0)], {"": 1.0})
        sequences = enough_sequences(mixture.sample_lengths(WINDOW), ROW_LENGTH)
        layout = RowLayout(ROW_LENGTH, MAX_LENGTH, sequences)
        stream = RowStream(mixture, layout, WINDOW, ShuffledRows((seed,)))
        windows = itertools.islice(stream.packing_windows(), stream.packing_windows_per_epoch)
        return np.concatenate(
            [w.row(index).drawn.numbers for w in windows for index in range(w.num_rows)]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 1e7, 1e8, 2e8])
    parser.add_argument("--packed", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, numpy {np.__version__}, seed {arguments.seed}")
    print(f"{'order':<34}{'items':>12}{'variance':>10}{'correlation':>13}")
    shuffles: list[tuple[str, list[float], Callable[[int, int], np.ndarray]]] = [
        ("torch.randperm", arguments.sizes, torch_order),
        ("PCG64DXSM", arguments.sizes, our_order),
        (
            "packed rows",
            arguments.packed,
            lambda n, seed: packed_order(n, seed, by_length=False),
        ),
        (
            "packed rows, corpus sorted",
            arguments.packed,
            lambda n, seed: packed_order(n, seed, by_length=True),
        ),
    ]
    for name, sizes, make in shuffles:
        for size in sizes:
            ratio, correlation = bias(make(int(size), arguments.seed))
            print(f"{name:<34}{int(size):>12,}{ratio:>10.2f}{correlation:>13.3f}", flush=True)


if __name__ == "__main__":
    main()
