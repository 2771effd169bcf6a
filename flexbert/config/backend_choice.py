"""Which attention backend each kind of layer uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexbert.errors import did_you_mean

AUTO = "auto"
KINDS = {"global", "local"}


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
        unknown = {str(kind) for kind in node} - KINDS
        if unknown:
            kind = sorted(unknown)[0]
            raise ValueError(f"no kind of layer {kind!r}; {did_you_mean(kind, KINDS)}")
        return cls(node.get("global", AUTO), node.get("local", AUTO))

    def plain(self) -> str | dict[str, str]:
        """What :meth:`parse` reads back."""
        if self.global_layers == self.local_layers:
            return self.global_layers
        return {"global": self.global_layers, "local": self.local_layers}

    def of(self, kind: str) -> str:
        """The backend of layers of this kind."""
        return self.global_layers if kind == "global" else self.local_layers
