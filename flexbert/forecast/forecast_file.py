"""A ladder and the law that was laid through it, as a file: ``forecast.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.encode import encode
from flexbert.config.plain_values import as_dict, dict_of, number, text, value_of
from flexbert.errors import UserError, first_line
from flexbert.files.durable import make_folder, write_text
from flexbert.files.regular import load_json
from flexbert.forecast.fitting import FittedLaw, fit_law
from flexbert.forecast.laws import Scale, identified_law
from flexbert.forecast.rungs import Ladder, LadderRung

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class LadderFit:
    """A law through a ladder.

    Attributes:
        why: it is this law and not another.
    """

    ladder: Ladder
    fitted: FittedLaw
    why: str


def fit_ladder(ladder: Ladder) -> LadderFit:
    """Lay the law with the most constants that the rungs determine through them.

    Raises:
        UserError: if they determine none.
    """
    scales = [rung.scale for rung in ladder.rungs]
    losses = [rung.loss for rung in ladder.rungs]
    try:
        law, why = identified_law(scales)
        fitted = fit_law(law, scales, losses, ladder.numbered())
    except ValueError as error:
        raise UserError(f"no forecast: {error}") from None
    return LadderFit(ladder=ladder, fitted=fitted, why=why)


def write_forecast(found: LadderFit, path: Path) -> None:
    """Write the rungs, and the constants for other readers."""
    fitted = found.fitted
    plain = {
        "format": _FORMAT,
        "law": fitted.law.name,
        "formula": fitted.law.formula,
        "why": found.why,
        "constants": fitted.constants,
        "noise": encode(fitted.noise),
        "rungs": [encode(rung) for rung in found.ladder.rungs],
    }
    make_folder(path.parent)
    write_text(path, json.dumps(plain, indent=2) + "\n")


def read_forecast(path: Path) -> LadderFit:
    """Read the rungs, and fit them again: what is computed from them is not taken from a file.

    Raises:
        UserError: if it is no such file.
    """
    try:
        plain = as_dict(load_json(path))
        if plain["format"] != _FORMAT:
            raise ValueError(f"format {plain['format']}, and this version reads {_FORMAT}")
        rungs = tuple(_rung(as_dict(rung)) for rung in plain["rungs"])
        if not rungs:
            raise ValueError("no rungs")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not what flexbert forecast --out writes ({first_line(error)})"
        ) from None
    return fit_ladder(Ladder(rungs=rungs))


def _rung(plain: Mapping[str, Any]) -> LadderRung:
    scale = dict_of(plain, "scale", _positive)
    return LadderRung(
        name=value_of(plain, "name", text),
        scale=Scale(parameters=scale["parameters"], tokens=scale["tokens"], flops=scale["flops"]),
        loss=value_of(plain, "loss", _positive),
        settings=dict_of(plain, "settings", text),
    )


def _positive(value: Any) -> float:
    found = number(value)
    if found <= 0:
        raise ValueError("not positive")
    return found
