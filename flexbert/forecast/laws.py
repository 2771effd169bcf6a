"""The curves that are laid through a ladder: a floor, and powers of what a run is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Exponents that are looked for, wide around those that were found: 0.05 to 0.5 in the literature.
LEAST_EXPONENT, LARGEST_EXPONENT = 0.01, 2.0
# A floor of exactly zero has no logarithm; so far below a loss it is as good as zero.
_LEAST_LOG = -12.0
_LARGEST_LOG = 4.0
_STARTS_OF_A_KIND = 12
# Correlation of log N and log D from which on they count as one.
_TOGETHER = 0.95
# A spread of a factor below this tells nothing of an exponent.
_LEAST_FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a run is given.

    Attributes:
        parameters: of the model, without embeddings: N.
        tokens: that it is trained on: D.
        flops: of its training.
    """

    parameters: float
    tokens: float
    flops: float


@dataclass(frozen=True, kw_only=True)
class Law:
    """``L = E + sum of K x^-k``.

    Attributes:
        name: in words.
        terms: what each ``x`` is: attributes of :class:`Scale`.
        floor: whether there is an E: the loss that no size and no data takes away.
        formula: for people.
    """

    name: str
    terms: tuple[str, ...]
    floor: bool
    formula: str

    @property
    def num_constants(self) -> int:
        return self.floor + 2 * len(self.terms)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest of each unknown: ``[P]`` each."""
        low = [_LEAST_LOG] * self.floor + [_LEAST_LOG, LEAST_EXPONENT] * len(self.terms)
        high = [_LARGEST_LOG] * self.floor + [_LARGEST_LOG, LARGEST_EXPONENT] * len(self.terms)
        return np.array(low), np.array(high)


PARAMETERS_AND_TOKENS = Law(
    name="parameters and tokens",
    terms=("parameters", "tokens"),
    floor=True,
    formula="L = E + A N^-a + B D^-b",
)
COMPUTE = Law(name="compute", terms=("flops",), floor=True, formula="L = E + K C^-c")
COMPUTE_ALONE = Law(
    name="compute without a floor", terms=("flops",), floor=False, formula="L = K C^-c"
)
LAWS = {law.name: law for law in (PARAMETERS_AND_TOKENS, COMPUTE, COMPUTE_ALONE)}


@dataclass(frozen=True, kw_only=True)
class LawCurve:
    """A law in the units in which it is fitted.

    Its unknowns are ``[log E/L0 ,] log K/L0, k, ...`` with x in units of ``centre``: all of them
    near one, however large a run is.

    Attributes:
        centre: by term, the geometric mean over the rungs.
        loss: L0, that of the rungs.
    """

    law: Law
    centre: tuple[float, ...]
    loss: float

    def log_x(self, scales: Sequence[Scale]) -> np.ndarray:
        """``[R, number of terms]``"""
        return np.array(
            [
                [
                    math.log(getattr(scale, term) / centre)
                    for term, centre in zip(self.law.terms, self.centre, strict=True)
                ]
                for scale in scales
            ]
        )

    def log_loss(self, unknowns: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logarithm of L/L0 ``[R]``, and its derivatives by the unknowns ``[R, P]``."""
        floor = self.law.floor
        parts = [np.full(len(log_x), np.exp(unknowns[0]))] if floor else []
        columns = list(parts)
        for term in range(len(self.law.terms)):
            log_k, exponent = unknowns[floor + 2 * term : floor + 2 * term + 2]
            part = np.exp(log_k - exponent * log_x[:, term])
            parts.append(part)
            columns += [part, -log_x[:, term] * part]
        whole = np.sum(parts, axis=0)
        return np.log(whole), np.stack(columns, axis=1) / whole[:, None]

    def starts(self, log_x: np.ndarray, log_loss: np.ndarray, count: int) -> list[np.ndarray]:
        """Unknowns to begin a search from: for each choice of exponents the best E and K.

        Given the exponents the loss is linear in the rest, so that only they need a grid.
        """
        exponents = np.geomspace(0.03, 1.5, _STARTS_OF_A_KIND)
        measured = np.exp(log_loss)
        found: list[tuple[float, np.ndarray]] = []
        for chosen in itertools.product(exponents, repeat=len(self.law.terms)):
            columns = [np.ones(len(log_x))] if self.law.floor else []
            columns += [np.exp(-k * log_x[:, term]) for term, k in enumerate(chosen)]
            # Divided by the loss, residuals are those of its logarithm to first order.
            design = np.stack(columns, axis=1) / measured[:, None]
            weights = np.linalg.lstsq(design, np.ones(len(log_x)), rcond=None)[0]
            error = float(((design @ np.maximum(weights, 1e-3) - 1) ** 2).sum())
            logs = np.log(np.maximum(weights, 1e-3))
            unknowns = list(logs[:1]) if self.law.floor else []
            for term, exponent in enumerate(chosen):
                unknowns += [logs[self.law.floor + term], exponent]
            found.append((error, np.array(unknowns)))
        found.sort(key=lambda pair: pair[0])
        return [unknowns for _, unknowns in found[:count]]

    def constants(self, unknowns: np.ndarray) -> dict[str, float]:
        """E and, for each term, its factor and exponent, for x as it is counted."""
        floor = self.law.floor
        named = {"E": self.loss * math.exp(unknowns[0])} if floor else {}
        letters = {"parameters": "A", "tokens": "B", "flops": "K"}
        exponents = {"parameters": "a", "tokens": "b", "flops": "c"}
        for index, (term, centre) in enumerate(zip(self.law.terms, self.centre, strict=True)):
            log_k, exponent = unknowns[floor + 2 * index : floor + 2 * index + 2].tolist()
            log_factor = log_k + math.log(self.loss) + exponent * math.log(centre)
            named[letters[term]] = math.exp(log_factor)
            named[exponents[term]] = exponent
        return named


def curve_through(law: Law, scales: Sequence[Scale], losses: Sequence[float]) -> LawCurve:
    """The law in units of these rungs."""
    centre = tuple(
        math.exp(float(np.mean([math.log(getattr(scale, term)) for scale in scales])))
        for term in law.terms
    )
    return LawCurve(law=law, centre=centre, loss=math.exp(float(np.mean(np.log(losses)))))


def identified_law(scales: Sequence[Scale]) -> tuple[Law, str]:
    """The law with the most constants that different rungs determine, with two rungs to spare.

    Args:
        scales: of each run; those of the same scale are one rung.

    Returns:
        the law, and why it is this one.

    Raises:
        ValueError: if there are fewer than four different rungs, or all are about one size.
    """
    rungs = list(dict.fromkeys(scales))
    count = len(rungs)
    log_n = np.log([rung.parameters for rung in rungs])
    log_d = np.log([rung.tokens for rung in rungs])
    log_c = np.log([rung.flops for rung in rungs])
    least = math.log(_LEAST_FACTOR)
    spare = 2
    if count < COMPUTE_ALONE.num_constants + spare:
        raise ValueError(
            f"{len(scales)} runs are {count} rung{'' if count == 1 else 's'}, and a forecast takes "
            "four: runs of the same parameters and tokens are one rung"
        )
    if np.ptp(log_c) < least:
        raise ValueError("the rungs are about one size: a forecast takes different ones")
    simpler = f"{count} different rungs"
    if count >= PARAMETERS_AND_TOKENS.num_constants + spare:
        if np.ptp(log_n) < least or _distinct(log_n) < 3:
            simpler = "too few sizes of models to tell what size does"
        elif np.ptp(log_d) < least or _distinct(log_d) < 3:
            simpler = "too few numbers of tokens to tell what data does"
        elif (together := abs(float(np.corrcoef(log_n, log_d)[0, 1]))) > _TOGETHER:
            simpler = f"parameters and tokens grow together (correlation {together:.2f})"
        else:
            return PARAMETERS_AND_TOKENS, f"{count} rungs, whose sizes and tokens vary apart"
    if count >= COMPUTE.num_constants + spare:
        return COMPUTE, simpler
    return COMPUTE_ALONE, simpler


def _distinct(logs: np.ndarray) -> int:
    """How many values there are that differ by more than a twentieth."""
    return 1 + int((np.diff(np.sort(logs)) > 0.05).sum())
