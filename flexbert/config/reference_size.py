"""How large a tree becomes when its ``${key.path}`` are replaced: known before it is done.

Forty lines that each name the one before twice would be a trillion values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flexbert.errors import ConfigError

MOST_CHARACTERS_RESOLVED = 10_000_000
_REFERENCE = re.compile(r"\$\{\s*([^${}:\s]+)\s*\}")

Path = tuple[str, ...]


def check_resolved_size(tree: Mapping[str, Any]) -> None:
    """Refuse a tree that its references would blow up.

    References of references (``${a.${b}}``) count as the inner one alone.

    Raises:
        ConfigError: naming a key that becomes too large.
    """
    _Sizes(tree).of((), tree)


class _Sizes:
    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree
        self._known: dict[Path, int] = {}

    def of(self, path: Path, node: Any) -> int:
        """Characters of a node, all that it refers to included; a circle counts once."""
        if path in self._known:
            return self._known[path]
        self._known[path] = 1
        size = 1
        if isinstance(node, str):
            size += len(node)
            for target in _targets(path, node):
                size += self.of(target, _node_at(self._tree, target))
        elif isinstance(node, Mapping):
            size += sum(self.of((*path, str(key)), item) for key, item in node.items())
        elif isinstance(node, list):
            size += sum(self.of((*path, str(index)), item) for index, item in enumerate(node))
        if size > MOST_CHARACTERS_RESOLVED:
            raise ConfigError(
                ".".join(path), "its ${...}, all replaced, are larger than any recipe"
            )
        self._known[path] = size
        return size


def _targets(path: Path, text: str) -> Iterator[Path]:
    """The keys that a text at ``path`` refers to."""
    for match in _REFERENCE.finditer(text):
        name = re.sub(r"\[([^\]]*)\]", r".\1", match[1])
        levels = len(name) - len(name.lstrip("."))
        base = path[: max(0, len(path) - levels)] if levels else ()
        yield (*base, *(part for part in name.split(".") if part))


def _node_at(tree: Any, path: Path) -> Any:
    for part in path:
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree
