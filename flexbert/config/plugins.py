"""Components from outside of FlexBERT: files and installed packages that a recipe names.

A plugin is a ``.py`` file, a module, or an entry point of the group ``flexbert.plugins``, by its
name. Importing it registers what it has. Nothing is imported that was not named: neither what is
merely installed, nor what a checkpoint says it was made with.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distribution, entry_points, packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from flexbert.config.plugin_files import import_file, sha256_of
from flexbert.config.registry import Component, families, members
from flexbert.errors import ConfigError, did_you_mean, first_line

GROUP = "flexbert.plugins"
KEY = "plugins"
SHA256 = "sha256:"


@dataclass(frozen=True)
class Plugin:
    """A plugin as a recipe names it.

    Attributes:
        name: a file, a module or an entry point.
        version: ``sha256:`` and the hash of a file's contents, or an installed package's name and
            version. A recipe may pin it; it is known once the plugin is imported.
    """

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, node: Any) -> Plugin:
        """Raises: ValueError if ``node`` is neither a name nor a mapping of name and version."""
        if isinstance(node, Plugin):
            return node
        if isinstance(node, str | Path) and str(node):
            return cls(str(node))
        if isinstance(node, Mapping) and {"name"} <= node.keys() <= {"name", "version"}:
            return cls(str(node["name"]), node.get("version") and str(node["version"]))
        raise ValueError(
            "expected a file as ./my_block.py, a module as my_package.blocks, an entry point's "
            f"name, or {{name: ..., version: ...}}, got {node!r}"
        )

    def plain(self) -> dict[str, str]:
        """What :meth:`parse` reads back."""
        named = {"name": self.name}
        return named if self.version is None else {**named, "version": self.version}

    @property
    def is_file(self) -> bool:
        return self.name.endswith(".py") or "/" in self.name

    def beside(self, folder: Path) -> Plugin:
        """The same, its file's path relative to ``folder`` until now."""
        if not self.is_file:
            return self
        return Plugin(str((folder / Path(self.name).expanduser()).resolve()), self.version)

    def __str__(self) -> str:
        version = self.version or "version unknown"
        if version.startswith(SHA256):
            version = version[: len(SHA256) + 12]
        return f"{Path(self.name).name if self.is_file else self.name} ({version})"


# What this process has imported, by the module that classes of a plugin's file have, or by the
# package that those of a module have.
_imported: dict[str, Plugin] = {}


def import_plugins(nodes: Any, folder: Path = Path()) -> tuple[Plugin, ...]:
    """Import plugins, each once.

    Args:
        nodes: a list of what :meth:`Plugin.parse` reads.
        folder: that paths of files are relative to.

    Returns:
        The same with their versions.

    Raises:
        ConfigError: if one is not there, raises an error, registers a name that is taken or nothing
            at all, or is not of the version that is asked for.
    """
    if isinstance(nodes, str) or not isinstance(nodes, Sequence):
        raise ConfigError(KEY, f"expected a list, got {nodes!r}")
    imported = []
    for index, node in enumerate(nodes):
        try:
            plugin = Plugin.parse(node).beside(folder)
        except ValueError as error:
            raise ConfigError(f"{KEY}.{index}", str(error)) from None
        version = _import_file(plugin) if plugin.is_file else _import_module(plugin)
        if plugin.version not in (None, version):
            raise ConfigError(
                KEY, f"{Plugin(plugin.name, version)} is not {plugin.version}, as the recipe pins"
            )
        imported.append(Plugin(plugin.name, version))
    return tuple(imported)


def plugins_of(config: Any) -> tuple[Plugin, ...]:
    """The imported plugins whose components a config holds, itself or in what it holds."""
    if isinstance(config, Mapping):
        config = tuple(config.values())
    if isinstance(config, tuple):
        found = [plugin for item in config for plugin in plugins_of(item)]
    else:
        found = [_imported[key] for key in _keys_of(type(config)) if isinstance(config, Component)]
        values = vars(config).values() if hasattr(config, "__dataclass_fields__") else ()
        found += [plugin for value in values for plugin in plugins_of(value)]
    return tuple(dict.fromkeys(found))


def recorded(recipe: Mapping[str, Any]) -> tuple[Plugin, ...]:
    """The plugins that a resolved recipe says it was run with; none of them is imported."""
    try:
        return tuple(Plugin.parse(node) for node in recipe.get(KEY) or ())
    except (TypeError, ValueError):
        return ()


def not_imported(recipe: Mapping[str, Any]) -> list[Plugin]:
    """Those of a resolved recipe's plugins that nobody has named in this process."""
    versions = {plugin.version for plugin in _imported.values()}
    names = {plugin.name for plugin in _imported.values()}
    return [p for p in recorded(recipe) if p.version not in versions and p.name not in names]


def missing_text(recipe: Mapping[str, Any]) -> str | None:
    """How to read what a resolved recipe describes; None if all its plugins are imported."""
    missing = not_imported(recipe)
    if not missing:
        return None
    names = " and ".join(map(str, missing))
    options = " ".join(f"--plugin {plugin.name}" for plugin in missing)
    return (
        f"made with the {'plugin' if len(missing) == 1 else 'plugins'} {names}, imported only when "
        f"named: give {options}, or plugins=[...] to load_model, or plugins: in the recipe"
    )


def changed_text(config: Any, recipe: Mapping[str, Any]) -> str | None:
    """What a config's components are from, if not from what its resolved recipe was run with."""
    known = {plugin.version for plugin in recorded(recipe)}
    changed = [plugin for plugin in plugins_of(config) if plugin.version not in known]
    if not changed:
        return None
    saved = " and ".join(map(str, recorded(recipe))) or "no plugin"
    return f"built with {' and '.join(map(str, changed))}, and saved with {saved}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How the plugins of two resolved recipes differ, a clause for each."""
    before, after = recorded(old), recorded(new)
    gone = [p for p in before if p.version not in {q.version for q in after}]
    come = [p for p in after if p.version not in {q.version for q in before}]
    return [f"{plugin} was used" for plugin in gone] + [f"{plugin} is new" for plugin in come]


def _import_file(plugin: Plugin) -> str:
    path = Path(plugin.name)
    if path.is_dir():
        raise ConfigError(KEY, f"{path} is a folder: name a .py file, or a module as a.b")
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.py")))
        where = f"in {path.parent}; {near}" if path.parent.is_dir() else f"{path.parent} is missing"
        raise ConfigError(KEY, f"{path.name}: no such file {where}")
    sha256 = sha256_of(path)
    version = f"{SHA256}{sha256}"
    # A copy of the file has nothing new to register, and would be in conflict with it.
    if all(known.version != version for known in _imported.values()):
        before = _registered()
        with_name = Plugin(plugin.name, version)
        try:
            module = import_file(path, sha256)
        except (Exception, SystemExit) as error:
            raise ConfigError(KEY, f"{path}: {_problem(error, path)}") from None
        _imported[module.__name__] = with_name
        _check_registers(with_name, module.__name__, before)
    return version


def _import_module(plugin: Plugin) -> str:
    points = {point.name: point for point in entry_points(group=GROUP)}
    point = points.get(plugin.name)
    module_name = point.module if point else plugin.name
    before = _registered()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _is_above(error.name, module_name):
            raise ConfigError(KEY, _not_found(plugin.name, point, points)) from None
        raise ConfigError(KEY, f"{plugin.name}: {_problem(error)}") from None
    version = _package_version(module)
    package = module_name.split(".")[0]
    _check_registers(plugin, package, before)
    _imported[package] = Plugin(plugin.name, version)
    return version


def _registered() -> dict[tuple[str, str], type[Component]]:
    return {(family, name): cls for family in families() for name, cls in members(family).items()}


def _check_registers(plugin: Plugin, key: str, before: Mapping[Any, type[Component]]) -> None:
    after = _registered()
    if before == after and not any(key in _beginnings(cls.__module__) for cls in after.values()):
        raise ConfigError(
            KEY, f"{plugin.name} registers nothing; the module with @register has to be named"
        )


def _beginnings(module: str) -> tuple[str, str]:
    return module, module.split(".")[0]


def _keys_of(cls: type) -> list[str]:
    return [key for key in _beginnings(cls.__module__) if key in _imported]


def _is_above(name: str | None, module: str) -> bool:
    return name is not None and f"{module}.".startswith(f"{name}.")


def _not_found(name: str, point: EntryPoint | None, points: Mapping[str, EntryPoint]) -> str:
    if point is not None:
        return f"{name}: the entry point's module {point.module} is not there"
    if Path(f"{name}.py").is_file():
        return f"{name}: no such module; to name the file, write ./{name}.py"
    near = difflib.get_close_matches(name, {*points, *sys.modules}, n=1, cutoff=0.8)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = f"entry points of {GROUP}: {', '.join(sorted(points)) or 'none'}"
    return f"{name}: no such module or entry point; {hint}({known})"


def _problem(error: BaseException, path: Path | None = None) -> str:
    """What an import raised, and in which line of the file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if path and frame.filename == str(path)]
    where = f" (line {lines[-1]})" if lines else ""
    return f"raised {type(error).__name__}{where}: {first_line(error)}"


def _package_version(module: ModuleType) -> str:
    """The package's name and version; the hash of its source where that may change under it."""
    package = module.__name__.split(".")[0]
    for name in packages_distributions().get(package, ()):
        found = distribution(name)
        if '"editable": true' not in (found.read_text("direct_url.json") or ""):
            return f"{found.name} {found.version}"
    top = sys.modules[package]
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not files and getattr(top, "__file__", None):
        files = [Path(str(top.__file__))]
    joined = hashlib.sha256("".join(map(sha256_of, files)).encode())
    return f"{SHA256}{joined.hexdigest()}"
