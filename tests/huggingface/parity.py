"""Whether a model computes what transformers computes with the same weights."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from flexbert.config.model import ModelConfig
from flexbert.huggingface.compare import logits_of
from flexbert.huggingface.family import is_tied
from flexbert.huggingface.parameter_names import their_names
from flexbert.nn.packed_batch import PackedBatch, unpad
from flexbert.nn.padded import PaddedModel
from tests.huggingface.cases import padded_batch, random_model, their_model
from tests.nn.tolerances import assert_same


def float64_norms(module: nn.Module) -> None:
    """Their RMSNorm computes in float32 whatever the model's dtype; torch's own does not."""
    for name, child in module.named_children():
        if type(child).__name__.endswith("RMSNorm"):
            norm = nn.RMSNorm(len(child.weight), eps=child.variance_epsilon).double()
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)


def written_gradients(theirs: nn.Module) -> dict[str, Tensor]:
    """Their gradients by the names, and in the arrangement, that weights have in a folder."""
    for parameter in theirs.parameters():
        grad = parameter.grad
        parameter.data = torch.zeros_like(parameter) if grad is None else grad
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)  # type: ignore[operator]
        return load_file(Path(folder) / "model.safetensors")


def with_capacity(packed: PackedBatch) -> PackedBatch:
    """The same documents as a row of fixed capacity: padding and empty sequences at its end."""
    rest = 11

    def longer(values: Tensor | None) -> Tensor | None:
        return None if values is None else F.pad(values, (0, rest))

    num_tokens = len(packed.tokens)
    ends = torch.tensor([num_tokens + rest] * 4, dtype=torch.int32)
    tokens, positions = longer(packed.tokens), longer(packed.position_ids)
    assert tokens is not None
    assert positions is not None
    return PackedBatch(
        tokens=tokens,
        cu_seqlens=torch.cat((packed.cu_seqlens, ends)),
        max_seqlen=48,
        position_ids=positions,
        token_types=longer(packed.token_types),
    )


def check_logits_and_gradients(config: ModelConfig, dtype: torch.dtype) -> None:
    """Ours on padded and packed input, and on rows of a fixed capacity, give their logits and
    gradients."""
    ours = random_model(config).to(dtype)
    theirs, family = their_model(ours, config)
    theirs.to(dtype)
    if dtype == torch.float64:
        theirs.apply(float64_norms)
    batch = padded_batch(config)
    is_real = batch["attention_mask"].bool()
    with angles_applied_in(dtype, theirs):
        their_logits = logits_of(theirs(**batch))
    our_logits = PaddedModel(ours.eval(), config)(**batch)  # type: ignore[arg-type]
    if not config.head.per_token:
        assert_same(our_logits, their_logits)
        # Not a cross-entropy: that of choices gives the classifier's bias no gradient at all.
        losses = [logits.square().mean() for logits in (our_logits, their_logits)]
    else:
        our_logits, their_logits = our_logits[is_real], their_logits[is_real]
        assert_same(our_logits, their_logits)
        types = batch.get("token_type_ids")
        packed, _ = unpad(batch["input_ids"], batch["attention_mask"], types)
        assert_same(ours(packed), their_logits)
        assert_same(ours(with_capacity(packed))[: len(packed.tokens)], their_logits)
        labels = torch.randint(their_logits.shape[-1], (len(their_logits),))
        labels[::3] = -100
        losses = [F.cross_entropy(logits, labels) for logits in (our_logits, their_logits)]
    for loss in losses:
        loss.backward()
    expected = {
        name: family.rearranged(name, value) for name, value in written_gradients(theirs).items()
    }
    if not is_tied(config):
        for again, name in family.repeated(config.head.task, tied=False).items():
            expected[name] = expected.pop(again)
    gradients = dict(_gradients(ours))
    for name, rows in their_names(gradients, family.names(config.head.task)).items():
        parts = [expected[row] for row in rows]
        assert_same(gradients[name], torch.cat(parts))


@contextmanager
def angles_applied_in(dtype: torch.dtype, theirs: nn.Module) -> Iterator[None]:
    """transformers turns some queries and keys in float32 whatever their dtype; here in theirs."""
    module = sys.modules[type(theirs).__module__]
    turn = getattr(module, "apply_rotary_pos_emb", None)
    if turn is None or dtype != torch.float64:
        yield
        return

    def in_float64(*args: Any, **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "float", Tensor.double)
            return turn(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "apply_rotary_pos_emb", in_float64)
        yield


def _gradients(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        yield name, parameter.grad
