"""How related are the two things that these sentences describe? A score from 0 to 1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flexbert.tasks.offline.definitions import Definition, Module
from flexbert.tasks.offline.keyed_order import keyed_number, keyed_order

LINKED = 1.0
SAME_MODULE = 0.5
OTHER_PACKAGE = 0.0


@dataclass(frozen=True, kw_only=True)
class _Described:
    package: str
    module: str
    definition: Definition


def relatedness_rows(modules: Sequence[Module], most: int) -> list[dict[str, Any]]:
    """Rows with the columns ``first``, ``second`` and ``score``, equally many of each score.

    A pair scores 1 where the docstring of one names the other under "See Also", 0.5 where they are
    of the same module and neither names the other, 0 where they are of two packages. Each first
    text has one pair of each score, and all are of functions and classes that such a section names
    or that have one: a text alone says nothing about its score.

    Args:
        modules: of a split.
        most: rows.
    """
    described = [
        _Described(package=module.package, module=module.name, definition=one)
        for module in modules
        for one in module.definitions
        if one.summary
    ]
    links = dict(_links(described))
    ends = {key: one for pair in links.values() for one in pair for key in (one.definition.key,)}
    linked = {frozenset((a.definition.key, b.definition.key)) for a, b in links.values()}
    rows: dict[str, dict[str, Any]] = {}
    used: set[frozenset[str]] = set()
    for key in keyed_order(links, "relatedness rows"):
        first, second = links[key]
        near = [one for one in ends.values() if one.module == first.module and one is not first]
        near = [one for one in near if _pair(first, one) not in linked]
        far = [one for one in ends.values() if one.package != first.package]
        same, foreign = _unused(first, near, used), _unused(first, far, used)
        if same is not None and foreign is not None and len(rows) + 3 <= most:
            for score, other in (
                (LINKED, second),
                (SAME_MODULE, same),
                (OTHER_PACKAGE, foreign),
            ):
                used.add(_pair(first, other))
                rows[f"{key} {score}"] = _row(key, first, other, score)
    return [rows[key] for key in keyed_order(rows, "relatedness order")]


def _unused(
    first: _Described, others: Sequence[_Described], used: Collection[frozenset[str]]
) -> _Described | None:
    """Another one that makes no pair twice; None where there is none."""
    start = keyed_number(first.definition.key, "relatedness others") % max(len(others), 1)
    for other in (*others[start:], *others[:start]):
        if _pair(first, other) not in used:
            return other
    return None


def _row(key: str, first: _Described, second: _Described, score: float) -> dict[str, Any]:
    texts = [first.definition.summary, second.definition.summary]
    if keyed_number(key, f"relatedness turn {score}") % 2:
        texts.reverse()
    return {"first": texts[0], "second": texts[1], "score": score}


def _pair(first: _Described, second: _Described) -> frozenset[str]:
    return frozenset((first.definition.key, second.definition.key))


def _links(described: Sequence[_Described]) -> Iterator[tuple[str, tuple[_Described, _Described]]]:
    """Each pair that a "See Also" section makes, once, by a key."""
    named: dict[tuple[str, str], list[_Described]] = defaultdict(list)
    for one in described:
        named[one.package, one.definition.name].append(one)
    seen: set[frozenset[str]] = set()
    for one in described:
        for name in one.definition.see_also:
            other = _resolved(one, name, named[one.package, name.rpartition(".")[2]])
            if other is not None and other is not one and _pair(one, other) not in seen:
                seen.add(_pair(one, other))
                yield " ".join((one.definition.key, other.definition.key)), (one, other)


def _resolved(one: _Described, name: str, candidates: Sequence[_Described]) -> _Described | None:
    """What a name means where it is written: of its class, its module, or else the only one."""
    owner = name.rpartition(".")[0].rpartition(".")[2]
    for fits in (
        [c for c in candidates if owner and c.definition.owner == owner],
        [c for c in candidates if c.module == one.module and _same_owner(c, one)],
        [c for c in candidates if c.module == one.module],
        candidates,
    ):
        if len(fits) == 1:
            return fits[0]
    return None


def _same_owner(one: _Described, other: _Described) -> bool:
    return one.definition.owner == other.definition.owner
