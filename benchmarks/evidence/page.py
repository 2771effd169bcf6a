"""docs/evidence.md, from trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmarks.evidence.claims import LOSS, SPEED
from benchmarks.evidence.trials import Trial
from benchmarks.evidence.verdicts import Judged

# What a loss has to be below the entropy of single tokens for, in nats, to be of a model that has
# learned from context.
_LEARNED = 1.0
_ROWS = (
    "| | | difference | 95 percent interval | expected | verdict |",
    "| --- | --- | ---: | ---: | --- | --- |",
)


def page(trials: Sequence[Trial], environment: str, introduction: str) -> str:
    """The whole page: a summary, then a section for each claim.

    Args:
        introduction: with places for ``entropy``, of single tokens, and ``loss``, which the first
            claim's reference reaches.
    """
    first = trials[0]
    introduction = introduction.format(
        entropy=first.unigram_entropy, loss=first.judged[0].reference
    )
    lines = [
        "# Evidence",
        "",
        introduction.strip(),
        "",
        "| claim | | | in miniature |",
        "| --- | --- | --- | --- |",
        *(row for trial in trials for row in summary(trial)),
        "",
        environment,
    ]
    for trial in trials:
        lines += ["", *section(trial)]
        lines += [
            "",
            "<!-- not run: it trains for minutes -->",
            "```console",
            f"$ python -m benchmarks.evidence {trial.claim.sweep}",
            "```",
        ]
    return "\n".join(lines) + "\n"


def section(trial: Trial) -> Iterator[str]:
    """One claim: what it says and what was seen, run by run."""
    claim = trial.claim
    yield f"## {claim.title}"
    yield ""
    yield claim.says
    yield ""
    yield from _ROWS
    for each in trial.judged:
        yield _row(each)
    yield ""
    seeds = max(each.seeds for each in trial.judged)
    yield f"{trial.runs} runs of {trial.tokens:,} tokens, {seeds} seeds. {claim.remark}".rstrip()
    yield from _hardly_learned(trial)
    yield ""
    yield from _values(trial.judged)
    if trial.conditions:
        yield ""
        yield from (f"- {line}" for line in trial.conditions)


def summary(trial: Trial) -> Iterator[str]:
    """The verdict of each comparison; the claim stands next to the first."""
    claim = f"[{trial.claim.title}](#{_anchor(trial.claim.title)})"
    for each in trial.judged:
        yield f"| {claim} | {_difference(each)} | {_measure(each)} | {each.judgement} |"
        claim = ""


def _row(judged: Judged) -> str:
    digits = _digits(judged)
    cells = (
        _difference(judged),
        _measure(judged),
        f"{judged.estimate:+,.{digits}f}",
        f"{judged.low:+,.{digits}f} to {judged.high:+,.{digits}f}",
        _expected(judged),
        judged.judgement,
    )
    return f"| {' | '.join(cells)} |"


def _values(judged: Sequence[Judged]) -> Iterator[str]:
    """What each run came to."""
    found: dict[tuple[str, str], tuple[Judged, dict[int, float]]] = {}
    for each in judged:
        comparison = each.comparison
        for name, index in ((comparison.reference, 1), (comparison.point, 0)):
            own = {seed: pair[index] for seed, pair in each.by_seed.items()}
            found.setdefault((name, comparison.measure), (each, own))
    seeds = sorted({seed for _, own in found.values() for seed in own})
    yield f"| | | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    yield f"| --- | --- | {' | '.join(['---:'] * len(seeds))} |"
    for (name, _), (each, own) in found.items():
        values = [f"{own[seed]:,.{_digits(each)}f}" if seed in own else "" for seed in seeds]
        yield f"| {_name(name)} | {_measure(each)} | {' | '.join(values)} |"


def _hardly_learned(trial: Trial) -> Iterator[str]:
    """Names the points whose losses are near what is reached without any context."""
    level = trial.unigram_entropy - _LEARNED
    near = {}
    for each in trial.judged:
        if each.comparison.measure == LOSS:
            for name, loss in (
                (each.comparison.reference, each.reference),
                (each.comparison.point, each.point),
            ):
                if loss > level:
                    near[_name(name)] = loss
    if near:
        yield ""
        yield (
            f"Hardly trained: {', '.join(f'{name} ({loss:.2f})' for name, loss in near.items())}; "
            f"the frequencies of single tokens alone give {trial.unigram_entropy:.2f} nats."
        )


def _difference(judged: Judged) -> str:
    return f"{_name(judged.comparison.point)} − {_name(judged.comparison.reference)}"


def _measure(judged: Judged) -> str:
    measure = judged.comparison.measure
    return "loss" if measure == LOSS else f"`{measure.partition('.')[0]}`"


def _expected(judged: Judged) -> str:
    digits = _digits(judged) and 2
    low, high = judged.comparison.bounds(judged.reference)
    if math.isinf(low):
        return f"below {high:,.{digits}f}" if high else "below 0"
    if math.isinf(high):
        return f"above {low:,.{digits}f}" if low else "above 0"
    return f"within {high:,.{digits}f}"


def _digits(judged: Judged) -> int:
    return 0 if judged.comparison.measure == SPEED else 4


def _name(point: str) -> str:
    return point.replace("_", " ")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
