"""docs/evidence.md, from trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmarks.evidence.claims import LOSS, SPEED, Comparison
from benchmarks.evidence.trials import Trial
from benchmarks.evidence.verdicts import Judged, in_all


def page(trials: Sequence[Trial], environment: str, introduction: str) -> str:
    """The whole page: a summary, then a section for each claim."""
    lines = [
        "# Evidence",
        "",
        introduction.strip(),
        "",
        "| claim | verdict |",
        "| --- | --- |",
        *(f"| [{t.claim.title}](#{_anchor(t.claim.title)}) | {verdict(t)} |" for t in trials),
        "",
        environment,
    ]
    for trial in trials:
        lines += ["", *section(trial)]
    return "\n".join(lines) + "\n"


def section(trial: Trial) -> Iterator[str]:
    """One claim: what it says, what was seen, and how to see it again."""
    claim = trial.claim
    yield f"## {claim.title}"
    yield ""
    yield claim.says
    yield ""
    yield "| | | values | difference | 95 percent interval | expected | verdict |"
    yield "| --- | --- | ---: | ---: | ---: | --- | --- |"
    for each in trial.judged:
        yield _row(each)
    yield ""
    seeds = max(each.seeds for each in trial.judged)
    yield f"{trial.runs} runs of {trial.tokens:,} tokens, {seeds} seeds. {claim.remark}".rstrip()
    yield ""
    yield "<!-- not run: it trains for minutes -->"
    yield "```console"
    yield f"$ python -m benchmarks.evidence {claim.sweep}"
    yield "```"


def verdict(trial: Trial) -> str:
    return in_all([each.judgement for each in trial.judged])


def _row(judged: Judged) -> str:
    comparison = judged.comparison
    point, reference = _name(comparison.point), _name(comparison.reference)
    digits = 0 if comparison.measure == SPEED else 4
    cells = (
        f"{point} less {reference}",
        "loss in nats" if comparison.measure == LOSS else comparison.measure.replace("_", " "),
        f"{judged.point:,.{digits}f}, {judged.reference:,.{digits}f}",
        f"{judged.estimate:+,.{digits}f}",
        f"{judged.low:+,.{digits}f} to {judged.high:+,.{digits}f}",
        _expected(comparison),
        judged.judgement,
    )
    return f"| {' | '.join(cells)} |"


def _expected(comparison: Comparison) -> str:
    low, high = comparison.bounds
    if math.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"within {high:g}"


def _name(point: str) -> str:
    return point.replace("_", " ")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
