"""Entities in a sequence of labels such as ``B-PER I-PER O``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flexbert.errors import UserError

Span = tuple[int, int, str]  # begin, end (not included), kind
# Letters of all schemes with one meaning each: IOB1, IOB2, BIOES, BILOU, BMES.
_MEANING = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


def entities(labels: Sequence[str]) -> set[Span]:
    """The entities of one sequence, in whichever of the schemes IOB1, IOB2, BIOES, BILOU and BMES.

    Labels that break their scheme are read as the CoNLL-2000 evaluation script ``conlleval`` does:
    an inside without a beginning, or after another kind, begins an entity.
    """
    found: set[Span] = set()
    begin, kind, is_open = 0, "", False
    for position, label in enumerate([*labels, "O"]):
        letter, own = _parts(label)
        begins = letter in ("B", "S") or not is_open or own != kind
        if is_open and (letter == "O" or begins):
            found.add((begin, position, kind))
            is_open = False
        if letter != "O":
            if begins:
                begin, kind, is_open = position, own, True
            if letter in ("E", "S"):
                found.add((begin, position + 1, kind))
                is_open = False
    return found


def require_entity_labels(names: Iterable[str]) -> None:
    """Raises: UserError naming the first label that is of no scheme."""
    for name in names:
        letter, between, kind = name.partition("-")
        if name != "O" and not (letter in _MEANING and between and kind):
            raise UserError(
                f"entity_f1: label {name!r} is neither O nor like B-PER, I-PER, E-PER or S-PER; "
                "take accuracy or f1_macro"
            )


def _parts(label: str) -> tuple[str, str]:
    letter, _, kind = label.partition("-")
    return _MEANING.get(letter, "O"), kind
