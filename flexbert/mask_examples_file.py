"""Masked texts with a model's predictions, one evaluation a line: ``mask_examples.jsonl``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.config.encode import encode
from flexbert.config.plain_values import as_dict, count, number, text, value_of
from flexbert.metrics_file import lines_of

MASK_EXAMPLES = "mask_examples.jsonl"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """
    Attributes:
        token: as text.
        probability: that the model gives it.
    """

    token: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class MaskedPlace:
    """
    Attributes:
        before: the text between the masked token before, or the example's beginning, and this one.
        token: the token that was hidden.
        predictions: the model's, most probable first.
        token_probability: what the model gives the hidden token.
    """

    before: str
    token: str
    predictions: tuple[Prediction, ...]
    token_probability: float


@dataclass(frozen=True, kw_only=True)
class MaskExample:
    """A part of a validation text, always masked in the same places.

    Attributes:
        after: the text behind the last masked token.
    """

    source: str
    masked: tuple[MaskedPlace, ...]
    after: str

    @property
    def text(self) -> str:
        """All of it, nothing hidden."""
        return "".join(place.before + place.token for place in self.masked) + self.after


@dataclass(frozen=True, kw_only=True)
class EvaluationExamples:
    """
    Attributes:
        step: updates of the whole run before the evaluation.
        tokens: real tokens of the whole run before it.
    """

    stage: str
    step: int
    tokens: int
    examples: tuple[MaskExample, ...]

    def plain(self) -> dict[str, Any]:
        """Its line's object."""
        names = ("stage", "step", "tokens", "examples")
        return {name: encode(getattr(self, name)) for name in names}


def read_mask_examples(run_folder: Path) -> list[EvaluationExamples]:
    """Those of each evaluation, oldest first; what cannot be read is passed over.

    Where a kill fell between an evaluation and its checkpoint, the repeated one counts.
    """
    try:
        lines, _ = lines_of(run_folder / MASK_EXAMPLES)
    except OSError:
        return []
    found: dict[tuple[str, int], EvaluationExamples] = {}
    for line in lines:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            evaluation = _evaluation(line.plain)
            found[evaluation.stage, evaluation.step] = evaluation
    return sorted(found.values(), key=lambda evaluation: evaluation.step)


def _evaluation(plain: Mapping[str, Any]) -> EvaluationExamples:
    return EvaluationExamples(
        stage=value_of(plain, "stage", text),
        step=value_of(plain, "step", count),
        tokens=value_of(plain, "tokens", count),
        examples=tuple(_example(as_dict(example)) for example in plain["examples"]),
    )


def _example(plain: Mapping[str, Any]) -> MaskExample:
    return MaskExample(
        source=value_of(plain, "source", text),
        masked=tuple(_place(as_dict(place)) for place in plain["masked"]),
        after=value_of(plain, "after", text),
    )


def _place(plain: Mapping[str, Any]) -> MaskedPlace:
    return MaskedPlace(
        before=value_of(plain, "before", text),
        token=value_of(plain, "token", text),
        predictions=tuple(
            Prediction(
                token=value_of(prediction, "token", text),
                probability=value_of(prediction, "probability", number),
            )
            for prediction in map(as_dict, plain["predictions"])
        ),
        token_probability=value_of(plain, "token_probability", number),
    )
