"""Bytes on one GPU: what a run holds, and what a micro-batch adds while it goes forward and back.

What autograd keeps for going back is counted, not guessed: the model runs on fake tensors, which
have shapes and no content, for one row and for two. What grows from the one to the other is a row's
share, the rest is there once. Nothing is compiled in it, and compiled layers keep less.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flexbert.config.backend_choice import BackendChoice
from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import AttentionConfig, LayerPlan, ModelConfig
from flexbert.config.recipe import Recipe
from flexbert.data.packing.masking import most_masked
from flexbert.nn.device_kind import as_on_a_gpu
from flexbert.nn.flops import decoder_matrix
from flexbert.nn.loss import as_loss
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch

FLOAT32, BFLOAT16 = 4, 2


@dataclass(frozen=True)
class Activations:
    """Bytes that autograd keeps for going back, the loss included; parameters left out.

    The loss keeps gradients that it has computed already.

    Attributes:
        fixed: there once, however many rows a micro-batch has.
        per_row: of each row.
    """

    fixed: int
    per_row: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one GPU, by part.

    Attributes:
        weights: float32.
        gradients: float32.
        optimizer: its state.
        moving_average: of the weights, where the recipe keeps one.
        communication: buckets in which processes sum gradients; none for a single process.
        activations: kept for going back, weights that autocast has in bfloat16 among them.
        loss: what computing it takes on top.
        total: all parts together.
    """

    weights: int
    gradients: int
    optimizer: int
    moving_average: int
    communication: int
    activations: int
    loss: int
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.parts.values()))

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part by its name, without the total."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}


def activations_of(recipes: Sequence[Recipe]) -> list[Activations]:
    """For the recipe of each stage; counted once for stages that differ in nothing it follows."""
    counted: list[tuple[object, Activations]] = []
    found = []
    for recipe in recipes:
        data = recipe.data
        lengths = data.max_length, data.row_length, data.mask_rate
        follows = recipe.model, recipe.loss, recipe.precision, lengths
        known = next((activations for key, activations in counted if key == follows), None)
        if known is None:
            known = _activations(recipe)
            counted.append((follows, known))
        found.append(known)
    return found


def memory(
    recipe: Recipe, model: MaskedLM, activations: Activations, processes: int, rows: int
) -> Memory:
    """Count what a run takes with micro-batches of ``rows`` packed rows.

    Args:
        model: of the recipe, on any device.
    """
    count = sum(parameter.numel() for parameter in model.parameters())
    itemsize = BFLOAT16 if recipe.precision == "amp_bf16" else FLOAT32
    decoder = decoder_matrix(model, recipe.model.hidden_size)
    return Memory(
        weights=FLOAT32 * count,
        gradients=FLOAT32 * count,
        optimizer=FLOAT32 * optimizer_numbers(recipe, model),
        moving_average=FLOAT32 * count if recipe.moving_average else 0,
        communication=FLOAT32 * count if processes > 1 else 0,
        activations=activations.fixed + rows * activations.per_row,
        loss=recipe.loss.working_bytes(
            rows * _masked_in_row(recipe), len(decoder), decoder.shape[1], itemsize
        ),
    )


def kept_for_backward(
    model: nn.Module,
    forward: Callable[[], object],
    stands_for: Mapping[nn.Module, int] | None = None,
) -> int:
    """Bytes that autograd keeps of a forward pass for going back; parameters left out.

    Args:
        forward: makes the pass.
        stands_for: for layers of the model, how many each is counted as; one where none is given.
    """
    # The storages themselves are held, so that no address stands for two.
    kept: dict[int, tuple[torch.UntypedStorage, int]] = {}
    times = 1
    counts = stands_for or {}
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept.setdefault(storage._cdata, (storage, times))
        return tensor

    def enter(layer: nn.Module, inputs: object) -> None:
        nonlocal times
        times = counts[layer]

    def leave(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal times
        times = 1

    with contextlib.ExitStack() as hooks:
        for layer in counts:
            hooks.callback(layer.register_forward_pre_hook(enter).remove)
            hooks.callback(layer.register_forward_hook(leave).remove)
        hooks.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        forward()
    return sum(times * storage.nbytes() for storage, times in kept.values())


def optimizer_numbers(recipe: Recipe, model: nn.Module) -> int:
    """How many numbers the optimizer keeps for all parameters of a model."""
    linear = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    return sum(
        recipe.optimizer.state_size(parameter, of_linear=parameter in linear)
        for parameter in model.parameters()
    )


def _activations(recipe: Recipe) -> Activations:
    config = _with_any_backend(recipe.model)
    with FakeTensorMode():
        model = MaskedLM(config)
        stands_for = _leave_two_of_each_kind(model, config)
        one_row, two_rows = (
            kept_for_backward(model, partial(_run, recipe, model, rows), stands_for)
            for rows in (1, 2)
        )
    return Activations(fixed=2 * one_row - two_rows, per_row=two_rows - one_row)


def _leave_two_of_each_kind(model: MaskedLM, config: ModelConfig) -> dict[nn.Module, int]:
    """Take layers out of a model that are like two others: running them would tell nothing new.

    The first of a kind keeps what all of them share, such as the rotation; the second does not.

    Returns:
        For each layer that stays, how many it stands for.
    """
    kinds: list[tuple[LayerPlan, list[int]]] = []
    for layer in layer_plan(config):
        anywhere = dataclasses.replace(layer, index=0)
        alike = next((indices for kind, indices in kinds if kind == anywhere), None)
        if alike is None:
            kinds.append((anywhere, [layer.index]))
        else:
            alike.append(layer.index)
    counts = {}
    for _, indices in kinds:
        counts[indices[0]] = 1
        counts |= {index: len(indices) - 1 for index in indices[1:2]}
    layers, ropes = model.encoder.layers, model.encoder.layer_ropes
    stay = sorted(counts)
    model.encoder.layers = nn.ModuleList(layers[index] for index in stay)
    model.encoder.layer_ropes = [ropes[index] for index in stay]
    return {layers[index]: count for index, count in counts.items()}


def _run(recipe: Recipe, model: MaskedLM, rows: int) -> Tensor:
    """Forward and loss of a micro-batch of ``rows`` rows."""
    num_tokens, num_masked = rows * recipe.data.row_length, rows * _masked_in_row(recipe)
    num_sequences = rows * -(-recipe.data.row_length // recipe.data.max_length)
    integers = partial(torch.zeros, dtype=torch.int64)
    packed = PackedBatch(
        tokens=integers(num_tokens),
        cu_seqlens=torch.zeros(num_sequences + 1, dtype=torch.int32),
        max_seqlen=recipe.data.max_length,
        position_ids=integers(num_tokens),
    )
    is_bf16 = recipe.precision == "amp_bf16"
    with as_on_a_gpu():
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            logits = model.deferred_logits(packed, integers(num_masked))
        return as_loss(recipe.loss)(logits, integers(num_masked))


def _masked_in_row(recipe: Recipe) -> int:
    return most_masked(recipe.data.mask_rate, recipe.data.row_length, 1)


def _with_any_backend(model: ModelConfig) -> ModelConfig:
    """The model with attention that runs here: what is kept does not depend on the backend."""

    def changed(attention: AttentionConfig) -> AttentionConfig:
        has_backend = any(f.name == "backend" for f in dataclasses.fields(attention))
        # mypy cannot know a field that only some members have.
        more: dict[str, object] = {"backend": BackendChoice()} if has_backend else {}
        return dataclasses.replace(attention, **more)  # type: ignore[arg-type]

    layers = {
        key: dataclasses.replace(layer, attention=changed(layer.attention))
        if layer.attention
        else layer
        for key, layer in model.layers.items()
    }
    return dataclasses.replace(model, attention=changed(model.attention), layers=layers)
