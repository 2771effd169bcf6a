"""Recipe files: YAML with ``include``, ``key.path=value`` overrides, then interpolation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flexbert.config.decode import MISSING, decode
from flexbert.config.environment import (
    environment_by_reference,
    environment_noted,
    with_references,
    without_values,
)
from flexbert.config.plugins import KEY as PLUGINS
from flexbert.config.plugins import Plugin, import_plugins
from flexbert.config.recipe import Recipe
from flexbert.config.reference_size import check_resolved_size
from flexbert.config.stage_overrides import (
    check_overrides,
    decode_stages,
    encode_stages,
    settle_stages,
    shadowed,
)
from flexbert.config.tree import expand_dotted, flatten, merge, names_first
from flexbert.config.yaml_text import MOST_BYTES, MOST_LEVELS, check_tree, read_value, read_yaml
from flexbert.errors import ConfigError, UserError, did_you_mean, first_line
from flexbert.files.regular import read_regular

INCLUDE = "include"
# From a checkpoint, or whatever a recipe names as one, to the part of a recipe that it decides.
ArchitectureReader: TypeAlias = Callable[[Path], Mapping[str, Any]]
# Beneath every recipe, so that one that says nothing of a node can still be overridden in it.
DEFAULTS: dict[str, dict[str, Any]] = {
    "loss": {"name": "cross_entropy"},
    "data": {"sampler": {"name": "pcg64dxsm"}},
}
# What a sweep's file has, in place of a recipe's keys: its base, and one way to make points.
SWEEP_BASE = "base"
SWEEP_WAYS = ("grid", "list", "random", "search")


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe, and what there is to say about it.

    Attributes:
        stages: the typed recipe of each stage, by its name, in order.
        missing: dotted paths of values that a run needs and that are yet ``???``.
        shadowed: for each stage the overrides that change nothing from it on.
        given: dotted keys of the command line.
    """

    stages: Mapping[str, Recipe]
    missing: tuple[str, ...] = ()
    shadowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def first(self) -> Recipe:
        """The first stage's recipe; what belongs to the whole run is the same in all."""
        return next(iter(self.stages.values()))

    @property
    def resolved(self) -> dict[str, Any]:
        """Plain containers that are the same recipe, defaults written out: ``config.yaml``."""
        return encode_stages(self.stages)

    def notes(self, stage: str) -> list[str]:
        """What to tell whoever begins with this stage."""
        return [
            f"note: {key} changes nothing from stage {stage} on; stages.{stage}.{key} does"
            for key in self.shadowed.get(stage, ())
        ]

    def runs(self) -> list[LoadedRecipe]:
        """This recipe, or one for each of several checkpoints to start from.

        Raises:
            ConfigError: if two of them would have the same name.
        """
        starts = self.first.start_from
        if len(starts) <= 1:
            return [self]
        names = [f"{self.first.run_name}-{path.stem}" for path in starts]
        if len(set(names)) < len(names):
            raise ConfigError("start_from", "two checkpoints of the same name: give a run to each")
        return [
            replace(
                self,
                stages={
                    stage: replace(recipe, run_name=name, start_from=(path,))
                    for stage, recipe in self.stages.items()
                },
            )
            for name, path in zip(names, starts, strict=True)
        ]


def decode_resolved(resolved: Mapping[str, Any]) -> dict[str, Recipe]:
    """Every stage's recipe, by its name, of one that was resolved before: of a checkpoint, say.

    Keys that came since have their defaults.

    Raises:
        ConfigError: if it is none that this version knows.
    """
    return decode_stages(resolved, partial(decode, Recipe))


def load_recipe(
    path: Path,
    overrides: Sequence[str],
    *,
    planning: bool = False,
    architecture_of: ArchitectureReader | None = None,
) -> LoadedRecipe:
    """Read, merge, interpolate and decode a recipe.

    Args:
        overrides: ``key.path=value`` pairs; values are YAML. They win over every file.
        planning: accept ``???`` where only a run needs the value.
        architecture_of: reads what goes beneath a recipe that takes its model from a checkpoint.

    Raises:
        UserError: if a file cannot be read or an override is no ``key=value`` pair.
        ConfigError: if the merged tree is not a recipe.
    """
    given = plugins_beside(overrides_tree(overrides), Path())
    own = read_tree(path)
    if SWEEP_BASE in own and any(way in own for way in SWEEP_WAYS):
        raise UserError(f"{path}: is a sweep and no recipe; flexbert sweep {path}")
    beneath = merge(DEFAULTS, own)
    check_overrides(beneath, given)
    source = _architecture_source(merge(beneath, given))
    if source is not None:
        assert architecture_of is not None, "whoever reads recipes can read checkpoints"
        beneath = merge(architecture_of(source), beneath)
    tree = settle_stages(beneath, given, derive(beneath, given), reorder=False)
    if tree.get(PLUGINS):
        # Before anything is decoded: they bring names that the recipe uses.
        tree = {**tree, PLUGINS: import_plugins(tree[PLUGINS])}
    missing: list[str] | None = [] if planning else None

    def decode_one(stage: Mapping[str, Any]) -> Recipe:
        plugins = stage.get(PLUGINS) or ()
        rest = {key: value for key, value in stage.items() if key != PLUGINS}
        plain = {**sources_for_path(interpolate(rest)), PLUGINS: plugins}
        return decode(Recipe, listed_starts(complete_layers(plain)), missing)

    stages = decode_stages(tree, decode_one)
    hidden = shadowed(tree, given)
    first = next(iter(stages))
    for key in hidden.get(first, ()):
        raise ConfigError(key, f"would do nothing: give stages.{first}.{key}")
    return LoadedRecipe(
        stages=stages,
        missing=tuple(dict.fromkeys(missing or ())),
        shadowed=hidden,
        given=tuple(flatten(given)),
    )


def _architecture_source(tree: Mapping[str, Any]) -> Path | None:
    """The checkpoint that a recipe takes its model from, if it does."""
    node = tree.get("init_from")
    if not isinstance(node, Mapping) or node.get("architecture") != "checkpoint":
        return None
    where = node.get("checkpoint")
    if isinstance(where, str) and "${" in where:
        where = interpolate({"init_from": {"checkpoint": where}})["init_from"]["checkpoint"]
    if where is None or where == MISSING:
        raise ConfigError(
            "init_from.checkpoint", "is to be given: the model is taken from it (architecture)"
        )
    if not isinstance(where, str):
        raise ConfigError("init_from.checkpoint", f"expected a path or a name, got {where!r}")
    return Path(where)


def read_tree(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """One file with everything it includes: includes in their order, then its own keys."""
    path = Path(path)
    if path.resolve() in including:
        chain = " -> ".join(str(p) for p in (*including, path.resolve()))
        raise UserError(f"{path}: includes itself ({chain})")
    if len(including) >= MOST_LEVELS:
        raise UserError(f"{path}: is included through more than {MOST_LEVELS} files")
    own = _read_yaml(path)
    includes = own.pop(INCLUDE, [])
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise UserError(f"{path}: include: expected a list of files, got {includes!r}")
    tree: dict[str, Any] = {}
    for name in includes:
        tree = merge(tree, read_tree(path.parent / name, (*including, path.resolve())))
    own = plugins_beside(expand_dotted(own), path.parent)
    return settle_stages(tree, own, derive(tree, own), reorder=True)


def overrides_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """All ``key.path=value`` pairs as one tree; of several values of a key the last one counts."""
    tree: dict[str, Any] = {}
    for pair in names_first(overrides, lambda pair: pair.partition("=")[0]):
        key, equals, text = pair.partition("=")
        if not equals or not all(key.split(".")):
            misplaced = "; the recipe comes first" if Path(pair).suffix == ".yaml" else ""
            raise UserError(f"{pair!r}: expected an override of the form key.path=value{misplaced}")
        if key.count(".") >= MOST_LEVELS:
            raise UserError(f"{pair!r}: the key is more than {MOST_LEVELS} levels deep")
        tree = merge(tree, expand_dotted({key: _override_value(pair, key, text)}))
    check_tree(tree)
    return tree


def _override_value(pair: str, key: str, text: str) -> Any:
    try:
        return read_value(text)
    except ConfigError as error:
        raise error.under(key) from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{pair!r}: the value is not YAML ({first_line(error)})") from None


def derive(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A file's own keys on top of what it includes: as :func:`merge`, but ``model.name`` renames.

    A published encoder that is written as another one with changes has a name of its own, so that
    it replaces whatever model stands in a recipe that includes it with others.
    """
    model = own.get("model")
    if not isinstance(model, Mapping) or "name" not in model:
        return merge(base, own)
    unnamed = {key: value for key, value in model.items() if key != "name"}
    derived = merge(base, {**own, "model": unnamed})
    return {**derived, "model": {**derived["model"], "name": model["name"]}}


def plugins_beside(tree: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Paths of plugins from relative to ``folder`` to absolute, so that they survive merging."""
    nodes = tree.get(PLUGINS)
    if not isinstance(nodes, list):
        return dict(tree)
    try:
        return {**tree, PLUGINS: [Plugin.parse(node).beside(folder).plain() for node in nodes]}
    except ValueError as error:
        raise ConfigError(PLUGINS, str(error)) from None


def interpolate(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve ``${key.path}`` through omegaconf; see :mod:`flexbert.config.environment`.

    Raises:
        ConfigError: naming the key whose interpolation fails.
    """
    taken: dict[str, str] = {}
    check_resolved_size(tree)
    try:
        config = OmegaConf.create(dict(tree))
        with environment_noted(taken):
            values = OmegaConf.to_container(config, resolve=True)
        check_tree(values)
        if not taken:
            return _mapping(values)
        with environment_by_reference():
            references = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or ""
        raise ConfigError(str(where), without_values(first_line(error), taken)) from None
    except RecursionError:
        raise ConfigError("", "its ${...} refer to each other without end") from None
    return _mapping(with_references(values, references))


def _mapping(values: Any) -> dict[str, Any]:
    assert isinstance(values, dict)
    return values


def sources_for_path(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Where a mixture is given, the corpus that a recipe beneath still asks for is not needed."""
    data = tree.get("data")
    if isinstance(data, Mapping) and data.get("sources") and data.get("path") == MISSING:
        return {**tree, "data": {**data, "path": None}}
    return dict(tree)


def listed_starts(tree: Mapping[str, Any]) -> dict[str, Any]:
    """One checkpoint to start from may be given without a list around it."""
    start = tree.get("start_from")
    return {**tree, "start_from": [start] if isinstance(start, str) else start or []}


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
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.glob("*.yaml"))) or "none"
        raise UserError(f"{path}: expected a recipe, this is a folder; recipes in it: {inside}")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path(".")
        nearby = did_you_mean(path.name, (p.name for p in folder.glob("*.yaml")))
        raise UserError(f"{path}: no such file in {folder}; {nearby}")
    try:
        text = read_regular(path, MOST_BYTES).decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not readable as YAML ({first_line(error)})") from None
    try:
        plain = read_yaml(text)
    except ConfigError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML ({_yaml_problem(error, text)})") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top, got a list")
    return plain


def _yaml_problem(error: Exception, text: str) -> str:
    """What is wrong, and where."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return first_line(error)
    mark = error.problem_mark
    line = text.splitlines()[mark.line : mark.line + 1]
    hint = '; inside {} write "${...}" in quotes' if "${" in "".join(line) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{hint}"
