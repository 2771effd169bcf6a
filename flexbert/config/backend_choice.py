"""Which attention backend each kind of layer uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class BackendChoice:
    """The attention backend of each kind of layer.

    A recipe gives one name for both, or ``{global: ..., local: ...}``; a kind left out is ``auto``.
    """

    global_layers: str = AUTO
    local_layers: str = AUTO

    @classmethod
    def parse(cls, node: Any) -> BackendChoice:
        """Raises: ValueError if ``node`` is neither a name nor a mapping of names by kind."""
        if isinstance(node, str):
            return cls(node, node)
        if not isinstance(node, Mapping) or not all(isinstance(v, str) for v in node.values()):
            raise ValueError("expected a backend's name, or one for global and one for local")
        unknown = set(node) - {"global", "local"}
        if unknown:
            raise ValueError(f"no kind of layer {sorted(unknown)[0]!r}; (known: global, local)")
        return cls(node.get("global", AUTO), node.get("local", AUTO))

    def plain(self) -> str | dict[str, str]:
        """What :meth:`parse` reads back."""
        if self.global_layers == self.local_layers:
            return self.global_layers
        return {"global": self.global_layers, "local": self.local_layers}

    def of(self, kind: str) -> str:
        """The backend of layers of this kind."""
        return self.global_layers if kind == "global" else self.local_layers
