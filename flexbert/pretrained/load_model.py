"""A trained model from its checkpoint file, or from a Hugging Face folder; and back to a file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from flexbert.checkpoint.checkpoint import Checkpoint, Weights
from flexbert.checkpoint.checkpoint_file import checkpoint_file, read_checkpoint, write_checkpoint
from flexbert.checkpoint.weights import checked_weights, filled_model, model_config
from flexbert.components import register_all
from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.model import HeadConfig, ModelConfig
from flexbert.config.plugins import import_plugins, plugins_of
from flexbert.config.registry import members
from flexbert.errors import UserError, config_errors_under
from flexbert.huggingface.folder import is_model_folder
from flexbert.huggingface.importing import located, read_folder
from flexbert.huggingface.tokenizer import has_tokenizer, read_tokenizer
from flexbert.nn.build import Model, build_model
from flexbert.nn.padded import PaddedModel


class LoadedModel(PaddedModel):
    """A model with what :func:`save_model` writes besides its weights.

    Args:
        tokenizer: file name to text.
        max_length: the longest document it was trained on, in tokens; None if nothing tells.
    """

    def __init__(
        self,
        model: Model,
        config: ModelConfig,
        tokenizer: Mapping[str, str],
        max_length: int | None,
    ) -> None:
        super().__init__(model, config)
        self.tokenizer = dict(tokenizer)
        self.max_length = max_length


def load_model(
    path: str | Path,
    head: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
) -> LoadedModel:
    """The model of a checkpoint, of a run's newest one, of a Hugging Face folder or of a name on
    the Hub, in float32 on the CPU, in eval mode.

    Called with ``input_ids [B, T]`` and ``attention_mask [B, T]``, a masked LM returns logits
    ``[B, T, V]``.

    Args:
        head: a new head in place of the trained one, as a recipe writes it, for instance
            ``{"name": "sequence_classification", "num_labels": 3, "pooling": "mean"}``. Fields
            that are left out of ``dense``, ``bias``, ``activation`` and ``norm`` are as in the
            trained head; its dense layer and norm are taken over where shapes agree, and what is
            new is drawn by the model's init from the global seed.
        plugins: files, modules and entry points that the model's components are from, as a recipe
            names them. A checkpoint says which it needs; none is imported that is not given here.

    Raises:
        UserError: if the file or folder cannot be read, or its weights are not those of its
            recipe.
    """
    register_all()
    import_plugins(plugins)
    config, weights, tokenizer, max_length, *_ = read_model(Path(path), needs_head=head is None)
    if head is not None and not isinstance(head, Mapping):
        raise UserError(f"head: expected a mapping with a name, got {head!r}")
    if head is None:
        model = filled_model(config, weights)
    else:
        config, model = with_head(config, weights, head)
    return LoadedModel(model, config, tokenizer, max_length).eval()


def with_head(
    config: ModelConfig, weights: Weights, head: Mapping[str, Any]
) -> tuple[ModelConfig, Model]:
    """A model with a new head in place of its own, and its config: see :func:`load_model`.

    Raises:
        ConfigError: if the head is none of this model.
    """
    changed = config_with_head(config, head)
    return changed, _with_new_head(changed, weights, config.head)


def config_with_head(config: ModelConfig, head: Mapping[str, Any]) -> ModelConfig:
    """The config of :func:`with_head`'s model.

    Raises:
        ConfigError: if the head is none of this model.
    """
    return replace(config, head=_new_head(config.head, head))


class ReadModel(NamedTuple):
    """What a file or folder holds of a model; see :class:`LoadedModel`.

    Attributes:
        path: of the file or folder itself, where a run or a name was given.
        recipe: the tree of the recipe that it was trained by; empty for a Hugging Face folder.
    """

    config: ModelConfig
    weights: Weights
    tokenizer: Mapping[str, str]
    max_length: int | None
    path: Path
    recipe: Mapping[str, Any]


def read_model(path: Path, *, needs_head: bool = True) -> ReadModel:
    """The weights of a checkpoint, of a run's newest one, or of a Hugging Face folder or name.

    Raises:
        UserError: if it cannot be read, or its weights are not those of its recipe.
    """
    path = located(path)
    if is_model_folder(path):
        return _from_folder(path, needs_head)
    return _from_checkpoint(checkpoint_file(path))


def _from_folder(folder: Path, needs_head: bool) -> ReadModel:
    read = read_folder(folder)
    if needs_head and not read.has_head:
        raise UserError(f"{folder}: {read.family.base_class} has no head; give head={{...}}")
    for note in read.notes:
        warnings.warn(f"{folder}: {note}", stacklevel=4)
    model_type = read.family.model_type
    tokenizer = read_tokenizer(folder, model_type) if has_tokenizer(folder) else {}
    return ReadModel(read.config, read.state, tokenizer, read.max_length, folder, {})


def _from_checkpoint(path: Path) -> ReadModel:
    checkpoint = read_checkpoint(path)
    config = model_config(checkpoint)
    weights = checked_weights(checkpoint, config)
    return ReadModel(
        config, weights, checkpoint.tokenizer, checkpoint.max_length, path, checkpoint.recipe
    )


def save_model(model: LoadedModel, path: str | Path) -> None:
    """Write a model, as it was trained on since it was loaded, as a checkpoint with its tokenizer.

    Raises:
        UserError: if there is such a file already.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: is there already; give another name, or remove it")
    recipe: dict[str, Any] = {"model": encode(model.config)}
    if plugins := plugins_of(model.config):
        recipe["plugins"] = encode(plugins)
    if model.max_length is not None:
        recipe["data"] = {"max_length": model.max_length}
    weights = {name: value.detach().cpu() for name, value in model.model.state_dict().items()}
    write_checkpoint(path, Checkpoint(recipe=recipe, tokenizer=model.tokenizer, model=weights))


def _new_head(before: HeadConfig, given: Mapping[str, Any]) -> HeadConfig:
    """A head as a recipe writes it; what it leaves out is as in the one before."""
    cls: Any = members("head").get(given.get("name", ""), HeadConfig)
    shared = [key for key in before.shared_fields if key in cls.shared_fields]
    plain = encode(before)
    taken = {key: plain[key] for key in shared}
    if given.get("dense") is False:
        taken.pop("bias", None)
    with config_errors_under("head"):
        return decode(HeadConfig, {**taken, **given})  # type: ignore[type-abstract]


def _with_new_head(config: ModelConfig, weights: Weights, before: HeadConfig) -> Model:
    shared = set(before.shared_modules) & set(config.head.shared_modules)
    model = build_model(config)
    new = model.state_dict()
    for name, value in new.items():
        is_kept = name in weights and any(name.startswith(f"head.{part}.") for part in shared)
        if name.startswith("encoder.") or (is_kept and weights[name].shape == value.shape):
            new[name] = weights[name].to(torch.float32, copy=True)
    model.load_state_dict(new, assign=True)
    return model
