"""What does unpadding through the whole model gain, over unpadding in each layer and over none?

Forward and backward of GTE's encoder, in four ways with the same weights. FlexBERT unpads a batch
once, at the door. The same layers can gather the real tokens each for itself and scatter their
results back. A peer pads queries, keys and values in each layer, for attention alone; or computes
padding too.

Documents have web-like lengths up to 1024 and come in random order, 16 in a batch, padded to the
longest of them. First the hidden states of real tokens must agree, in float32; then the ways run in
turn, in rounds, in autocast to bfloat16. Times are medians, ratios are of them.

    python -m benchmarks.unpadding [--smoke] [--threads N] [--scale SCALE] [--backend auto|sdpa]

The backend is that of attention over real tokens alone: FlexBERT's best one, or the one that calls
what attends over padded tokens, torch's. On the machine's GPU where there is one, else on its CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.document_sets import padded_batches
from benchmarks.encoders import SCALES, Scale, flexbert_encoder, padded_encoder
from benchmarks.measuring import (
    median_seconds,
    print_environment,
    print_header,
    print_row,
    this_device,
    web_lengths,
)
from benchmarks.peers import GTE
from flexbert.config.backend_choice import AUTO
from flexbert.errors import UserError, run_command
from flexbert.nn.attention_backends import Request, resolve_backend
from flexbert.nn.encoder import Encoder
from flexbert.nn.packed_batch import pad, unpad
from flexbert.train.cpu_memory import KEEP_ALL, keep_freed_blocks

ONCE, IN_LAYERS, PADDED = "unpadded once", "unpadded in each layer", "padded"
PEERS = {
    "padded in each attention": replace(GTE, unpadding="around_attention"),
    PADDED: GTE,
}
BATCH_SIZE = 16
# Hidden states are of order one, after a dozen layers of sums of some thousand terms in float32.
TOLERANCE = 1e-4

# Token ids and masks of the real ones ``[B, T]``, and a gradient of hidden states ``[B, T, C]``.
Batch = tuple[Tensor, Tensor, Tensor]


class UnpaddedOnce(nn.Module):
    """FlexBERT's encoder on padded batches: the way in and the way out are part of it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states ``[B, T, C]``, zero at padding."""
        packed, indices = unpad(input_ids, attention_mask)
        return pad(self.encoder(packed), indices, *input_ids.shape)


class UnpaddedInLayers(nn.Module):
    """The same encoder, its hidden states padded between layers."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states ``[B, T, C]``, zero at padding."""
        encoder = self.encoder
        packed, indices = unpad(input_ids, attention_mask)

        def padded(hidden: Tensor) -> Tensor:
            return pad(hidden, indices, *input_ids.shape)

        def unpadded(hidden: Tensor) -> Tensor:
            return hidden.flatten(0, 1).index_select(0, indices)

        rotations = [rope(packed) for rope in encoder.ropes]
        hidden = padded(encoder.embedding(packed))
        for layer, rope in zip(encoder.layers, encoder.layer_ropes, strict=True):
            rotation = None if rope is None else rotations[rope]
            hidden = padded(layer(unpadded(hidden), packed, rotation))
        return padded(encoder.final_norm(unpadded(hidden)))


def all_ways(scale: Scale, backend: str, device: torch.device) -> dict[str, nn.Module]:
    """FlexBERT's encoder and its peers, with the same weights, without dropout."""
    ours = flexbert_encoder("gte-en-mlm-base", scale, f"model.attention.backend={backend}")
    peers = {
        name: padded_encoder(replace(config, backend=backend), scale)
        for name, config in PEERS.items()
    }
    for peer in peers.values():
        peer.load_state_dict(ours.state_dict())
    ways: dict[str, nn.Module] = {
        ONCE: UnpaddedOnce(ours),
        IN_LAYERS: UnpaddedInLayers(ours),
        **peers,
    }
    return {name: way.to(device).eval() for name, way in ways.items()}


def make_batches(
    documents: int, longest: int, vocab_size: int, hidden_size: int, device: torch.device
) -> list[Batch]:
    """Gradients are random at real tokens, zero at padding."""
    # Tokens enough for all, whatever their lengths.
    lengths = web_lengths(documents * longest, longest)[:documents]
    batches = []
    for input_ids, mask in padded_batches(lengths, BATCH_SIZE, vocab_size, device):
        direction = torch.randn(*mask.shape, hidden_size, device=device)
        batches.append((input_ids, mask, direction * mask[..., None]))
    return batches


@torch.no_grad()
def check_agreement(ways: Mapping[str, nn.Module], batches: Sequence[Batch]) -> float:
    """The largest difference of real tokens' hidden states from the padded way's.

    Raises:
        UserError: if it is not one of rounding.
    """
    largest = 0.0
    for input_ids, mask, _ in batches:
        states = {name: way(input_ids, mask)[mask] for name, way in ways.items()}
        largest = max(largest, *(float((x - states[PADDED]).abs().max()) for x in states.values()))
    if not largest <= TOLERANCE:
        raise UserError(f"hidden states differ by {largest:.1e}: these are not the same encoder")
    return largest


def forward_and_backward(way: nn.Module, batches: Sequence[Batch]) -> None:
    for input_ids, mask, direction in batches:
        with torch.autocast(input_ids.device.type, torch.bfloat16):
            hidden = way(input_ids, mask)
        hidden.backward(direction.to(hidden.dtype))
        way.zero_grad(set_to_none=True)


def main(argv: Sequence[str] | None = None) -> int:
    # As the trainer does for models of this size.
    keep_freed_blocks(KEEP_ALL)
    device = this_device()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", choices=list(SCALES))
    parser.add_argument("--documents", type=int, default=4 * BATCH_SIZE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", choices=[AUTO, "sdpa"], default=AUTO)
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--smoke", action="store_true", help="a tiny encoder, short documents")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    scale = arguments.scale or ("base" if device.type == "cuda" else "small")
    documents, rounds, longest = arguments.documents, arguments.rounds, 1024
    if arguments.smoke:
        scale, documents, rounds, longest = "tiny", 2 * BATCH_SIZE, 1, 64
    sizes = SCALES[scale]
    ways = all_ways(sizes, arguments.backend, device)
    vocab_size = sizes.vocab_size or GTE.vocab_size
    batches = make_batches(documents, longest, vocab_size, sizes.bert.hidden_size, device)
    difference = check_agreement(ways, batches)

    head_dim = sizes.bert.hidden_size // sizes.bert.num_heads
    backend = resolve_backend(arguments.backend, Request(device, torch.bfloat16, head_dim)).name
    real = sum(int(mask.sum()) for _, mask, _ in batches)
    padding = 1 - real / sum(mask.numel() for _, mask, _ in batches)
    parameters = sum(parameter.numel() for parameter in ways[PADDED].parameters())
    print(
        f"real tokens a second, forward and backward of {parameters:,} parameters over {documents}"
        f" documents in batches of {BATCH_SIZE};\n{padding:.1%} of a padded batch is padding;"
        f" attention over real tokens alone: {backend};\nhidden states in float32 differ by"
        f" {difference:.1e} at most; in brackets: how many times as fast it is unpadded once\n"
    )
    medians = median_seconds(
        {name: partial(forward_and_backward, way, batches) for name, way in ways.items()},
        rounds,
        device,
    )
    print_header("way", ["tokens/s"])
    for name, median in medians.items():
        times = "" if name == ONCE else f" ({median / medians[ONCE]:.2f} times)"
        print_row(name, [f"{real / median:,.0f}{times}"])
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
