"""Does cost grow as it should: with the documents' length, their number, and the model's size?

Forward and backward of an encoder without a head in bfloat16 autocast, and the bytes that autograd
keeps between the two: by the length of documents, with as many tokens in all, for local layers,
global ones and ModernBERT's mixture of a global and two local ones; by the number of documents; and
by the model's size, held against plain matrix products. What is compared runs in turn, in rounds;
times are medians. On the machine's GPU where there is one, else on its CPU.

    python -m benchmarks.growth [--smoke] [--picture FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import (
    line,
    median_seconds,
    packed_batch,
    print_environment,
    print_header,
    print_row,
    this_device,
)
from flexbert.config.layer_plan import layer_plan
from flexbert.devices.peak_flops import measured_peak_flops
from flexbert.nn.build import build_model
from flexbert.nn.encoder import Encoder
from flexbert.nn.flops import ModelCost
from flexbert.pictures import BLUE, GREY, RED
from flexbert.pictures import picture as drawn
from flexbert.plan.memory import kept_for_backward
from flexbert.recipes import load_recipe
from flexbert.train.cpu_memory import KEEP_ALL, keep_freed_blocks

RECIPE = Path(__file__).parent.parent / "yamls" / "quickstart.yaml"
VOCAB_SIZE = 1024
WINDOW = 128
# Of a model with a global layer in three: as many layers of one kind or the other.
MIXTURE = "mixture"
LAYERS = {"local": (1, 2, 4), "global": (0, 3, 6), MIXTURE: (0, 1, 2)}
# In the picture: narrower from one to the next, so that all are seen where they are the same.
LINES = {"local": (BLUE, 5.0), "global": (RED, 3.0), MIXTURE: (GREY, 1.5)}
DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        hidden_size: of the model by documents' length and number.
        tokens: in the batch by documents' length.
        lengths: of documents.
        length: of the documents of which there are ever more, and by the model's size.
        numbers: tokens of those documents in all.
        sizes: hidden sizes and layers, each with ``size_tokens`` tokens.
        matrix: rows and columns of the products that rates are held against; None is the device's.
    """

    hidden_size: int
    tokens: int
    lengths: tuple[int, ...]
    length: int
    numbers: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    size_tokens: int
    matrix: int | None = None


CPU = Scale(
    hidden_size=256,
    tokens=8192,
    lengths=tuple(2**i for i in range(6, 14)),
    length=512,
    numbers=tuple(2**i for i in range(10, 15)),
    sizes=((128, 4), (256, 7), (512, 10), (768, 12)),
    size_tokens=2048,
)
GPU = replace(
    CPU,
    hidden_size=768,
    tokens=65_536,
    numbers=tuple(2**i for i in range(13, 18)),
    size_tokens=65_536,
)
SMOKE = Scale(
    hidden_size=64,
    tokens=256,
    lengths=(64, 128, 256),
    length=64,
    numbers=(64, 128, 256),
    sizes=((64, 1), (128, 2)),
    size_tokens=128,
    matrix=256,
)


class Model:
    """An encoder with 64 channels a head, of those layers alone that ``layers`` names."""

    def __init__(
        self, hidden_size: int, num_layers: int, layers: Iterable[int], device: torch.device
    ) -> None:
        overrides = [
            f"model={{vocab_size: {VOCAB_SIZE}, hidden_size: {hidden_size}}}",
            f"model.num_layers={num_layers}",
            f"model.attention.num_heads={hidden_size // 64}",
            f"model.attention.windows.repeat=[global, {WINDOW}, {WINDOW}]",
            f"model.mlp.intermediate_size={3 * hidden_size // 2}",
            # Otherwise the first layer were cheaper than others of its kind.
            "model.block.skip_first_norm=false",
        ]
        config = load_recipe(RECIPE, overrides, planning=True).first.model
        plan, indices = layer_plan(config), tuple(layers)
        self.plan = [plan[index] for index in indices]
        self.hidden_size = hidden_size
        self.encoder: Encoder = build_model(config, device=device).encoder
        self.encoder.layers = nn.ModuleList(self.encoder.layers[index] for index in indices)
        self.encoder.layer_ropes = [self.encoder.layer_ropes[index] for index in indices]

    def flops(self, length: int) -> float:
        """Of a token's forward and backward in documents of this length."""
        matrices = (p.numel() for p in self.encoder.layers.parameters() if p.ndim >= 2)
        cost = ModelCost(
            encoder_matrices=sum(matrices),
            head_matrices=0,
            attention=tuple((layer.attention_size, layer.window) for layer in self.plan),
        )
        return cost.flops_per_token(np.array([length]), 0.0)


class Pass:
    """A forward and backward pass of a model over documents of one length."""

    def __init__(self, model: Model, length: int, tokens: int, device: torch.device) -> None:
        self.model = model
        self.tokens = tokens
        self.packed = packed_batch(np.full(tokens // length, length), VOCAB_SIZE, device)
        # The same for every token: one for each would be held for every pass.
        self.gradient = torch.randn(model.hidden_size, device=device)

    def forward(self) -> Tensor:
        with torch.autocast(self.packed.tokens.device.type, DTYPE):
            return self.model.encoder(self.packed)

    def __call__(self) -> None:
        hidden = self.forward()
        hidden.backward(self.gradient.to(hidden.dtype).expand_as(hidden))
        self.model.encoder.zero_grad(set_to_none=True)

    def kept(self) -> int:
        """Bytes that autograd keeps for the backward."""
        return kept_for_backward(self.model.encoder, self.forward)


def by_length(scale: Scale, rounds: int, device: torch.device, picture: Path | None) -> list[str]:
    models = {name: Model(scale.hidden_size, 7, layers, device) for name, layers in LAYERS.items()}
    passes = {
        (name, length): Pass(model, length, scale.tokens, device)
        for length in scale.lengths
        for name, model in models.items()
    }
    kept = {key: each.kept() / scale.tokens for key, each in passes.items()}
    medians = median_seconds(passes, rounds, device)
    micros = {key: 1e6 * median / scale.tokens for key, median in medians.items()}
    print(
        f"\n{scale.tokens:,} tokens, 3 layers of {scale.hidden_size} channels: microseconds a token"
        " and bytes kept for its backward\n"
    )
    print_header("documents of", [*(f"{n}, us" for n in LAYERS), *(f"{n}, bytes" for n in LAYERS)])
    for length in scale.lengths:
        cells = [f"{micros[name, length]:.1f}" for name in LAYERS]
        print_row(str(length), [*cells, *(f"{kept[name, length]:,.0f}" for name in LAYERS)])
    if picture is not None:
        draw(scale.lengths, micros, kept, picture)
    longest, local = scale.lengths[-1], models["local"]
    verdicts = [
        f"local layers: {longest}-token documents cost"
        f" {micros['local', longest] / micros['local', WINDOW]:.2f} times as much per token as"
        f" {WINDOW}-token ones, by FLOPs {local.flops(longest) / local.flops(WINDOW):.2f} times"
    ]
    for name, title in (("global", "global layers"), (MIXTURE, MIXTURE)):
        a, b, deviation = line(scale.lengths, [micros[name, n] for n in scale.lengths])
        by_flops = line(scale.lengths, [models[name].flops(n) for n in scale.lengths])
        equal = f"{a / b:,.0f} tokens" if b > 0 else "no length"
        verdicts.append(
            f"{title}: {a:.2f} us {b:+.5f} us x length, at most {deviation:.0%} off; length"
            f" costs as much as the rest at {equal}, by FLOPs at {by_flops[0] / by_flops[1]:,.0f}"
        )
    spread = max(max(v) / min(v) for v in ([kept[n, i] for i in scale.lengths] for n in LAYERS))
    return [*verdicts, f"kept per token: {spread:.3f} times from the least to the most, by length"]


def by_number(scale: Scale, rounds: int, device: torch.device) -> list[str]:
    model = Model(scale.hidden_size, 7, LAYERS[MIXTURE], device)
    passes = {n: Pass(model, scale.length, n, device) for n in scale.numbers}
    kept = {n: each.kept() for n, each in passes.items()}
    medians = median_seconds(passes, rounds, device)
    print(f"\ndocuments of {scale.length} tokens, the same model's {MIXTURE}\n")
    print_header("tokens", ["documents", "us a token", "bytes kept a token"])
    for n in scale.numbers:
        cells = [str(n // scale.length), f"{1e6 * medians[n] / n:.1f}", f"{kept[n] / n:,.0f}"]
        print_row(f"{n:,}", cells)
    a, b, deviation = line(scale.numbers, list(medians.values()))
    fixed, each, off = line(scale.numbers, list(kept.values()))
    return [
        f"number of documents: {1e3 * a:.2f} ms + {1e6 * b:.2f} us x tokens, at most"
        f" {deviation:.0%} off; {fixed / 2**20:.2f} MiB + {each:,.0f} bytes x tokens are kept, at"
        f" most {off:.1%} off (the first part: weights in bfloat16)"
    ]


def by_size(scale: Scale, rounds: int, device: torch.device) -> list[str]:
    passes = {
        (size, depth): Pass(
            Model(size, depth, range(depth), device), scale.length, scale.size_tokens, device
        )
        for size, depth in scale.sizes
    }
    medians = median_seconds(passes, rounds, device)
    peak = measured_peak_flops(device, DTYPE, scale.matrix)
    print(f"\n{scale.size_tokens:,} tokens in documents of {scale.length}\n")
    header = ["layers", "MFLOP a token", "us a token", "GFLOP/s", "of matrix products'"]
    print_header("hidden size", header)
    shares = []
    for (hidden_size, num_layers), each in passes.items():
        flops = each.model.flops(scale.length)
        seconds = medians[hidden_size, num_layers] / each.tokens
        shares.append(flops / seconds / peak)
        numbers = f"{flops / 1e6:.1f}", f"{1e6 * seconds:.1f}", f"{flops / seconds / 1e9:,.0f}"
        print_row(str(hidden_size), [str(num_layers), *numbers, f"{shares[-1]:.0%}"])
    return [
        f"size: from {shares[0]:.0%} (hidden size {scale.sizes[0][0]}) to {shares[-1]:.0%}"
        f" ({scale.sizes[-1][0]}) of the {peak / 1e9:,.0f} GFLOP/s of plain matrix products"
    ]


def draw(
    lengths: Sequence[int],
    micros: Mapping[tuple[str, int], float],
    kept: Mapping[tuple[str, int], float],
    file: Path,
) -> None:
    """Time and memory per token by documents' length, side by side."""
    panels = (
        (micros, "microseconds a token, forward and backward"),
        (kept, "bytes a token kept for the backward"),
    )
    with drawn(file, width=9, height=3.8) as figure:
        for axes, (values, title) in zip(figure.subplots(1, 2), panels, strict=True):
            for name, (color, width) in LINES.items():
                of_name = [values[name, length] for length in lengths]
                axes.plot(lengths, of_name, color=color, linewidth=width, label=name)
            axes.set_xscale("log", base=2)
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.set_xlabel("tokens in a document")
            axes.set_ylim(0, 1.1 * max(values.values()))
            axes.set_title(title)
            axes.legend(frameon=False)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="few tokens, one round")
    parser.add_argument("--picture", type=Path, help="where to draw cost by documents' length")
    arguments = parser.parse_args(argv)
    # As the trainer does for models of this size.
    keep_freed_blocks(KEEP_ALL)
    torch.manual_seed(0)
    device = this_device()
    scale, rounds = (GPU if device.type == "cuda" else CPU), arguments.rounds
    if arguments.smoke:
        scale, rounds = SMOKE, 1
    verdicts = [
        *by_length(scale, rounds, device, arguments.picture),
        *by_number(scale, rounds, device),
        *by_size(scale, rounds, device),
    ]
    print("", *verdicts, sep="\n")
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(main())
