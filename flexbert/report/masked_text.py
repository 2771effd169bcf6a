"""Examples of masked texts as HTML: how the model's predictions changed from evaluation to another.

Every text is escaped: it comes from a corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from flexbert.mask_examples_file import EvaluationExamples, MaskedPlace, MaskExample
from flexbert.pictures import as_count

# Of a table, and of a page: what a person looks through.
MOST_COLUMNS = 8
MOST_EXAMPLES = 40

Seen = list[tuple[EvaluationExamples, MaskExample]]


def masked_text_section(evaluations: Sequence[EvaluationExamples]) -> str:
    """A text after another, each with a table: a row a masked token, a column an evaluation."""
    by_text: dict[tuple[str, str, str], Seen] = {}
    for evaluation in evaluations:
        for example in evaluation.examples:
            key = (evaluation.stage, example.source, example.text)
            by_text.setdefault(key, []).append((evaluation, example))
    shown = list(by_text.items())[:MOST_EXAMPLES]
    return "".join(_example(stage, source, seen) for (stage, source, _), seen in shown)


def _example(stage: str, source: str, seen: Seen) -> str:
    columns = spread(seen, MOST_COLUMNS)
    head = "".join(
        f"<th>update {evaluation.step:,}<br>"
        f"<small>{as_count(evaluation.tokens)} tokens</small></th>"
        for evaluation, _ in columns
    )
    _, example = columns[-1]
    rows = "".join(
        f'<tr><td>{number}</td><td class="token">{_shown(place.token)}</td>'
        + "".join(_cell(other, number - 1) for _, other in columns)
        + "</tr>"
        for number, place in enumerate(example.masked, 1)
    )
    return (
        f'<div class="example"><p class="note">stage {escape(stage)}, source {escape(source)}</p>'
        f'<p class="text">{_text(example)}</p><div class="wide"><table>'
        f"<tr><th></th><th>hidden token</th>{head}</tr>{rows}</table></div></div>"
    )


def _text(example: MaskExample) -> str:
    """The text with its masked tokens set off and numbered."""
    parts = [
        f"{escape(place.before)}<b>{_shown(place.token)}</b><sub>{number}</sub>"
        for number, place in enumerate(example.masked, 1)
    ]
    return "".join(parts) + escape(example.after)


def _cell(example: MaskExample, index: int) -> str:
    """The most probable token and its probability; the next ones when pointed at."""
    if index >= len(example.masked) or not example.masked[index].predictions:
        return "<td></td>"
    place = example.masked[index]
    first = place.predictions[0]
    kind = "right" if first.token == place.token else "wrong"
    return (
        f'<td class="{kind}" title="{escape(_all(place))}">{_shown(first.token)} '
        f"<small>{_share(first.probability)}</small></td>"
    )


def _share(probability: float) -> str:
    return f"{probability:.1%}" if probability < 0.1 else f"{probability:.0%}"


def _all(place: MaskedPlace) -> str:
    best = ", ".join(f"{one.token.strip()} {one.probability:.1%}" for one in place.predictions)
    return f"{best}; the hidden token {place.token_probability:.1%}"


def _shown(token: str) -> str:
    """A token whose spaces and line ends can be seen where there is nothing else."""
    if token.strip():
        return escape(token.replace("\n", "⏎"))
    return escape(token.replace("\n", "⏎").replace(" ", "␣").replace("\t", "⇥")) or "∅"


def spread(values: Seen, most: int) -> Seen:
    """The first, the last and others evenly between, ``most`` in all."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]
