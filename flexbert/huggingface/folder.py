"""Reading what a Hugging Face folder holds, without trusting it: no code of it is ever run."""

from __future__ import annotations

import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flexbert.checkpoint.checkpoint_file import is_compressed, load_problem
from flexbert.checkpoint.weights import is_plain
from flexbert.errors import UserError, first_line
from flexbert.files import regular

# No config or index is longer; what is, is not read.
LARGEST_JSON = 64 * 2**20
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Published with code before transformers had the architecture; its own class is used.
NATIVE_BY_NOW = ("eurobert",)
WRAPPERS = ("_orig_mod.", "module.")
# TensorFlow's names of a norm's parameters, as old folders have them and transformers reads them.
OLD_LEAVES = {"gamma": "weight", "beta": "bias"}


def is_model_folder(path: Path) -> bool:
    """Whether it looks like a Hugging Face folder of a model."""
    return (path / "config.json").is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a folder.

    Raises:
        UserError: if there is none, or it is none that is read without running code.
    """
    try:
        regular.refuse_irregular(folder)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    config = read_json(folder / "config.json")
    if "auto_map" in config and config.get("model_type") not in NATIVE_BY_NOW:
        raise UserError(f"{folder}: config.json names code of its own (auto_map), which is not run")
    for key in ("quantization_config", "pruned_heads", "per_layer_config"):
        if config.get(key):
            raise UserError(f"{folder}: config.json has {key}, and that is not supported")
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{folder}: holds an adapter, whose model is elsewhere: merge them first")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: if the file is missing, too long, or holds anything else.
    """

    try:
        content = regular.load_json(path, LARGEST_JSON)
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no {path.name} in it") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: not readable as JSON ({problem})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    return content


class Weights(ABC):
    """Tensors of a folder by name; shapes are known before a tensor is loaded.

    Attributes:
        shapes: name to shape. A name in the old style of norms is given in the new one, and one of
            a compiled or wrapped model without that prefix.
        is_wrapped: whether there are such.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._stored = {_current_name(name): name for name in shapes}
        self.shapes = {_current_name(name): shape for name, shape in shapes.items()}
        self.dtypes: set[torch.dtype] = set()
        self.is_wrapped = any(name.startswith(WRAPPERS) for name in shapes)

    def load(self, name: str) -> Tensor:
        """A tensor in float32.

        Raises:
            UserError: if it is not a tensor of floating-point numbers.
        """
        tensor = self._load(self._stored[name])
        if not tensor.dtype.is_floating_point:
            raise UserError(f"{name} is of {tensor.dtype}, and weights are floating-point numbers")
        self.dtypes.add(tensor.dtype)
        return tensor.to(torch.float32)

    def rename_prefix(self, old: str, new: str) -> None:
        """Give the names that begin with ``old`` as beginning with ``new``."""

        def renamed(name: str) -> str:
            return new + name.removeprefix(old) if name.startswith(old) else name

        self._stored = {renamed(name): stored for name, stored in self._stored.items()}
        self.shapes = {renamed(name): shape for name, shape in self.shapes.items()}

    @abstractmethod
    def _load(self, stored_name: str) -> Tensor: ...


@contextmanager
def as_saved_alone(folder: Path) -> Iterator[Path]:
    """The folder; or, where a compiled or wrapped model was saved, a copy with a model's own names,
    for transformers, which does not find its tensors under others."""
    try:
        weights = read_weights(folder)
    except UserError:
        weights = None  # said by whoever reads it next, after what is wrong with the config
    if weights is None or not weights.is_wrapped:
        yield folder
        return
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / folder.resolve().name
        copy.mkdir()
        for file in folder.iterdir():
            is_text = file.is_file() and file.suffix in (".json", ".txt", ".jinja")
            if is_text and not file.name.endswith(".index.json"):
                shutil.copyfile(file, copy / file.name)
        tensors = {name: weights.load(name) for name in weights.shapes}
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        yield copy


def _current_name(name: str) -> str:
    # What torch.compile and DistributedDataParallel put before names, one inside the other too.
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    module, _, leaf = name.rpartition(".")
    return f"{module}.{OLD_LEAVES[leaf]}" if leaf in OLD_LEAVES else name


def read_weights(folder: Path) -> Weights:
    """The weights of a folder: safetensors, in one file or several, or else ``pytorch_model.bin``.

    Raises:
        UserError: if there are none, or they cannot be read as nothing but tensors.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return _Safetensors(dict.fromkeys(_tensors_in(single), single))
    if index.is_file():
        return _Safetensors(_sharded(folder, index))
    if (folder / "pytorch_model.bin").is_file():
        return _Pickled(folder / "pytorch_model.bin")
    raise UserError(f"{folder}: no model.safetensors in it, and no pytorch_model.bin")


def _sharded(folder: Path, index: Path) -> dict[str, Path]:
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise UserError(f"{index}: expected a weight_map")
    files: dict[str, set[str]] = {}
    for name, file in placed.items():
        # A name with a folder in it could lead out of this one.
        if not isinstance(file, str) or not PLAIN_NAME.fullmatch(file):
            raise UserError(f"{index}: {name} is said to be in {file!r}, no file of this folder")
        files.setdefault(file, set()).add(name)
    where: dict[str, Path] = {}
    for file, names in files.items():
        found = _tensors_in(folder / file)
        if missing := names - found:
            raise UserError(f"{folder / file}: no tensor {sorted(missing)[0]} in it")
        where |= dict.fromkeys(found, folder / file)
    return where


def _tensors_in(path: Path) -> set[str]:
    with _open(path) as file:
        return set(file.keys())


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not readable as safetensors ({first_line(error)})") from None


class _Safetensors(Weights):
    def __init__(self, where: Mapping[str, Path]) -> None:
        self._where = where
        shapes: dict[str, tuple[int, ...]] = {}
        for path in set(where.values()):
            with _open(path) as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        super().__init__(shapes)

    def _load(self, stored_name: str) -> Tensor:
        with _open(self._where[stored_name]) as file:
            tensor: Tensor = file.get_tensor(stored_name)
            return tensor


class _Pickled(Weights):
    def __init__(self, path: Path) -> None:
        if is_compressed(path):
            raise UserError(f"{path}: not readable as tensors alone (compressed)")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        # Whatever stands in a hostile or damaged file decides what is raised while it is read.
        except Exception as error:
            problem = load_problem(error)
            raise UserError(f"{path}: not readable as tensors alone ({problem})") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a mapping of names to tensors")
        for name, tensor in content.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise UserError(f"{path}: {name!r} is no tensor")
            if not is_plain(tensor):
                raise UserError(f"{path}: {name} is no plain tensor")
        self._tensors = content
        super().__init__({name: tuple(tensor.shape) for name, tensor in content.items()})

    def _load(self, stored_name: str) -> Tensor:
        return self._tensors[stored_name]
