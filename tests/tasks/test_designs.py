"""What designs choose, on values made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

from flexbert.tasks.designs import DESIGNS, FitChoice, Space

SEEDS = (17, 18, 19)
Value = Callable[[FitChoice], float]


def searched(design: str, space: Space, value: Value) -> list[FitChoice]:
    """All fits of a search in which the fits wanted are made one by one."""
    values: dict[FitChoice, float] = {}
    while left := [c for c in DESIGNS[design].wanted(space, values) if c not in values]:
        values[left[0]] = value(left[0])
    return list(values)


def test_the_full_grid_takes_every_point_with_every_seed() -> None:
    found = searched("full", Space(4, SEEDS, "accuracy"), lambda choice: 0.0)
    assert sorted(found) == [FitChoice(point, seed) for point in range(4) for seed in SEEDS]


def test_the_grid_of_one_seed_takes_its_best_point_with_the_others() -> None:
    accuracy = [0.5, 0.9, 0.7, 0.9]
    found = searched("one-seed", Space(4, SEEDS, "accuracy"), lambda c: accuracy[c.point])
    first = [FitChoice(point, 17) for point in range(4)]
    assert found == [*first, FitChoice(1, 18), FitChoice(1, 19)], "of equal ones the first"


def test_less_is_better_of_an_error_and_no_number_is_never_best() -> None:
    errors = [math.nan, 0.4, 0.2, 0.3]
    found = searched("one-seed", Space(4, SEEDS, "mse"), lambda c: errors[c.point])
    assert found[-1].point == 2
    found = searched("one-seed", Space(2, SEEDS, "accuracy"), lambda c: math.nan)
    assert found[-1].point == 0, "where all diverge, the search still ends"


def test_halving_keeps_the_best_third_twice() -> None:
    # A point that is slow to learn is lost; the best of the last rung wins, whatever it was before.
    early = [0.1 * point for point in range(9)]

    def value(choice: FitChoice) -> float:
        if choice.budget < 0.2:
            return early[choice.point]
        return {6: 0.9, 7: 0.8, 8: 0.7}[choice.point]

    found = searched("halving", Space(9, SEEDS, "accuracy"), value)
    assert found[:9] == [FitChoice(point, 17, 1 / 9) for point in range(9)]
    assert found[9:12] == [FitChoice(point, 17, 1 / 3) for point in (6, 7, 8)]
    assert found[12:] == [FitChoice(6, 17), FitChoice(6, 18), FitChoice(6, 19)]


def test_designs_make_as_many_fits_as_they_say() -> None:
    for name, design in DESIGNS.items():
        for points in (1, 2, 5, 48):
            space = Space(points, SEEDS, "accuracy")
            found = searched(name, space, lambda c: (7 * c.point) % 5 / 5)
            assert len(found) == sum(rung.fits for rung in design.rungs(space))
            assert math.isclose(
                sum(choice.budget for choice in found),
                sum(rung.fits * rung.budget for rung in design.rungs(space)),
            )
