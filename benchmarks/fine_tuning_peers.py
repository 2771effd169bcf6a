"""Fine-tuning as transformers does it, on padded batches: its Trainer, and the same loop by hand.

Both take the examples in an order that is given, so that they can be held against ours.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Feature = dict[str, Any]
Collate = Callable[[list[Feature]], dict[str, Tensor]]
# The Trainer needs the package.
HAS_TRAINER = importlib.util.find_spec("accelerate") is not None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model of transformers and how it is fine-tuned: AdamW, a linear warmup, a linear decay.

    Args:
        features: what the tokenizer makes of each example, with its labels.
        collate: pads some of them to a batch.
        orders: of the examples, one for each epoch.
    """

    model: nn.Module
    features: Sequence[Feature]
    collate: Collate
    orders: Sequence[Sequence[int]]
    batch_size: int
    lr: float
    weight_decay: float
    warmup: int = 0
    bf16: bool = False

    def by_hand(self, device: torch.device) -> list[float]:
        """The loss of every update, without the Trainer."""
        model = self.model.to(device).train()
        batches = [
            order[begin : begin + self.batch_size]
            for order in self.orders
            for begin in range(0, len(order), self.batch_size)
        ]
        optimizer = torch.optim.AdamW(_groups(model), lr=self.lr, weight_decay=self.weight_decay)
        schedule = transformers.get_linear_schedule_with_warmup(
            optimizer, self.warmup, len(batches)
        )
        losses = []
        for batch in batches:
            found = self.collate([dict(self.features[i]) for i in batch])
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                loss = model(**{name: value.to(device) for name, value in found.items()}).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    def by_trainer(self, folder: Path, device: torch.device) -> list[float]:
        """The loss of every update, with what the Trainer does by default but save and report."""
        losses: list[Tensor] = []
        left = iter(self.orders)
        count = len(self.features)

        class InOrder(torch.utils.data.Sampler[int]):
            def __iter__(self) -> Iterator[int]:
                return iter(next(left))

            def __len__(self) -> int:
                return count

        class Recording(transformers.Trainer):
            def _get_train_sampler(self, *_: Any) -> Any:
                return InOrder()

            def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
                found = super().compute_loss(*args, **kwargs)
                losses.append(found.detach())
                return found

        arguments = transformers.TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=len(self.orders),
            per_device_train_batch_size=self.batch_size,
            learning_rate=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup,
            lr_scheduler_type="linear",
            max_grad_norm=0.0,
            bf16=self.bf16,
            use_cpu=device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        Recording(
            model=self.model,
            args=arguments,
            train_dataset=list(self.features),  # type: ignore[arg-type]
            data_collator=self.collate,  # type: ignore[arg-type]
        ).train()
        return torch.stack(losses).tolist()


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Norms and biases are not decayed."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
