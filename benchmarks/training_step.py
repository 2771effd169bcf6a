"""How fast is a training step, against transformers' ModernBertForMaskedLM?

One set of weights in both, one optimizer, one precision, the same documents masked alike: those of
our own training batches, from a random corpus of web-like lengths. Ours takes them as they come,
packed into rows. Transformers takes them padded to the longest of a batch: with the logits of every
token, or of masked tokens alone (``sparse_prediction``), in random order or bucketed by length. An
update is forward and backward of all its micro-batches and the optimizer's step; ways take turns,
some seconds each to warm up and one update that is timed; tables tell of all updates together, of
documents whose lengths are those of a large sample. Before that both compute the loss of one batch
in float32, which must agree.

    python -m benchmarks.training_step [--smoke] [--size 12m|base|large] [--max-length N]
        [--precision amp_bf16|fp32] [--compile] [--fastest] [--padded-batch N] [--rounds N]
        [--threads N]

On the machine's GPU where there is one, else on its CPU; there our trainer has the C library keep
the memory of freed tensors, which the peers have as their users do, and the fastest of them our way
too. Making batches is no part of the time. The last table is a profile of one of our updates.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measuring import (
    in_turn,
    print_environment,
    print_header,
    print_row,
    seconds,
    this_device,
)
from benchmarks.profiles import print_profile
from benchmarks.random_corpus import make_random_corpus
from benchmarks.training_batches import (
    Document,
    Part,
    by_length,
    documents_of,
    our_updates,
    padded,
    representative,
)
from flexbert.components import register_all
from flexbert.config.model import ModelConfig
from flexbert.config.training import IGNORE
from flexbert.devices.peak_flops import measured_peak_flops
from flexbert.errors import UserError, run_command
from flexbert.huggingface.importing import read_folder
from flexbert.huggingface.quiet import quiet_transformers
from flexbert.nn.compilation import compile_model
from flexbert.nn.flops import FORMULA, ModelCost, model_cost
from flexbert.nn.loss import CrossEntropyConfig, LossFunction
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch
from flexbert.optim.stable_adamw import StableAdamW
from flexbert.pretrained.load_model import filled_model
from flexbert.train.cpu_memory import GLIBC, KEEP_ALL, keep_freed_blocks

MASK_RATE = 0.3
MEAN_LENGTH = 270
OPTIMIZER = StableAdamW(lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=1e-5)
LOSS = CrossEntropyConfig()
OURS = "flexbert"
# So many times as much text is packed as is trained on.
POOL = 20
FASTEST_PEER = "transformers, sparse, bucketed"
# Every way's turn begins with updates of a micro-batch for so long: a training run has thousands of
# updates behind it, and here another way left memory as it had it.
WARMING_SECONDS = 5.0
# Largest difference of the two losses in float32, relative.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Size:
    """A ModernBERT's shape, and how much of it is trained at a time.

    Attributes:
        rows: of ``row_length`` tokens in an update.
        microbatch_rows: of those at a time.
        padded_batch: documents in a padded batch.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_length: int = 1024
    row_length: int = 8192
    rows: int = 2
    microbatch_rows: int = 1
    padded_batch: int = 16

    # As the random corpus has them: [UNK], [CLS], [SEP], [PAD] and [MASK] come last.
    @property
    def cls(self) -> int:
        return self.vocab_size - 4

    @property
    def pad(self) -> int:
        return self.vocab_size - 2


SIZES = {
    "12m": Size(32_768, 256, 7, 4, 384),
    "base": Size(50_368, 768, 22, 12, 1152, rows=24, microbatch_rows=12, padded_batch=96),
    "large": Size(50_368, 1024, 28, 16, 2624, rows=12, microbatch_rows=6, padded_batch=48),
}
SMOKE = Size(512, 32, 4, 2, 48, max_length=256, row_length=512, rows=8, padded_batch=4)


class Measured(NamedTuple):
    """Of an update: real tokens, their operations, tokens with padding, and its time."""

    tokens: int
    flops: float
    padded: int
    seconds: float


Loss = Callable[[nn.Module, Part, bool], Tensor]


@dataclass
class Way:
    """One way to train.

    Attributes:
        parts: an update's micro-batches, from ours and the same documents.
        loss: of a part, summed over its labels; with bfloat16 autocast or without.
        keep_below: see :func:`~flexbert.train.cpu_memory.keep_freed_blocks`.
    """

    model: nn.Module
    parts: Callable[[list[Part], list[Document]], list[Part]]
    loss: Loss
    autocast: bool
    optimizer: torch.optim.Optimizer
    keep_below: int = GLIBC
    measured: list[Measured] = field(default_factory=list)

    def update(self, parts: Sequence[Part], num_masked: int) -> None:
        for part in parts:
            (self.loss(self.model, part, self.autocast) / num_masked).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def our_loss(
    model: nn.Module, part: Part, autocast: bool, *, function: LossFunction = LOSS
) -> Tensor:
    packed = PackedBatch(
        part["input_ids"], part["cu_seqlens"], part["max_seqlen"], part["position_ids"]
    )
    assert isinstance(model, MaskedLM)
    with torch.autocast(packed.tokens.device.type, torch.bfloat16, enabled=autocast):
        logits = model.deferred_logits(packed, part["masked_positions"])
    return function(logits, part["labels"]) * part["num_masked"]


def their_loss(model: nn.Module, part: Part, autocast: bool) -> Tensor:
    with torch.autocast(part["input_ids"].device.type, torch.bfloat16, enabled=autocast):
        loss: Tensor = model(**part).loss
    return loss * (part["labels"] != IGNORE).sum()


def their_config(size: Size, *, sparse: bool) -> Any:
    from transformers import ModernBertConfig

    return ModernBertConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        intermediate_size=size.intermediate_size,
        max_position_embeddings=size.max_length,
        cls_token_id=size.cls,
        sep_token_id=size.cls + 1,
        pad_token_id=size.pad,
        bos_token_id=size.cls,
        eos_token_id=size.cls + 1,
        attn_implementation="sdpa",
        reference_compile=False,
        sparse_prediction=sparse,
    )


def ways_to_train(
    size: Size, device: torch.device, autocast: bool, compiled: bool
) -> tuple[ModelConfig, dict[str, Way]]:
    """Our model's config, and all ways; the models begin with the same weights."""
    from transformers import ModernBertForMaskedLM

    quiet_transformers()
    register_all()
    with tempfile.TemporaryDirectory() as folder:
        ModernBertForMaskedLM(their_config(size, sparse=False)).save_pretrained(folder)
        read = read_folder(Path(folder))
        ours = filled_model(read.config, read.state).to(device).train()
        dense, sparse = (
            ModernBertForMaskedLM.from_pretrained(folder, config=their_config(size, sparse=s))
            .to(device)
            .train()
            for s in (False, True)
        )

    def in_batches(order: Callable[[Sequence[Document]], Sequence[Document]]) -> Any:
        return lambda own, documents: padded(order(documents), size.padded_batch, size.pad)

    # As the trainer has it; peers have what their users have, and the fastest of them ours as well.
    kept = KEEP_ALL if device.type == "cpu" else GLIBC
    ways = {OURS: Way(ours, lambda own, _: own, our_loss, autocast, OPTIMIZER.build(ours), kept)}
    if compiled:
        model = copy.deepcopy(ours)
        left_out = compile_model(model, autocast)
        name = f"{OURS}, compiled" + (f" but for {', '.join(left_out)}" if left_out else "")
        loss = partial(our_loss, function=LOSS.compiled())
        ways[name] = Way(model, ways[OURS].parts, loss, autocast, OPTIMIZER.build(model), kept)
    for name, model, order in (
        ("transformers", dense, list),
        ("transformers, bucketed", dense, by_length),
        ("transformers, sparse", sparse, list),
        (FASTEST_PEER, sparse, by_length),
    ):
        ways[name] = Way(model, in_batches(order), their_loss, autocast, OPTIMIZER.build(model))
    if device.type == "cpu":
        name = f"{FASTEST_PEER}, with our memory"
        ways[name] = replace(ways[FASTEST_PEER], keep_below=KEEP_ALL, measured=[])
    return read.config, ways


def check_equal_losses(ways: dict[str, Way], own: list[Part], documents: list[Document]) -> None:
    """Raises: UserError if a way's mean loss in float32 differs from ours."""
    device = next(ways[OURS].model.parameters()).device
    found = {}
    for name, way in ways.items():
        parts = [to(device, part) for part in way.parts(own, documents)]
        with torch.no_grad():
            total = sum(float(way.loss(way.model, part, False)) for part in parts)
        found[name] = total / sum(int((d.labels != IGNORE).sum()) for d in documents)
    difference = max(abs(loss / found[OURS] - 1) for loss in found.values())
    if difference > TOLERANCE:
        raise UserError(f"not the same model, or not the same batches: losses {found}")
    print(f"loss of one update {found[OURS]:.6f}, the others' within {difference:.0e} of it")


def to(device: torch.device, part: Part) -> Part:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in part.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, help="base on a GPU, 12m on a CPU")
    parser.add_argument("--max-length", type=int, help="of documents; 1024")
    parser.add_argument("--precision", choices=["amp_bf16", "fp32"], default="amp_bf16")
    parser.add_argument("--compile", action="store_true", help="also ours, compiled")
    parser.add_argument("--fastest", action="store_true", help="against the fastest peer alone")
    parser.add_argument("--padded-batch", type=int, help="documents in a padded batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--smoke", action="store_true", help="a tiny model, one round")
    arguments = parser.parse_args(argv)
    device = this_device()
    size = SMOKE if arguments.smoke else SIZES[arguments.size or _default_size(device)]
    given = {"max_length": arguments.max_length, "padded_batch": arguments.padded_batch}
    size = replace(size, **{key: value for key, value in given.items() if value})
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    return run_command(lambda: compare(size, device, arguments))


def _default_size(device: torch.device) -> str:
    return "base" if device.type == "cuda" else "12m"


def compare(size: Size, device: torch.device, arguments: argparse.Namespace) -> int:
    rounds, warming = (1, 0.0) if arguments.smoke else (arguments.rounds, WARMING_SECONDS)
    autocast = arguments.precision == "amp_bf16"
    config, ways = ways_to_train(size, device, autocast, arguments.compile)
    if arguments.fastest:
        ways = {n: way for n, way in ways.items() if n.startswith((OURS, FASTEST_PEER))}
    ours = ways[OURS].model
    assert isinstance(ours, MaskedLM)
    cost = model_cost(ours, config)
    with tempfile.TemporaryDirectory() as folder:
        tokens = rounds * POOL * size.rows * size.row_length
        make_random_corpus(Path(folder), size.vocab_size, tokens, MEAN_LENGTH)
        updates_of_all = our_updates(
            Path(folder),
            max_length=size.max_length,
            row_length=size.row_length,
            mask_rate=MASK_RATE,
            rows=size.rows,
            microbatch_rows=size.microbatch_rows,
        )
        updates = representative(itertools.islice(updates_of_all, rounds * POOL), rounds)
        own = updates[0]
        check_equal_losses(ways, own, documents_of(own, size.cls))
        for number, own in enumerate(updates):
            for name in in_turn(ways, number):
                documents = documents_of(own, size.cls)
                ways[name].measured.append(
                    measure(ways[name], own, documents, cost, device, warming)
                )
    lengths = [len(d.input_ids) for own in updates for d in documents_of(own, size.cls)]
    peak = measured_peak_flops(device, torch.bfloat16 if autocast else torch.float32)
    parameters = sum(p.numel() for p in ours.parameters())
    print(
        f"{parameters / 1e6:.1f}M parameters, documents of at most {size.max_length} tokens, "
        f"{np.mean(lengths):.0f} on average;\n"
        f"{size.rows * size.row_length:,} tokens an update, {rounds} updates;\n"
        f"padded batches of {size.padded_batch} documents; mfu is {FORMULA} of real tokens a "
        f"second over the {peak / 1e12:.3f} TFLOP/s of plain products in {arguments.precision}\n"
    )
    print_ways(ways, peak)
    print()
    print_profile(lambda: ways[OURS].update([to(device, part) for part in own], 1), device)
    print_environment()
    return 0


def measure(
    way: Way,
    own: list[Part],
    documents: list[Document],
    cost: ModelCost,
    device: torch.device,
    warming_seconds: float,
) -> Measured:
    """One update, after some of a micro-batch that are not timed."""
    lengths = np.array([len(d.input_ids) for d in documents])
    num_masked = sum(int((d.labels != IGNORE).sum()) for d in documents)
    parts = [to(device, part) for part in way.parts(own, documents)]
    keep_freed_blocks(way.keep_below)
    begin = time.perf_counter()
    for part in itertools.cycle(parts):
        way.update([part], num_masked)
        if time.perf_counter() - begin >= warming_seconds:
            break
    tokens = int(lengths.sum())
    return Measured(
        tokens=tokens,
        flops=cost.flops(lengths, num_masked / tokens),
        padded=sum(part["input_ids"].numel() for part in parts),
        seconds=seconds(lambda: way.update(parts, num_masked), device),
    )


def print_ways(ways: dict[str, Way], peak: float) -> None:
    print_header("way", ["real tokens/s", "flexbert is", "padding", "mfu"])
    time = {name: sum(m.seconds for m in way.measured) for name, way in ways.items()}
    for name, way in ways.items():
        tokens = sum(m.tokens for m in way.measured)
        print_row(
            name,
            [
                f"{tokens / time[name]:,.0f}",
                f"{time[name] / time[OURS]:.2f} times as fast",
                f"{1 - tokens / sum(m.padded for m in way.measured):.1%}",
                f"{sum(m.flops for m in way.measured) / time[name] / peak:.1%}",
            ],
        )


if __name__ == "__main__":
    sys.exit(main())
