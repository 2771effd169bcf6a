"""What does the loss take, computed some rows at a time, against torch's on all logits?

Forward and backward from the head's features to their gradients and the matrix's, in bfloat16
products as autocast has them. The ways run in turn, in rounds; memory is the most that torch's
allocator held beyond the inputs. On the machine's GPU where there is one, else on its CPU.

    python -m benchmarks.cross_entropy [--smoke] [--compile] [--width N]
        [--vocab-size N] [--rounds N]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import (
    allocated_at_most,
    median_seconds,
    print_environment,
    print_header,
    print_row,
    this_device,
)
from flexbert.nn.compilation import key_compiled_code_by_threads
from flexbert.nn.cross_entropy import summed_cross_entropy
from flexbert.nn.logits import DeferredLogits
from flexbert.train.cpu_memory import KEEP_ALL, keep_freed_blocks

ROWS = (614, 2458, 9830)  # masked tokens of 2048, 8192 and 32,768
OURS, COMPILED, PEER = "flexbert", "flexbert, compiled", "torch, all logits"


def ours(
    features: Tensor, matrix: Tensor, bias: Tensor, labels: Tensor, *, compiled: bool = False
) -> Tensor:
    logits = DeferredLogits(features, matrix, bias, torch.bfloat16)
    return summed_cross_entropy(logits, labels, compiled=compiled)


def all_logits(features: Tensor, matrix: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(features.device.type, torch.bfloat16):
        logits = F.linear(features, matrix, bias)
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def backward(loss: Callable[..., Tensor], leaves: Sequence[Tensor], labels: Tensor) -> None:
    for leaf in leaves:
        leaf.grad = None
    loss(*leaves, labels).backward()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, help="of features; 256 on a CPU, 768 on a GPU")
    parser.add_argument("--vocab-size", type=int, help="32,768 on a CPU, 50,368 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also ours, compiled")
    parser.add_argument("--smoke", action="store_true", help="few rows, one round")
    arguments = parser.parse_args(argv)
    # As the trainer does for models of this size.
    keep_freed_blocks(KEEP_ALL)
    device = this_device()
    on_gpu = device.type == "cuda"
    width = arguments.width or (768 if on_gpu else 256)
    vocab_size = arguments.vocab_size or (50_368 if on_gpu else 32_768)
    rows, rounds = ((16,), 1) if arguments.smoke else (ROWS, arguments.rounds)
    print(f"{width} features, {vocab_size:,} logits; in brackets: how many times torch's\n")
    losses = {OURS: ours, PEER: all_logits}
    if arguments.compile:
        key_compiled_code_by_threads()
        losses = {OURS: ours, COMPILED: partial(ours, compiled=True), PEER: all_logits}
    print_header("masked tokens", [f"{name}, {unit}" for unit in ("ms", "MiB") for name in losses])
    for count in rows:
        shapes = (count, width), (vocab_size, width), (vocab_size,)
        leaves = [(torch.randn(s, device=device) * 0.05).requires_grad_() for s in shapes]
        labels = torch.randint(vocab_size, (count,), device=device)
        ways = {name: partial(backward, loss, leaves, labels) for name, loss in losses.items()}
        ms = {name: 1e3 * t for name, t in median_seconds(ways, rounds, device).items()}
        mib = {name: allocated_at_most(run, device) / 2**20 for name, run in ways.items()}
        print_row(
            f"{count:,}",
            [
                f"{of[name]:,.{digits}f}"
                + (f" ({of[name] / of[PEER]:.2f})" if name != PEER else "")
                for of, digits in ((ms, 1), (mib, 0))
                for name in losses
            ],
        )
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(main())
