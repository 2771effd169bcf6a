"""The rows of a comparison: which fits are of one model, fitted in one way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.tree import flatten
from flexbert.errors import shown
from flexbert.tasks.comparison import TableRow
from flexbert.tasks.fits import of_a_fit
from flexbert.tasks.kept_fits import KeptFit
from flexbert.tasks.results import Mode

# Of a row or a column, in characters: it stands in tables.
_LONGEST_LABEL = 60
# A model's name, its fingerprint and a mode.
_Model = tuple[str, str, Mode]


@dataclass(frozen=True, kw_only=True)
class ComparisonRows:
    """
    Attributes:
        rows: in the order of their first fits.
    """

    rows: tuple[TableRow, ...]
    _by_model: Mapping[tuple[_Model, Path | None], TableRow]
    _apart: frozenset[_Model]

    def row_of(self, fit: KeptFit) -> TableRow:
        """The row that a fit stands in."""
        return self._by_model[_row_key(fit, self._apart)]


def comparison_rows(fits: Sequence[KeptFit]) -> ComparisonRows:
    """Two models of one name are two rows, and so is one model in results with other settings."""
    apart = frozenset(_fitted_in_several_ways(fits))
    keys = list(dict.fromkeys(_row_key(fit, apart) for fit in fits))
    models = dict.fromkeys(model for model, _ in keys)
    count = Counter((name, mode) for name, _, mode in models)
    rows: dict[tuple[_Model, Path | None], TableRow] = {}
    labels: set[str] = set()
    for key in keys:
        (name, fingerprint, mode), folder = key
        label = name if count[name, mode] == 1 else f"{name} {fingerprint[:8]}"
        said = ([folder.name] if folder else []) + (["frozen"] if mode == "frozen" else [])
        label = new_label(label + (f" ({', '.join(said)})" if said else ""), labels)
        rows[key] = TableRow(label=label, model=name, mode=mode, fingerprint=fingerprint)
    return ComparisonRows(rows=tuple(rows.values()), _by_model=rows, _apart=apart)


def new_label(name: str, labels: set[str]) -> str:
    """A name that has room in a table and that no other row or column has."""
    short = label = shown(name, _LONGEST_LABEL)
    number = 1
    while label in labels:
        number += 1
        label = f"{short} ({number})"
    labels.add(label)
    return label


def _row_key(fit: KeptFit, apart: frozenset[_Model]) -> tuple[_Model, Path | None]:
    model = _model(fit)
    return model, fit.folder if model in apart else None


def _model(fit: KeptFit) -> _Model:
    record = fit.record
    is_floor = record.mode == "floor"
    return record.model, "" if is_floor else record.model_fingerprint, record.mode


def _fitted_in_several_ways(fits: Sequence[KeptFit]) -> set[_Model]:
    """The models whose fits of one task differ in settings that no search has varied."""
    groups: dict[tuple[_Model, str, str], list[KeptFit]] = {}
    for fit in fits:
        if fit.record.mode != "floor":
            key = _model(fit), fit.record.suite, fit.record.task
            groups.setdefault(key, []).append(fit)
    return {model for (model, *_), own in groups.items() if _differ(own)}


def _differ(fits: Sequence[KeptFit]) -> bool:
    varied = {key for fit in fits for key in fit.record.point}
    first: dict[str, Any] = {}
    for fit in fits:
        settings = flatten(of_a_fit(fit.record.settings, fit.record.mode))
        for key, value in settings.items():
            # Keys that one of them has alone came with another version.
            if key not in varied and first.setdefault(key, value) != value:
                return True
    return False
