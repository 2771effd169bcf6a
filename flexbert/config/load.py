"""Recipe files: YAML with ``include``, ``key.path=value`` overrides, then interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flexbert.config.decode import MISSING, decode
from flexbert.config.encode import encode
from flexbert.config.schema import Recipe
from flexbert.errors import ConfigError, UserError, did_you_mean

INCLUDE = "include"
# Beneath every recipe, so that one that says nothing of a node can still be overridden in it.
DEFAULTS = {"loss": {"name": "cross_entropy"}, "data": {"order": {"name": "pcg64dxsm"}}}


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe, and what is told of it.

    Attributes:
        recipe: the typed recipe.
        resolved: the same as plain containers, defaults written out: what ``config.yaml`` holds.
        missing: dotted paths of values that a run needs and that are yet ``???``.
    """

    recipe: Recipe
    resolved: dict[str, Any]
    missing: tuple[str, ...]


def load_recipe(path: Path, overrides: Sequence[str], *, planning: bool = False) -> LoadedRecipe:
    """Read, merge, interpolate and decode a recipe.

    Args:
        overrides: ``key.path=value`` pairs; values are YAML. They win over every file.
        planning: accept ``???`` where only a run needs the value.

    Raises:
        UserError: if a file cannot be read or an override is no ``key=value`` pair.
        ConfigError: if the merged tree is not a recipe.
    """
    tree = derive(merge(DEFAULTS, read_tree(path)), overrides_tree(overrides))
    missing: list[str] | None = [] if planning else None
    recipe = decode(Recipe, complete_layers(sources_for_path(interpolate(tree))), missing)
    return LoadedRecipe(recipe=recipe, resolved=encode(recipe), missing=tuple(missing or ()))


def read_tree(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """One file with everything it includes: includes in their order, then its own keys."""
    path = Path(path)
    if path.resolve() in including:
        chain = " -> ".join(str(p) for p in (*including, path.resolve()))
        raise UserError(f"{path}: includes itself ({chain})")
    own = _read_yaml(path)
    includes = own.pop(INCLUDE, [])
    if isinstance(includes, str) or not isinstance(includes, Sequence):
        raise UserError(f"{path}: include: expected a list of files, got {includes!r}")
    tree: dict[str, Any] = {}
    for name in includes:
        tree = merge(tree, read_tree(path.parent / name, (*including, path.resolve())))
    return derive(tree, expand_dotted(own))


def overrides_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """All ``key.path=value`` pairs as one tree."""
    tree: dict[str, Any] = {}
    for pair in overrides:
        key, equals, text = pair.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"{pair!r}: expected an override of the form key.path=value")
        try:
            value = _plain(OmegaConf.from_dotlist([f"value={text}"]))["value"]
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise UserError(f"{pair!r}: the value is not YAML ({_first_line(error)})") from None
        tree = merge(tree, expand_dotted({key: value}))
    return tree


def expand_dotted(node: Any) -> Any:
    """``{a.b: 1}`` to ``{a: {b: 1}}`` at every depth, so that dotted keys merge as nodes."""
    if isinstance(node, Mapping):
        tree: dict[str, Any] = {}
        for key, value in node.items():
            nested = expand_dotted(value)
            for part in reversed(str(key).split(".")):
                nested = {part: nested}
            tree = merge(tree, nested)
        return tree
    return [expand_dotted(item) for item in node] if isinstance(node, list) else node


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``: mappings merge, lists and scalars replace.

    A node that names another component than its base replaces it whole: the fields of one class
    mean nothing to another.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def derive(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A file's own keys on top of what it includes: as :func:`merge`, but ``model.name`` renames.

    A published encoder that is written as another one with changes has a name of its own, so that
    it replaces whatever model stands in a recipe that includes it beside others.
    """
    model = own.get("model")
    if not isinstance(model, Mapping) or "name" not in model:
        return merge(base, own)
    unnamed = {key: value for key, value in model.items() if key != "name"}
    derived = merge(base, {**own, "model": unnamed})
    return {**derived, "model": {**derived["model"], "name": model["name"]}}


def interpolate(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve ``${key.path}`` through omegaconf.

    Raises:
        ConfigError: naming the key whose interpolation fails.
    """
    try:
        return _plain(OmegaConf.create(dict(tree)), resolve=True)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or ""
        raise ConfigError(str(where), _first_line(error)) from None


def sources_for_path(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Where a mixture is given, the corpus that a recipe beneath still asks for is not needed."""
    data = tree.get("data")
    if isinstance(data, Mapping) and data.get("sources") and data.get("path") == MISSING:
        return {**tree, "data": {**data, "path": None}}
    return dict(tree)


def complete_layers(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Lay each part of ``model.layers`` over the model's own, so that it says only what differs.

    It happens last, so that whatever the model's own part became is what the layers start from.
    """
    model = tree.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("layers"), Mapping):
        return dict(tree)
    completed = {
        key: {
            family: merge({family: model.get(family)}, {family: node})[family]
            for family, node in parts.items()
        }
        if isinstance(parts, Mapping)
        else parts
        for key, parts in model["layers"].items()
    }
    return {**tree, "model": {**model, "layers": completed}}


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path(".")
        nearby = did_you_mean(path.name, (p.name for p in folder.glob("*.yaml")))
        raise UserError(f"{path}: no such file in {folder}; {nearby}")
    try:
        loaded = OmegaConf.load(path)
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML ({_yaml_problem(error, path)})") from None
    if not isinstance(loaded, DictConfig):
        raise UserError(f"{path}: expected a mapping of keys at the top, got a list")
    return _plain(loaded)


def _plain(config: DictConfig | ListConfig, resolve: bool = False) -> dict[str, Any]:
    container: Any = OmegaConf.to_container(config, resolve=resolve)
    return container


def _yaml_problem(error: Exception, path: Path) -> str:
    """What is wrong, and where."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _first_line(error)
    mark = error.problem_mark
    line = path.read_text(encoding="utf-8").splitlines()[mark.line : mark.line + 1]
    hint = '; inside {} write "${...}" in quotes' if "${" in "".join(line) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{hint}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())
