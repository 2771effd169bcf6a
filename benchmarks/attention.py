"""How fast is each attention backend, by the length of documents?

Forward and backward of one layer over ``--tokens`` tokens in documents of equal length, or of
web-like lengths up to 1024; the heads are ModernBERT-base's. All backends that can serve here run
in turn, in rounds; times are medians, ratios are of them. On the machine's GPU where there is one,
else on its CPU.

    python -m benchmarks.attention [--smoke]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.miniatures import print_environment, print_row
from benchmarks.packing import cut, web_documents
from flexbert.nn.attention_backends import BACKENDS, Request, attend
from flexbert.nn.ragged import RaggedBatch

NUM_HEADS, HEAD_DIM = 12, 64
WINDOW = 128
WEB = "web-like"
PEER = "sdpa"


def documents(kind: int | str, tokens: int) -> RaggedBatch:
    """Documents of one length, or of web-like ones, the last of them cut."""
    lengths = cut(web_documents(270, tokens), 1024) if kind == WEB else np.full(tokens, kind)
    ends = np.minimum(np.cumsum(lengths), tokens)
    ends = ends[: int(np.searchsorted(ends, tokens)) + 1]
    borders = torch.from_numpy(np.concatenate([[0], ends])).to(torch.int32)
    positions = torch.cat([torch.arange(n) for n in borders.diff().tolist()])
    return RaggedBatch(
        torch.zeros(tokens, dtype=torch.int64), borders, int(borders.diff().max()), positions
    )


def on(device: torch.device, ragged: RaggedBatch) -> RaggedBatch:
    return RaggedBatch(
        ragged.tokens.to(device),
        ragged.cu_seqlens.to(device),
        ragged.max_seqlen,
        ragged.position_ids.to(device),
    )


def seconds(
    name: str, qkv: Sequence[torch.Tensor], ragged: RaggedBatch, window: int | None
) -> float:
    """Of one forward and backward."""
    begin = time.perf_counter()
    out = attend(*qkv, ragged, window=window, scale=HEAD_DIM**-0.5, backend=name)
    torch.autograd.grad(out, qkv, torch.ones_like(out))
    if out.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="few tokens, one round")
    arguments = parser.parse_args(argv)
    tokens, rounds = (256, 1) if arguments.smoke else (arguments.tokens, arguments.rounds)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    request = Request(device, torch.bfloat16, HEAD_DIM, windowed=True)
    names = [n for n, b in BACKENDS.items() if b.why_not(request) is None and n != "reference"]
    shape = (tokens, NUM_HEADS, HEAD_DIM)
    qkv = [
        torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    ]
    print(f"milliseconds, forward and backward of {tokens:,} tokens in bfloat16\n")
    header = [f"{name}, {kind}" for kind in ("local", "global") for name in names]
    print_row("documents of", header)
    print_row("---", ["---:"] * len(header))
    for kind in (*(n for n in (128, 512, 2048, 8192) if n <= tokens), WEB):
        ragged = on(device, documents(kind, tokens))
        cells = []
        for window in (WINDOW, None):
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(rounds + 1):
                for name in names:
                    times[name].append(seconds(name, qkv, ragged, window))
            medians = {name: statistics.median(values[1:]) for name, values in times.items()}
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
