"""``flexbert import``: from a Hugging Face folder to a checkpoint."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.checkpoint.weights import expected_shapes, filled_model
from flexbert.components import register_all
from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.errors import UserError, first_line
from flexbert.files.durable import write_text
from flexbert.huggingface.compare import compare_logits, load_theirs, sample
from flexbert.huggingface.families import family_of, task_of, transformers_version
from flexbert.huggingface.family import MASKED_LM, Family, is_tied
from flexbert.huggingface.folder import Weights, as_saved_alone, read_config, read_weights
from flexbert.huggingface.parameter_names import rows_of, their_names, to_ours
from flexbert.huggingface.tokenizer import FILES, read_tokenizer, special_ids
from flexbert.nn.padded import PaddedModel

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
ENCODER = "encoder."


@dataclass(frozen=True)
class FolderModel:
    """A model read from a folder.

    Args:
        config: of the model; its head is one that the family may have, if the folder has none.
        has_head: whether the weights hold one.
        raw: the folder's own config, with what transformers takes for keys that it has not.
        max_length: the longest document, in tokens, that the folder says it is for.
        notes: what the user should know.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    has_head: bool
    family: Family
    task: str
    raw: Mapping[str, Any]
    max_length: int
    notes: list[str] = field(default_factory=list)


def import_folder(source: str, target: Path) -> list[str]:
    """Write the model and tokenizer of a Hugging Face folder as a checkpoint.

    The logits of both implementations are compared before anything is written. A YAML file of the
    model, beside the checkpoint and with its name, can be included in a recipe.

    Args:
        source: a folder, or a name on the Hugging Face Hub.
        target: a file that is not there yet.

    Returns:
        What to tell the user.

    Raises:
        UserError: if there is anything in the way, and then nothing is written.
    """
    for file in (target, target.with_suffix(".yaml")):
        if file.exists():
            raise UserError(f"{file}: is there already; give another name, or remove it")
    with as_saved_alone(local_folder(source)) as folder:
        return _import(folder, target)


def _import(folder: Path, target: Path) -> list[str]:
    recipe_file = target.with_suffix(".yaml")
    read = read_folder(folder)
    if not read.has_head:
        raise UserError(
            f"{folder}: {read.family.base_class} has no head; "
            "flexbert.load_model(folder, head={...}) gives it one"
        )
    tokenizer = read_tokenizer(folder, read.family.model_type)
    ids = special_ids(tokenizer, read.config.vocab_size)
    ours = PaddedModel(filled_model(read.config, read.state), read.config)
    documents = sample(read.config, read.max_length, read.raw.get("pad_token_id"))
    tied = is_tied(read.config)
    theirs = load_theirs(folder, read.family, read.task, tied=tied, config=_their_config(read))
    difference = compare_logits(ours, theirs, documents)
    recipe = {"model": encode(read.config), "data": {"max_length": read.max_length}}
    head = f"# The {read.family.classes[read.task]} in {target.name}, to be included in a recipe.\n"
    write_checkpoint(target, Checkpoint(recipe=recipe, tokenizer=tokenizer, model=read.state))
    write_text(recipe_file, head + yaml.safe_dump(recipe, sort_keys=False))
    return [
        *(f"note: {note}" for note in (*read.notes, *_other_ids(read, ids))),
        f"{target}: {read.family.classes[read.task]}, logits as those of transformers "
        f"{transformers_version()} (largest difference {difference:.1e} of their scale)",
        f"{recipe_file}: its model, to be included in a recipe",
    ]


def local_folder(source: str) -> Path:
    """The folder that ``source`` is, or that a model of this name on the Hub is downloaded to.

    Raises:
        UserError: if there is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not HUB_NAME.fullmatch(source):
        raise UserError(f"{source}: no such folder")
    from huggingface_hub import snapshot_download

    wanted = ["config.json", "model.safetensors", "model-*.safetensors", "*.index.json", *FILES]
    try:
        found = Path(snapshot_download(source, allow_patterns=wanted))
        if not any(found.glob("*.safetensors")):
            found = Path(snapshot_download(source, allow_patterns=["pytorch_model.bin", *wanted]))
    # Without a network, a name or the right to read it: each raises something of its own.
    except Exception as error:
        reason = first_line(error).split(". ")[0]
        raise UserError(
            f"{source}: no such folder{_nearby(folder)}, and not to be had from the Hugging Face "
            f"Hub ({reason})"
        ) from None
    return found


def _nearby(folder: Path) -> str:
    """The nearest of its neighbours, where it was meant to be one of them."""
    names = [each.name for each in folder.parent.glob("[!.]*") if each.is_dir()]
    close = difflib.get_close_matches(folder.name, names, 1)
    return f" (did you mean {folder.parent / close[0]}?)" if close else ""


def located(path: Path) -> Path:
    """``path`` itself, or what a name on the Hub is downloaded to.

    Raises:
        UserError: if it is not there, has the form of a name, and is not on the Hub either.
    """
    return path if path.exists() or path.suffix else local_folder(str(path))


def read_folder(folder: Path) -> FolderModel:
    """Read config and weights; no code of the folder runs, and nothing is allocated before the
    shapes of all tensors are known to be those of the config.

    Raises:
        UserError: if the folder is damaged, or describes a model that there is not here.
    """
    described = describe_folder(folder)
    family, task = described.family, described.task
    notes: list[str] = []
    if described.names_code:
        notes.append("code that config.json names (auto_map) is not run, transformers has its own")
    try:
        state = _state(described.config, family, task, described.weights, notes)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return FolderModel(
        config=described.config,
        state=state,
        has_head=task is not None,
        family=family,
        task=task or MASKED_LM,
        raw=described.raw,
        max_length=described.max_length,
        notes=notes,
    )


@dataclass(frozen=True)
class Description:
    """What a folder says of its model before the weights are read.

    Args:
        task: of the head; None where there is none.
        raw, max_length: see :class:`FolderModel`.
        names_code: whether it names code of its own, which is not run.
    """

    config: ModelConfig
    family: Family
    task: str | None
    raw: Mapping[str, Any]
    weights: Weights
    max_length: int
    names_code: bool


def describe_folder(folder: Path) -> Description:
    """The model that a folder describes; its tensors are not read, or hardly.

    Raises:
        UserError: if the folder is damaged, or describes a model that there is not here.
    """
    register_all()
    config = read_config(folder)
    try:
        family = family_of(config)
        task = task_of(config, family)
        raw = family.read_config(_with_labels(config), _defaults(family))
        model = family.to_model(raw, task or MASKED_LM)
    except UserError as error:
        raise UserError(f"{folder}: config.json: {error}") from None
    weights = read_weights(folder)
    if family.older_prefix is not None:
        weights.rename_prefix(family.older_prefix, family.prefix)
    try:
        if task == MASKED_LM:
            model = _without_zero_biases(model, family, weights)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return Description(
        config=model,
        family=family,
        task=task,
        raw=raw,
        weights=weights,
        max_length=model.embedding.max_length or _max_length(raw),
        names_code="auto_map" in config,
    )


def _defaults(family: Family) -> dict[str, Any]:
    from transformers import AutoConfig

    defaults: dict[str, Any] = AutoConfig.for_model(family.model_type).to_dict()
    return {"tie_word_embeddings": True, **defaults, **family.older_defaults}


def _with_labels(config: Mapping[str, Any]) -> dict[str, Any]:
    labels = config.get("id2label")
    number = len(labels) if isinstance(labels, Mapping) else config.get("num_labels", 2)
    return {**config, "num_labels": number}


def _max_length(raw: Mapping[str, Any]) -> int:
    length = raw["max_position_embeddings"]
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise UserError(f"config.json: max_position_embeddings: {length!r} is no length")
    return length


def _their_config(read: FolderModel) -> Any:
    """The folder's config with the keys of its architecture, and none that every config has."""
    from transformers import AutoConfig, PreTrainedConfig

    cls = type(AutoConfig.for_model(read.family.model_type))
    complete = dict(read.raw)
    read.family.add_newer_keys(complete)
    common = {key.name for key in fields(PreTrainedConfig)}
    own = {key.name for key in fields(cls)} - common | {"tie_word_embeddings"}
    config = {key: complete[key] for key in own}
    if (labels := getattr(read.config.head, "num_labels", None)) is not None:
        config["num_labels"] = labels
    return cls(**config)


def _other_ids(read: FolderModel, ids: Mapping[str, int | None]) -> list[str]:
    """Where config and tokenizer disagree, the tokenizer is right."""
    notes = []
    for key, roles in read.family.special_keys.items():
        given = next((ids[role] for role in roles if ids.get(role) is not None), None)
        if key in read.raw and given is not None and read.raw[key] != given:
            notes.append(f"config.json says {key} {read.raw[key]}, the tokenizer {given}")
    return notes


def _without_zero_biases(model: ModelConfig, family: Family, weights: Weights) -> ModelConfig:
    """The model without the biases that only transformers has; see ``Family.zero_biases``."""
    again = {name: copy for copy, name in family.repeated(MASKED_LM, is_tied(model)).items()}
    head: Any = model.head
    for path, name in family.zero_biases.items():
        stored = {name, again.get(name, name)} & weights.shapes.keys()
        if not any(weights.load(key).any() for key in stored):
            head = replace(head, **{path.removeprefix("head."): False})
    return replace(model, head=head)


def _state(
    model: ModelConfig, family: Family, task: str | None, weights: Weights, notes: list[str]
) -> dict[str, Tensor]:
    """The state dict of ``model``, of its encoder alone without a task."""
    shapes = expected_shapes(model, most=len(weights.shapes))
    if task is None:
        shapes = {name: shape for name, shape in shapes.items() if name.startswith(ENCODER)}
    table = family.names(task or MASKED_LM)
    if task is None and not any(name.startswith(family.prefix) for name in weights.shapes):
        table = {
            ours: tuple(row.removeprefix(family.prefix) for row in rows)
            for ours, rows in table.items()
        }
    tied = is_tied(model)
    repeated = family.repeated(task, tied) if task else {}
    wanted: dict[str, tuple[int, ...]] = {}
    for name, rows in their_names(shapes, table).items():
        first, *rest = shapes[name]
        sizes = rows_of(name, first, len(rows), family.sizes(model))
        wanted |= {row: (size, *rest) for row, size in zip(rows, sizes, strict=True)}
    repeated = {again: name for again, name in repeated.items() if name in wanted}
    # Where nothing is tied, transformers 5 computes with the repeated tensor.
    stand_ins = {
        original: again
        for again, original in repeated.items()
        if again in weights.shapes and not (tied and original in weights.shapes)
    }
    left_out = _check(wanted, repeated, stand_ins, weights, family, task)
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")

    def load(name: str) -> Tensor:
        return family.rearranged(name, weights.load(stand_ins.get(name, name)))

    for again, original in repeated.items():
        if {again, original} <= weights.shapes.keys() and not torch.equal(
            weights.load(again), weights.load(original)
        ):
            if tied:
                raise UserError(f"{again} is to be {original} again, and has other values")
            notes.append(f"left out: {original}; without a tied decoder, {again} has its place")
    state = to_ours(shapes, table, load)
    others = sorted(str(dtype) for dtype in weights.dtypes - {torch.float32})
    if others:
        notes.append(f"weights of {', '.join(others)} are converted to float32")
    return state


def _check(
    wanted: Mapping[str, tuple[int, ...]],
    repeated: Mapping[str, str],
    stand_ins: Mapping[str, str],
    weights: Weights,
    family: Family,
    task: str | None,
) -> list[str]:
    """Every tensor is there, in its shape, and no other.

    Returns:
        What else is there and belongs to other tasks.
    """
    given = weights.shapes
    others = given.keys() - wanted.keys() - repeated.keys()
    beside = family.left_out(task or MASKED_LM)
    if task is None:
        beside += tuple(name.removeprefix(family.prefix) for name in beside)
    allowed = {name for name in others if name.startswith(beside)}
    for name, shape in wanted.items():
        found = given.get(stand_ins.get(name, name))
        if found is None:
            near = difflib.get_close_matches(name, others - allowed, n=1)
            hint = f"; there is {near[0]}" if near else ""
            raise UserError(f"the weights have no {name}{hint}")
        if found != shape:
            raise UserError(
                f"{name} has the shape {list(found)}, the config asks for {list(shape)}"
            )
    for again, original in repeated.items():
        if again in given and given[again] != wanted[original]:
            raise UserError(
                f"{again} has the shape {list(given[again])}, {original} {list(wanted[original])}"
            )
    if unknown := sorted(others - allowed):
        near = difflib.get_close_matches(unknown[0], wanted, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UserError(f"the model has no {unknown[0]}{more}{hint}")
    return sorted(name for name in allowed if not name.endswith("position_ids"))
