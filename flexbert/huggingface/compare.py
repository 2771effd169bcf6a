"""Whether two implementations of a model give the same logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.errors import UserError, first_line
from flexbert.huggingface.family import CHOICE, Family
from flexbert.huggingface.quiet import quiet_transformers
from flexbert.nn.padded import PaddedModel
from flexbert.nn.rope_scaling import DynamicNTKScaling

# Largest difference, as a share of the largest logit: rounding in float32 through many layers.
TOLERANCE = 1e-4
# Documents of the sample reach beyond a window where the model has windows, but no further.
LONGEST = 512
NUM_CHOICES = 2


@dataclass(frozen=True)
class Sample:
    """Random documents of very different lengths, padded on the right ``[B, T]``; for multiple
    choice ``[B, choices, T]``."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None

    def inputs(self) -> dict[str, Tensor]:
        types = {} if self.token_type_ids is None else {"token_type_ids": self.token_type_ids}
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, **types}


def sample(model: ModelConfig, max_length: int, pad_id: int | None) -> Sample:
    """The same documents every time, without a pad token inside."""
    generator = torch.Generator().manual_seed(0)
    scaling = getattr(getattr(model.attention, "rope", None), "scaling", None)
    if isinstance(scaling, DynamicNTKScaling):
        # Beyond it, theirs scales a document by the longest of its batch, ours by itself.
        max_length = min(max_length, scaling.original_length)
    windows = [layer.window for layer in layer_plan(model) if layer.window is not None]
    length = min(max_length, LONGEST, max([64, *(window + 16 for window in windows)]))
    lengths = [length, max(1, length // 3), 1, max(1, length - 1)]
    shape = (len(lengths), length)
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(max(1, model.vocab_size - 1), shape, generator=generator)
    if pad_id is not None and 0 <= pad_id < model.vocab_size:
        ids = torch.where(mask.bool(), ids + (ids >= pad_id), pad_id)
    num_types = getattr(model.embedding, "token_types", 0)
    types = torch.randint(num_types, shape, generator=generator) if num_types > 1 else None
    if model.head.task == CHOICE:
        ids, mask = ids.view(-1, NUM_CHOICES, length), mask.view(-1, NUM_CHOICES, length)
        types = None if types is None else types.view(ids.shape)
    return Sample(ids, mask, types)


def load_theirs(
    folder: Path, family: Family, task: str, *, tied: bool, config: Any = None
) -> nn.Module:
    """A folder's model as transformers loads it, in float32 with its ``sdpa`` attention.

    Args:
        tied: whether the decoder is the embedding.
        config: instead of the folder's own, where this transformers would misread that.

    Raises:
        UserError: if it cannot be loaded, or not every weight is in the folder.
    """
    import transformers

    kwargs = {} if config is None else {"config": config}
    try:
        with quiet_transformers():
            model, info = getattr(transformers, family.classes[task]).from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **kwargs,
            )
    # Its loader raises all kinds of errors for what it does not like.
    except Exception as error:
        raise UserError(f"{folder}: transformers cannot load it ({first_line(error)})") from None
    # transformers 4.57 wrote a tensor once that 5 has twice where nothing is tied.
    repeated = family.repeated(task, tied)
    zeros = set(family.zero_biases.values())
    if missing := sorted(set(info["missing_keys"]) - repeated.keys() - zeros):
        raise UserError(f"{folder}: transformers misses {', '.join(missing[:5])}")
    for name in info["missing_keys"]:
        parameter = model.get_parameter(name)
        if name in repeated:
            parameter.data = model.get_parameter(repeated[name]).data
        else:
            nn.init.zeros_(parameter)
    loaded: nn.Module = model.eval()
    return loaded


def logits_of(output: Any) -> Tensor:
    """What a model of transformers returns as logits; those of answers ``[B, T, 2]``."""
    if "start_logits" in output:
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    logits: Tensor = output.logits
    return logits


@torch.no_grad()
def compare_logits(ours: PaddedModel, theirs: nn.Module, documents: Sample) -> float:
    """The largest difference of their logits, as a share of the largest logit.

    Raises:
        UserError: if they are not the same numbers, or no numbers.
    """
    inputs = documents.inputs()
    with quiet_transformers():
        expected = logits_of(theirs(**inputs))
        actual = ours.eval()(**inputs)
    if ours.config.head.per_token:
        is_real = documents.attention_mask.bool()
        expected, actual = expected[is_real], actual[is_real]
    if not (expected.isfinite().all() and actual.isfinite().all()):
        raise UserError("logits are no finite numbers: the weights are damaged")
    scale = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    difference = float((actual - expected).abs().max() / scale)
    if difference > TOLERANCE:
        raise UserError(
            f"logits of FlexBERT and transformers differ by {difference:.2g} of their scale, "
            f"{TOLERANCE:g} would be rounding: the two do not mean the same model"
        )
    return difference
