"""Which tokens are selected together: what every ``data.masking`` of a recipe has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from flexbert.config.fields import ORDER, key
from flexbert.config.registry import Component, register

Unit: TypeAlias = Literal["word", "token"]
WORD: Final = "word"
TOKEN: Final = "token"


class MaskingConfig(Component, ABC, family="masking"):
    """How the tokens that are to be predicted are chosen; how many, ``data.mask_rate`` says.

    Spans are selected until there are so many tokens, each from a unit that is drawn from those
    that none has begun at, all equally likely. A span goes over consecutive units of one sequence.
    """

    @property
    @abstractmethod
    def units(self) -> Unit:
        """What a span consists of, always whole."""

    @property
    def span_lengths(self) -> tuple[float, ...]:
        """How likely a span is of 1, 2, ... units; sums to 1."""
        return (1.0,)

    @property
    def replaced_together(self) -> bool:
        """Whether ``data.mask_split`` is drawn once for all tokens of a span, or for each."""
        return False


@register("token")
@dataclass(frozen=True, kw_only=True)
class TokenMasking(MaskingConfig):
    """Every choice of tokens is equally likely (Devlin et al. 2019, "BERT")."""

    @property
    def units(self) -> Unit:
        return TOKEN


SINGLE_TOKENS = TokenMasking()


@register("whole_word")
@dataclass(frozen=True, kw_only=True)
class WholeWordMasking(MaskingConfig):
    """All tokens of a word or none, each of them replaced on its own.

    As ``do_whole_word_mask`` of BERT's ``create_pretraining_data.py``; a word that has more tokens
    than are still to be selected is passed over.
    """

    @property
    def units(self) -> Unit:
        return WORD


@register("span")
@dataclass(frozen=True, kw_only=True)
class SpanMasking(MaskingConfig):
    """Spans of a random number of words, all tokens of a span replaced in the same way.

    The number is geometric, drawn again where it is above a most (Joshi et al. 2020, "SpanBERT",
    3.1: 3.8 words in the mean). Spans that touch are one.

    Attributes:
        p: of the geometric distribution; a span ends behind each of its units with this
            probability.
        max_length: of a span, in units.
        unit: what lengths are counted in, and what is never cut: ``word``, or ``token`` where the
            tokenizer does not say where words begin.
    """

    p: float = key(ORDER, default=0.2, above=0, below=1)
    max_length: int = key(ORDER, default=10, at_least=2, at_most=1000, unit="words or tokens")
    unit: Unit = key(ORDER, default=WORD)

    @property
    def units(self) -> Unit:
        return self.unit

    @property
    def span_lengths(self) -> tuple[float, ...]:
        shares = [self.p]
        while len(shares) < self.max_length:
            shares.append(shares[-1] * (1 - self.p))
        total = sum(shares)
        return tuple(share / total for share in shares)

    @property
    def replaced_together(self) -> bool:
        return True
