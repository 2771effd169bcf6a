"""How fast is each attention backend, by the length of documents?

Forward and backward of one layer over ``--tokens`` tokens in documents of equal length, or of
web-like lengths up to 1024; the heads are ModernBERT-base's. All backends that can serve here run
in turn, in rounds; times are medians, ratios are of them. On the machine's GPU where there is one,
else on its CPU.

    python -m benchmarks.attention [--smoke]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.measuring import (
    median_seconds,
    packed_batch,
    print_environment,
    print_header,
    print_row,
    this_device,
    web_lengths,
)
from flexbert.nn.attention_backends import BACKENDS, Request, attend
from flexbert.nn.packed_batch import PackedBatch

NUM_HEADS, HEAD_DIM = 12, 64
WINDOW = 128
WEB = "web-like"
PEER = "sdpa"


def documents(kind: int | str, tokens: int) -> np.ndarray:
    """Lengths: all ``kind``, or web-like."""
    return web_lengths(tokens, 1024) if kind == WEB else np.full(tokens // int(kind), int(kind))


def forward_and_backward(
    name: str, qkv: Sequence[torch.Tensor], packed: PackedBatch, window: int | None
) -> None:
    out = attend(*qkv, packed, window=window, scale=HEAD_DIM**-0.5, backend=name)
    torch.autograd.grad(out, qkv, torch.ones_like(out))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="few tokens, one round")
    arguments = parser.parse_args(argv)
    tokens, rounds = (256, 1) if arguments.smoke else (arguments.tokens, arguments.rounds)
    device = this_device()
    request = Request(device, torch.bfloat16, HEAD_DIM, windowed=True)
    names = [n for n, b in BACKENDS.items() if b.why_not(request) is None and n != "reference"]
    shape = (tokens, NUM_HEADS, HEAD_DIM)
    qkv = [
        torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    ]
    print(f"milliseconds, forward and backward of {tokens:,} tokens in bfloat16\n")
    header = [f"{name}, {kind}" for kind in ("local", "global") for name in names]
    print_header("documents of", header)
    for kind in (*(n for n in (128, 512, 2048, 8192) if n <= tokens), WEB):
        packed = packed_batch(documents(kind, tokens), 1, device)
        cells = []
        for window in (WINDOW, None):
            ways = {n: partial(forward_and_backward, n, qkv, packed, window) for n in names}
            medians = median_seconds(ways, rounds, device)
            cells += [
                f"{1e3 * m:.1f}" + ("" if name == PEER else f" ({medians[PEER] / m:.2f} times)")
                for name, m in medians.items()
            ]
        print_row(str(kind), cells)
    print(f"\nin brackets: how many times as fast as {PEER}")
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(main())
