"""How fast is inference with FlexBERT's ModernBERT, against other encoders?

The document sets are the ModernBERT paper's (arXiv 2412.13663): all of 512 or of 8192 tokens, or of
normally distributed lengths with half of that as mean and an eighth as deviation. Encoders without
heads, of random weights and not compiled, read all documents of a set in turn, in rounds; times are
medians, ratios are of them. Documents come in random order. FlexBERT takes them end to end, the
others pad them to the longest of a batch; each has the batch size that was its fastest in a trial.

    python -m benchmarks.inference [--smoke] [--threads N] [--scale SCALE] [--sets SET ...]

On the machine's GPU where there is one: base encoders, 8192 documents a set and ten runs, as in the
paper, which takes hours. Else on its CPU: small ones, few documents, three runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.document_sets import SETS, packed_batches, padded_batches, token_budget
from benchmarks.encoders import SCALES, Scale, flexbert_encoder, peers
from benchmarks.measuring import (
    median_seconds,
    print_environment,
    print_header,
    print_row,
    seconds,
    this_device,
)
from flexbert.errors import UserError, run_command
from flexbert.nn.attention_backends import Request, resolve_backend

OURS = "flexbert"
NOT_RUN = "–"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
# A batch size is tried on as many documents, or on one batch where that holds more.
TRIAL_DOCUMENTS = 64
# At the scale without a common vocabulary: ids that every encoder knows.
COMMON_IDS = 30_000


@dataclass(frozen=True)
class Settings:
    """What is run where the command line says nothing; documents by a set's longest."""

    scale: str
    runs: int
    documents: Mapping[int, int]
    length_divisor: int = 1


PAPERS = Settings("base", 10, {512: 8192, 8192: 8192})
ON_A_CPU = Settings("small", 3, {512: 16, 8192: 2})
SMOKE = Settings("tiny", 1, {512: 5, 8192: 2}, length_divisor=16)


@dataclass(frozen=True)
class Entrant:
    """An encoder, and how it gets its documents.

    Attributes:
        batches: of documents of these lengths, about so many in each; what the encoder is called
            with.
        attention: how it is computed.
        max_length: the longest document it can read, None without such a limit.
    """

    encoder: nn.Module
    batches: Callable[[np.ndarray, int], Sequence[Sequence[object]]]
    attention: str
    max_length: int | None

    def read(self, batches: Sequence[Sequence[object]]) -> None:
        with torch.inference_mode():
            for batch in batches:
                self.encoder(*batch)


def entrants(
    names: Sequence[str], scale: Scale, dtype: torch.dtype, device: torch.device
) -> dict[str, Entrant]:
    """FlexBERT first, then the peers of these names."""
    batch = {"vocab_size": scale.vocab_size or COMMON_IDS, "device": device}
    head_dim = scale.modernbert.hidden_size // scale.modernbert.num_heads
    backend = resolve_backend("auto", Request(device, dtype, head_dim, windowed=True)).name
    ours = flexbert_encoder("modernbert-base", scale).to(device, dtype).eval()
    found = {OURS: Entrant(ours, partial(packed_batches, **batch), backend, None)}
    for name, peer in peers(device).items():
        if name in names:
            theirs = peer.build(scale).to(device, dtype).eval()
            found[name] = Entrant(
                theirs, partial(padded_batches, **batch), peer.attention or backend, peer.max_length
            )
    return found


def batch_sizes(documents: int, factor: int) -> list[int]:
    """1, its products with ``factor`` again and again, and all documents at once."""
    sizes = [1]
    while sizes[-1] * factor < documents:
        sizes.append(sizes[-1] * factor)
    return sizes if documents == 1 else [*sizes, documents]


def best_size(sizes: Sequence[int], speed: Callable[[int], float]) -> int:
    """The fastest of growing batch sizes, up to the last that fits into the GPU's memory.

    Raises:
        UserError: if not even the first fits.
    """
    speeds: dict[int, float] = {}
    for size in sizes:
        try:
            speeds[size] = speed(size)
        except torch.cuda.OutOfMemoryError:
            break
    torch.cuda.empty_cache()
    if not speeds:
        raise UserError(f"a batch of {sizes[0]} does not fit into the GPU's memory")
    return max(speeds, key=speeds.__getitem__)


def trial_speed(entrant: Entrant, lengths: np.ndarray, device: torch.device, size: int) -> float:
    """Real tokens a second over the first documents, ``size`` of them in a batch."""
    # What needs most memory must fit; where that is no question, something short warms up.
    ascending = np.sort(lengths)
    entrant.read(
        entrant.batches(ascending[-size:] if device.type == "cuda" else ascending[:1], size)
    )
    some = lengths[: max(size, TRIAL_DOCUMENTS)]
    return int(some.sum()) / seconds(partial(entrant.read, entrant.batches(some, size)), device)


def measure(
    found: Mapping[str, Entrant], lengths: np.ndarray, runs: int, device: torch.device
) -> tuple[dict[str, float], dict[str, int]]:
    """Of each entrant, real tokens a second and the documents of a batch."""
    candidates = batch_sizes(len(lengths), factor=2 if device.type == "cuda" else 4)
    sizes, ways = {}, {}
    for name, entrant in found.items():
        sizes[name] = best_size(candidates, partial(trial_speed, entrant, lengths, device))
        ways[name] = partial(entrant.read, entrant.batches(lengths, sizes[name]))
    medians = median_seconds(ways, runs, device)
    return {name: int(lengths.sum()) / median for name, median in medians.items()}, sizes


def speed_cell(name: str, speeds: Mapping[str, float]) -> str:
    if name not in speeds:
        return NOT_RUN
    times = "" if name == OURS else f" ({speeds[OURS] / speeds[name]:.2f} times)"
    return f"{speeds[name] / 1e3:.2f}{times}"


def size_cell(name: str, sizes: Mapping[str, int], lengths: np.ndarray) -> str:
    if name not in sizes:
        return NOT_RUN
    if name == OURS:
        return f"{token_budget(lengths, sizes[name]):,} tokens"
    return f"{sizes[name]:,}"


def main(argv: Sequence[str] | None = None) -> int:
    device = this_device()
    known = list(peers(device))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", choices=known, default=known, metavar="MODEL")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), metavar="SET")
    parser.add_argument("--scale", choices=list(SCALES))
    parser.add_argument("--documents", type=int, help="of each set")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--smoke", action="store_true", help="tiny encoders, short documents")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    settings = SMOKE if arguments.smoke else PAPERS if device.type == "cuda" else ON_A_CPU
    scale, runs = arguments.scale or settings.scale, arguments.runs or settings.runs
    sets = {
        name: SETS[name].lengths(
            arguments.documents or settings.documents[SETS[name].max_length],
            settings.length_divisor,
        )
        for name in arguments.sets
    }
    found = entrants(arguments.models, SCALES[scale], DTYPES[arguments.dtype], device)
    print(
        f"thousands of real tokens a second, {scale} encoders in {arguments.dtype}, medians of"
        f" {runs} run(s);\nin brackets: how many times as fast {OURS} is;"
        f" {NOT_RUN}: no positions for such lengths\n"
    )
    results = {}
    for name, lengths in sets.items():
        limit = SETS[name].max_length
        able = {key: one for key, one in found.items() if (one.max_length or limit) >= limit}
        results[name] = measure(able, lengths, runs, device)
    print_header("encoder", ["parameters", "attention", *sets])
    for name, entrant in found.items():
        parameters = sum(parameter.numel() for parameter in entrant.encoder.parameters())
        cells = [speed_cell(name, speeds) for speeds, _ in results.values()]
        print_row(name, [f"{parameters:,}", entrant.attention, *cells])
    print(f"\ndocuments, and of them in a batch; {OURS} fills batches with up to as many tokens\n")
    print_header("encoder", list(sets))
    whole = (f"{len(of):,} of {of.mean():,.0f} tokens on average" for of in sets.values())
    print_row("documents", list(whole))
    for name in found:
        print_row(name, [size_cell(name, results[key][1], of) for key, of in sets.items()])
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
