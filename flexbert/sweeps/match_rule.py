"""``match`` of a sweep: which width is adjusted so that its points are equal in a count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexbert.errors import ConfigError, did_you_mean

# What may be matched, and the field of RecipeCounts that counts it.
COUNTED = {
    "parameters": "parameters",
    "encoder_parameters": "encoder_parameters",
    "flops": "flops_per_token",
}
_KEYS = ("of", "key", "multiple", "in_proportion")


@dataclass(frozen=True, kw_only=True)
class MatchRule:
    """What makes points equal.

    Attributes:
        of: a name of :data:`COUNTED`.
        key: the dotted key of a recipe that is adjusted, a width.
        multiple: what it stays a multiple of.
        in_proportion: keys that keep their proportion to it, always whole: the number of heads,
            where a head's size is to stay.
    """

    of: str
    key: str = "model.mlp.intermediate_size"
    multiple: int = 8
    in_proportion: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All that is adjusted."""
        return (self.key, *self.in_proportion)


def read_match(node: Any) -> MatchRule | None:
    """``match: parameters``, or a mapping with ``of``; None for null.

    Raises:
        ConfigError: if it is none.
    """
    if node is None:
        return None
    given = node if isinstance(node, Mapping) else {"of": node}
    for key in given:
        if key not in _KEYS:
            raise ConfigError(f"match.{key}", f"unknown key; {did_you_mean(str(key), _KEYS)}")
    of = given.get("of")
    if of not in COUNTED:
        where = "match.of" if isinstance(node, Mapping) else "match"
        raise ConfigError(where, f"no count {of!r}; {did_you_mean(str(of), COUNTED)}")
    rule = MatchRule(**{**given, "in_proportion": _names(given.get("in_proportion", []))})
    if not isinstance(rule.key, str) or not rule.key:
        raise ConfigError("match.key", f"expected a key of the recipe, got {rule.key!r}")
    if type(rule.multiple) is not int or rule.multiple < 1:
        raise ConfigError("match.multiple", f"expected a whole number, got {rule.multiple!r}")
    return rule


def read_tolerance(node: Any) -> float:
    """``tolerance`` of a sweep: a share.

    Raises:
        ConfigError: if it is none.
    """
    if type(node) not in (int, float) or not 0 <= node < 1:
        raise ConfigError("tolerance", f"expected a share from 0 to below 1, got {node!r}")
    return float(node)


def _names(node: Any) -> tuple[str, ...]:
    listed = [node] if isinstance(node, str) else node
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigError("match.in_proportion", f"expected keys of the recipe, got {node!r}")
    return tuple(listed)
