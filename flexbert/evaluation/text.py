"""An evaluation as lines for people."""

from __future__ import annotations

from flexbert.evaluation.evaluate_lm import LmEvaluation, SourceScore
from flexbert.evaluation.scores import MaskedScore, PositionScore

_NAME = 24


def evaluation_text(found: LmEvaluation) -> str:
    """Model and settings, the scores of all, then by source and by position."""
    lines = [
        _line("model", f"{found.model} ({found.parameters:,} parameters)"),
        _line(
            "evaluated on",
            f"{found.split}, sequences of up to {found.max_length} tokens, "
            f"{found.mask_rate:.0%} masked, {found.precision} on {found.device}",
        ),
        *(_line("note", note) for note in found.notes),
    ]
    if len(found.sources) == 1:
        (source,) = found.sources.values()
        lines += [_line("corpus", source.corpus), *_score_lines(found.score), *_extras(source)]
    else:
        lines += _score_lines(found.score)
        for name, source in found.sources.items():
            lines += ["", _line(name, source.corpus), *_score_lines(source.score)]
            lines += _extras(source)
        lines.append("")
    lines += _position_lines(found.positions)
    return "\n".join(lines)


def _score_lines(score: MaskedScore) -> list[str]:
    if score.loss is None:
        return [_line("loss", "none: no token was masked; raise --mask-rate, or give more text")]
    error = "" if score.standard_error is None else f" +- {score.standard_error:.4f}"
    return [
        _line("masked tokens", f"{score.masked_tokens:,}"),
        _line("loss", f"{score.loss:.4f}{error} nats a token"),
        _line("perplexity", f"{score.perplexity:.2f}"),
        _line("accuracy", f"{score.accuracy:.2%}"),
    ]


def _extras(source: SourceScore) -> list[str]:
    lines = []
    if source.floors is not None:
        lines += [
            _line("unigram model", f"{source.floors.unigram:.4f} nats a token"),
            _line("neighbour model", f"{source.floors.neighbours:.4f} nats a token"),
        ]
    if (pseudo := source.pseudo_perplexity) is not None:
        lines.append(
            _line(
                "pseudo-perplexity",
                f"{pseudo.perplexity:.2f} ({pseudo.loss:.4f} nats a token, {pseudo.tokens:,} "
                f"tokens of {pseudo.sequences:,} sequences)",
            )
        )
    return lines


def _position_lines(positions: tuple[PositionScore, ...]) -> list[str]:
    lines = (
        [f"{'position':<{_NAME}}{'masked':>12}{'loss':>10}{'accuracy':>10}"] if positions else []
    )
    for each in positions:
        place = f"{each.begin:,}-{each.end - 1:,}"
        lines.append(
            f"{place:<{_NAME}}{each.masked_tokens:>12,}{each.loss:>10.4f}{each.accuracy:>10.2%}"
        )
    return lines


def _line(name: str, value: str) -> str:
    return f"{name:<{_NAME}}{value}"
