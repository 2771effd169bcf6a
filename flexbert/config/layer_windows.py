"""What each layer's attention sees: the whole document, or a window around each token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexbert.config.layer_range import LayerRange
from flexbert.errors import ConfigError

GLOBAL = "global"
REPEAT = "repeat"

# The total width of a window; None is the whole document.
Window = int | None


@dataclass(frozen=True)
class LayerWindows:
    """The window of every layer.

    A recipe writes ``global`` or a width for all layers, a list with one of these for each layer,
    or a mapping: ``repeat`` holds one or a list that is repeated from the first layer on, and the
    other keys are layers (:class:`~flexbert.config.layer_range.LayerRange`) that differ::

        windows: {repeat: [global, 128, 128]}                      # every third from the first
        windows: {repeat: [128, 128, global], "0-1": 64, "-1": 256}

    Attributes:
        widths: repeated over the layers, or one for each.
        is_list: whether there is one for each layer.
        others: layers that differ, and their windows.
    """

    widths: tuple[Window, ...] = (None,)
    is_list: bool = False
    others: tuple[tuple[str, Window], ...] = ()

    @classmethod
    def parse(cls, node: Any) -> LayerWindows:
        """Raises: ValueError if ``node`` has none of the forms above."""
        if isinstance(node, list | tuple):
            return cls(_widths(node), is_list=True)
        if not isinstance(node, Mapping):
            return cls((_width(node),))
        if node.get(REPEAT) is None:
            raise ValueError("give repeat: the windows of the layers that no other key names")
        repeat = node[REPEAT]
        widths = _widths(repeat) if isinstance(repeat, list | tuple) else (_width(repeat),)
        # As in every mapping of names, null takes an entry out.
        others = {str(k): v for k, v in node.items() if k != REPEAT and v is not None}
        for key in others:
            LayerRange.parse(key)
        return cls(widths, others=tuple((key, _width(value)) for key, value in others.items()))

    def plain(self) -> Any:
        """What :meth:`parse` reads back."""
        shown = [GLOBAL if width is None else width for width in self.widths]
        if self.is_list:
            return shown
        if len(shown) == 1 and not self.others:
            return shown[0]
        others = {key: GLOBAL if width is None else width for key, width in self.others}
        return {REPEAT: shown[0] if len(shown) == 1 else shown, **others}

    @property
    def distinct(self) -> frozenset[Window]:
        """The windows there can be, however few layers the model has."""
        return frozenset(self.widths) | {width for _, width in self.others}

    def check(self, num_layers: int) -> None:
        """Raises: ConfigError if they are not the windows of a model of this depth."""
        if self.is_list and len(self.widths) != num_layers:
            raise ConfigError(
                "",
                f"lists {len(self.widths)}, and the model has {num_layers} layers: list one for "
                "each, or give {repeat: [...]}",
            )
        taken: dict[int, str] = {}
        for key, _ in self.others:
            try:
                indices = LayerRange.parse(key).indices(num_layers)
            except ValueError as error:
                raise ConfigError(key, str(error)) from None
            for index in indices:
                if index in taken:
                    raise ConfigError(key, f"layer {index} has a window from {taken[index]!r} too")
                taken[index] = key
        if len(taken) == num_layers:
            raise ConfigError(REPEAT, "no layer is left for it: give a list in place of the ranges")

    def of(self, index: int, num_layers: int) -> Window:
        """The window of layer ``index``."""
        for key, width in self.others:
            if index in LayerRange.parse(key).indices(num_layers):
                return width
        return self.widths[index % len(self.widths)]


def _widths(nodes: list[Any] | tuple[Any, ...]) -> tuple[Window, ...]:
    if not nodes:
        raise ValueError("expected at least one window")
    return tuple(_width(node) for node in nodes)


def _width(node: Any) -> Window:
    if node == GLOBAL:
        return None
    if isinstance(node, bool) or not isinstance(node, int):
        raise ValueError(f"expected {GLOBAL!r} or the width of a window, got {node!r}")
    if node <= 0 or node % 2:
        raise ValueError(f"a window must be positive and even, got {node}")
    return node
