"""How long does an optimizer's step take?

Each of FlexBERT's optimizers, built as the trainer builds it, against torch's AdamW in its three
forms and against torch-optimi's StableAdamW, on the parameters of one model with random gradients.
All take their steps in turn, in rounds; times are medians. ModernBERT-base on the machine's GPU
where there is one, else a model of 12 million parameters on its CPU.

    python -m benchmarks.optimizer [--smoke]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from optimi import StableAdamW
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.measuring import (
    median_seconds,
    print_environment,
    print_header,
    print_row,
    this_device,
)
from flexbert.components import register_all
from flexbert.config.registry import members
from flexbert.nn.build import build_model
from flexbert.recipes import load_recipe
from flexbert.train.cpu_memory import KEEP_ALL, keep_freed_blocks

YAMLS = Path(__file__).parent.parent / "yamls"
LR = 1e-4
CPU = ("model.num_layers=7", "model.vocab_size=32768")
SMOKE = ("model.num_layers=1", "model.vocab_size=256")
PEER, OPTIMI = "torch AdamW, fused", "optimi StableAdamW"


def recipe_options(device: torch.device, smoke: bool) -> tuple[Path, Sequence[str]]:
    """Which recipe names the model, and what else is said of it."""
    if device.type == "cuda" and not smoke:
        return YAMLS / "base.yaml", ()
    return YAMLS / "quickstart.yaml", SMOKE if smoke else CPU


def own(model: nn.Module, recipe: Path, overrides: Sequence[str]) -> dict[str, Optimizer]:
    """Every optimizer that a recipe can name."""
    register_all()
    optimizers = {}
    for name in sorted(members("optimizer")):
        chosen = [*overrides, f"optimizer={{name: {name}, lr: {LR}}}"]
        config = load_recipe(recipe, chosen, planning=True).first.optimizer
        optimizers[name] = config.build(model)
    return optimizers


def peers(model: nn.Module, device: torch.device) -> dict[str, Optimizer]:
    def adamw(fused: bool, foreach: bool) -> Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=LR, fused=fused, foreach=foreach)

    def stable_adamw(triton: bool, foreach: bool) -> Optimizer:
        # On the group, because optimi warns of foreach as an argument.
        group = {"params": list(model.parameters()), "triton": triton, "foreach": foreach}
        return StableAdamW([group], lr=LR, weight_decay=1e-5, decouple_lr=True)

    made = {
        "torch AdamW, for loop": adamw(fused=False, foreach=False),
        "torch AdamW, foreach": adamw(fused=False, foreach=True),
        PEER: adamw(fused=True, foreach=False),
        f"{OPTIMI}, for loop": stable_adamw(triton=False, foreach=False),
        f"{OPTIMI}, foreach": stable_adamw(triton=False, foreach=True),
    }
    if device.type == "cuda":
        made[f"{OPTIMI}, triton"] = stable_adamw(triton=True, foreach=False)
    return made


def state_bytes(optimizer: Optimizer) -> int:
    def tensors() -> Iterator[Tensor]:
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    return sum(tensor.nbytes for tensor in tensors())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--smoke", action="store_true", help="a tiny model, one round")
    arguments = parser.parse_args(argv)
    # As the trainer does for models of this size.
    keep_freed_blocks(KEEP_ALL)
    torch.manual_seed(0)
    device = this_device()
    recipe, overrides = recipe_options(device, arguments.smoke)
    config = load_recipe(recipe, overrides, planning=True).first.model
    model = build_model(config, device=device)
    # The same for all, parameters too: some write into gradients, but keep their size.
    for parameter in model.parameters():
        parameter.grad = 0.1 * torch.randn_like(parameter)
    count = sum(parameter.numel() for parameter in model.parameters())
    optimizers = {**own(model, recipe, overrides), **peers(model, device)}
    steps = {name: optimizer.step for name, optimizer in optimizers.items()}
    medians = median_seconds(steps, 1 if arguments.smoke else arguments.rounds, device)
    print(f"{count:,} parameters in {len(list(model.parameters()))} tensors\n")
    print_header("optimizer", ["ms a step", f"times {PEER}", "bytes of state a parameter"])
    for name, median in medians.items():
        of_state = state_bytes(optimizers[name]) / count
        cells = [f"{1e3 * median:.2f}", f"{median / medians[PEER]:.2f}", f"{of_state:.1f}"]
        print_row(name, cells)
    fastest = min(median for name, median in medians.items() if name.startswith(OPTIMI))
    print(
        f"\nstable_adamw is {fastest / medians['stable_adamw']:.2f} times as fast as the fastest of"
        " optimi's forms"
    )
    print_environment()
    return 0


if __name__ == "__main__":
    sys.exit(main())
