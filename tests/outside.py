"""Plugins for tests, written to folders that the project knows nothing of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flexbert.components import register_all
from flexbert.config import plugins, registry

PACKAGE = "theirs"
# PREFIX stands for the names that it registers.
SOURCE = '''
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD

from flexbert.config.callback import CallbackConfig
from flexbert.config.model import HeadConfig, MLPConfig, ModelConfig
from flexbert.config.optimizer import OptimizerConfig
from flexbert.config.registry import register
from flexbert.data.sampling.samplers import SamplerFactory
from flexbert.nn.projection import Decoder
from flexbert.optim.groups import keep_own_groups, parameter_groups


@register("PREFIX_mlp")
@dataclass(frozen=True, kw_only=True)
class Doubling(MLPConfig):
    factor: float = 2.0

    def build(self, hidden_size: int) -> nn.Module:
        return DoublingMLP(self.factor, hidden_size)


class DoublingMLP(nn.Module):
    def __init__(self, factor: float, size: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(size, size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.factor * self.linear(hidden)


@register("PREFIX_sgd")
@dataclass(frozen=True, kw_only=True)
class Momentum(OptimizerConfig):
    weight_decay: float = 0.0
    momentum: float = 0.9

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = SGD(parameter_groups(model, self), lr=self.lr, momentum=self.momentum)
        optimizer.register_load_state_dict_pre_hook(keep_own_groups)
        return optimizer

    def state_size(self, parameter: nn.Parameter, *, of_linear: bool) -> int:
        return parameter.numel()

    def hyperparameters(self, group: Any, multipliers: Any) -> Any:
        scale = multipliers.within(group)
        return {"lr": self.lr * scale.lr, "weight_decay": self.weight_decay * scale.weight_decay}


@register("PREFIX_order")
@dataclass(frozen=True, kw_only=True)
class InOrder(SamplerFactory):
    @property
    def shards_needed(self) -> int | None:
        return None

    def build(self, chunks: Any, key: Any, cache: Path) -> Any:
        return Order(chunks)


class Order:
    def __init__(self, chunks: Any) -> None:
        self.all = chunks

    def chunks(self, epoch: int, begin: int, end: int) -> Any:
        import numpy as np

        return np.arange(begin, end)

    def places(self, epoch: int, numbers: Any) -> Any:
        return numbers.astype("int64")

    def shards_from(self, epoch: int, begin: int, end: int) -> list[int]:
        documents, _, _ = self.all.locate(self.chunks(epoch, begin, end))
        return list(dict.fromkeys(self.all.split.shards_of(documents).tolist()))


@register("PREFIX_count")
@dataclass(frozen=True, kw_only=True)
class CountConfig(CallbackConfig):
    def build(self, run_folder: Path) -> Any:
        from composer import Callback

        class Count(Callback):
            updates = 0

            def batch_end(self, state: Any, logger: Any) -> None:
                self.updates += 1
                (run_folder / "count").write_text(str(self.updates))

            def state_dict(self) -> dict[str, Any]:
                return {"updates": self.updates}

            def load_state_dict(self, state: dict[str, Any]) -> None:
                self.updates = state["updates"]

        return Count()


@register("PREFIX_lm")
@dataclass(frozen=True, kw_only=True)
class BareConfig(HeadConfig):
    task: ClassVar[str] = "masked_lm"

    def build(self, model: ModelConfig) -> nn.Module:
        return Bare(model)


class Bare(nn.Module):
    """Hidden states against the token matrix, and nothing else."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.decoder = Decoder(model.vocab_size, model.hidden_size, tied=True, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden

    def logits(self, hidden: Tensor, token_matrix: Tensor) -> Any:
        return self.decoder(hidden, token_matrix)


@register("PREFIX_last")
@dataclass(frozen=True, kw_only=True)
class LastTokenConfig(HeadConfig):
    task: ClassVar[str] = "PREFIX_score"
    per_token: ClassVar[bool] = False

    def build(self, model: ModelConfig) -> nn.Module:
        return LastToken(model.hidden_size)


class LastToken(nn.Module):
    """A score for each sequence, of its last token."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, hidden: Tensor, packed: Any) -> Tensor:
        return self.score(hidden[packed.cu_seqlens[1:].long() - 1])
'''


def write_file(folder: Path, prefix: str = "mine") -> Path:
    """A plugin in one file, ``folder/PREFIX.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prefix}.py"
    path.write_text(SOURCE.replace("PREFIX", prefix))
    return path


def write_package(site: Path, version: str = "1.2") -> str:
    """An installed package ``theirs`` with the entry point ``their-blocks``, whose name it gives.

    It is what an installer leaves in a folder of the import path.
    """
    package, info = site / PACKAGE, site / f"their_blocks-{version}.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "blocks.py").write_text(SOURCE.replace("PREFIX", "theirs"))
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: their-blocks\nVersion: {version}\n"
    )
    (info / "top_level.txt").write_text("theirs\n")
    (info / "entry_points.txt").write_text("[flexbert.plugins]\ntheir-blocks = theirs.blocks\n")
    return "their-blocks"


@contextmanager
def forgotten_afterwards() -> Iterator[None]:
    """What is registered inside is gone at the end, as in a new process."""
    register_all()
    families = {family: dict(known) for family, known in registry._FAMILIES.items()}
    imported = dict(plugins._imported)
    try:
        yield
    finally:
        for family, known in families.items():
            registry._FAMILIES[family].clear()
            registry._FAMILIES[family].update(known)
        plugins._imported.clear()
        plugins._imported.update(imported)
        for module in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[module]
