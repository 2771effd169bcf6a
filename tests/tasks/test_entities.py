from __future__ import annotations

import pytest

from flexbert.tasks.entities import entities


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", set()),
        ("O O", set()),
        # IOB2
        ("B-A I-A O B-B", {(0, 2, "A"), (3, 4, "B")}),
        ("B-A B-A I-A", {(0, 1, "A"), (1, 3, "A")}),
        # IOB1: B only where an entity of the kind ends before it
        ("I-A I-A B-A O I-B", {(0, 2, "A"), (2, 3, "A"), (4, 5, "B")}),
        ("I-A I-B", {(0, 1, "A"), (1, 2, "B")}),
        # BIOES, BILOU and BMES
        ("S-A B-A E-A B-B I-B E-B", {(0, 1, "A"), (1, 3, "A"), (3, 6, "B")}),
        ("U-A B-A L-A B-B M-B E-B", {(0, 1, "A"), (1, 3, "A"), (3, 6, "B")}),
        # Broken, as conlleval reads them
        ("O E-A", {(1, 2, "A")}),
        ("B-A E-B", {(0, 1, "A"), (1, 2, "B")}),
        ("B-A E-A I-A", {(0, 2, "A"), (2, 3, "A")}),
        ("S-A I-A", {(0, 1, "A"), (1, 2, "A")}),
        ("B-A-x I-A-x", {(0, 2, "A-x")}),
    ],
)
def test_entities_are_found_in_every_scheme(
    labels: str, expected: set[tuple[int, int, str]]
) -> None:
    assert entities(labels.split()) == expected
