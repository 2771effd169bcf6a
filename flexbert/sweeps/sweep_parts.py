"""A sweep's runs divided among machines that do not see each other's folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from flexbert.errors import UserError
from flexbert.plan.run_price import RunPricing
from flexbert.plan.stage_cost import Hardware
from flexbert.sweeps.runs import SweepRun


class SweepPart(NamedTuple):
    """A machine's share of the runs: ``number``, from 1, of ``total``."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> SweepPart:
        """Read ``i/n``.

        Raises:
            UserError: if it is none.
        """
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard {text}: expected which of how many, as 1/4, 2/4, 3/4 and 4/4")
        return cls(int(found[1]), int(found[2]))


def runs_of_part(runs: Sequence[SweepRun], part: SweepPart) -> list[SweepRun]:
    """The runs of a part, in their order.

    The most expensive run goes to whichever part has least to do so far, then the next (longest
    processing time first, Graham 1969). Of runs that cost the same every n-th is taken. A price
    here is of the recipe alone, so that all machines divide in the same way, whatever they have.
    """
    pricing = RunPricing(Hardware(), with_corpora=False)
    prices = [pricing.price(run.recipe).flops for run in runs]
    loads = [0.0] * part.total
    taken = []
    # Sorting keeps the order of what costs the same.
    for index in sorted(range(len(runs)), key=lambda index: -prices[index]):
        least = min(range(part.total), key=loads.__getitem__)
        loads[least] += prices[index]
        if least == part.number - 1:
            taken.append(index)
    return [runs[index] for index in sorted(taken)]
