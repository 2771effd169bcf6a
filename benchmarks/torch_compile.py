"""What does torch.compile gain? Forward and backward of one micro-batch, compiled against eager.

    python -m benchmarks.torch_compile [RECIPE] [key=value ...]

The recipe names the model, the row length, the micro-batch and the precision; the corpus is not
needed: documents have web-like lengths. Both models run in turn in one process; the ratio is of the
medians. On the machine's GPU where there is one, else on its CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measuring import packed_batch, seconds, this_device
from benchmarks.packing import cut, web_documents
from flexbert.config.recipe import Recipe
from flexbert.data.packing.best_fit import enough_sequences
from flexbert.nn.build import build_model
from flexbert.nn.compilation import compile_model
from flexbert.nn.loss import LossFunction
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch
from flexbert.recipes import load_recipe


def microbatches(
    recipe: Recipe, count: int, device: torch.device
) -> list[tuple[PackedBatch, Tensor]]:
    """Rows filled one chunk after the other, the last chunk of each cut to fit."""
    data = recipe.data
    chunks = cut(web_documents(270, 20_000), data.max_length)
    capacity = enough_sequences(chunks, data.row_length) * recipe.batch.microbatch_rows
    made, taken = [], iter(chunks.tolist())
    for _ in range(count):
        lengths: list[int] = []
        for _ in range(recipe.batch.microbatch_rows):
            room = data.row_length
            while room:
                lengths.append(min(next(taken), room))
                room -= lengths[-1]
        lengths = lengths[:capacity] + [0] * (capacity - len(lengths))
        num_tokens = sum(lengths)
        packed = packed_batch(lengths, recipe.model.vocab_size, device, data.max_length)
        masked = torch.randperm(num_tokens)[: int(num_tokens * data.mask_rate)]
        made.append((packed, masked.sort().values.to(device)))
    return made


def step(
    model: MaskedLM, loss: LossFunction, batch: tuple[PackedBatch, Tensor], recipe: Recipe
) -> None:
    packed, masked = batch
    enabled = recipe.precision == "amp_bf16"
    with torch.autocast(packed.tokens.device.type, torch.bfloat16, enabled=enabled):
        logits = model.deferred_logits(packed, masked)
    loss(logits, packed.tokens[masked]).backward()
    model.zero_grad(set_to_none=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("yamls/quickstart.yaml"))
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--batches", type=int, default=15)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides, planning=True).first
    device = this_device()
    torch.manual_seed(0)
    eager, compiled = (build_model(recipe.model, device=device) for _ in range(2))
    begin = time.perf_counter()
    left_out = compile_model(compiled, recipe.precision == "amp_bf16")
    batches = microbatches(recipe, arguments.batches + 1, device)
    ways = {"eager": (eager, recipe.loss), "compiled": (compiled, recipe.loss.compiled())}
    for way in ways.values():
        step(*way, batches[0], recipe)
    took = time.perf_counter() - begin
    print(f"compiling and the first steps: {took:.0f} s; not compiled: {left_out or 'nothing'}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for batch in batches[1:]:
        for name, way in ways.items():
            times[name].append(seconds(lambda: step(*way, batch, recipe), device))  # noqa: B023
    medians = {name: statistics.median(values) for name, values in times.items()}
    tokens = statistics.mean(len(packed.tokens) for packed, _ in batches[1:])
    for name, median in medians.items():
        print(f"{name:<9} {median * 1e3:9.1f} ms a micro-batch, {tokens / median:12,.0f} tokens/s")
    print(f"compiled is {medians['eager'] / medians['compiled']:.2f} times as fast")


if __name__ == "__main__":
    main()
