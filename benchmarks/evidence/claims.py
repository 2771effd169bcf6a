"""What the ModernBERT paper (arXiv 2412.13663) says or takes over, in our words, and its trial.

A claim names a sweep of ``yamls/ablations`` and what is expected of differences between its points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Expectation = Literal["lower", "higher", "same", "not lower", "not higher"]

LOSS, NAMES, TOPIC = "eval_loss", "code_names.f1_macro", "package_topic.accuracy"
SPEED = "tokens_per_second"
# Differences that nobody would choose by: nats, points of a score from 0 to 1.
NEGLIGIBLE = {LOSS: 0.02, NAMES: 0.01, TOPIC: 0.01}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``point`` less ``reference``.

    Attributes:
        expected: of the difference; ``same`` is a negligible one, on either side, and ``not lower``
            or ``not higher`` one that is at most negligible on that side.
    """

    point: str
    reference: str
    expected: Expectation
    measure: str = LOSS

    @property
    def bounds(self) -> tuple[float, float]:
        """What the difference is expected to lie between."""
        limit = NEGLIGIBLE.get(self.measure, 0.0)
        low = {"lower": -math.inf, "higher": 0.0, "not higher": -math.inf}
        high = {"lower": 0.0, "higher": math.inf, "not lower": math.inf}
        return low.get(self.expected, -limit), high.get(self.expected, limit)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of the evidence.

    Attributes:
        says: the claim.
        sweep: file in ``yamls/ablations``, without its suffix.
        before: sweeps whose runs it starts from.
        remark: what the miniature cannot know, or holds differently.
    """

    title: str
    says: str
    sweep: str
    comparisons: tuple[Comparison, ...]
    before: tuple[str, ...] = ()
    remark: str = ""


def _than(
    reference: str, expected: Expectation, *points: str, measure: str = LOSS
) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(point=point, reference=reference, expected=expected, measure=measure)
        for point in points
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        title="Gated MLPs",
        says="A gated MLP is better than BERT's at the same number of parameters; the paper takes "
        "GeGLU, and Shazeer (2020) finds SwiGLU as good.",
        sweep="activations",
        comparisons=(*_than("geglu", "higher", "gelu"), *_than("geglu", "same", "swiglu")),
    ),
    Claim(
        title="Rotary positions on all dimensions",
        says="Rotary positions turn the whole of each head; turning a part of it gains nothing.",
        sweep="rope",
        comparisons=_than("all", "not lower", "three_quarters", "half"),
    ),
    Claim(
        title="LayerNorm",
        says="LayerNorm without bias is kept; RMSNorm would not lower the loss.",
        sweep="norms",
        comparisons=_than("layernorm", "not lower", "rmsnorm"),
    ),
    Claim(
        title="Sequential blocks",
        says="The MLP follows attention; blocks with both side by side do not lower the loss.",
        sweep="parallel",
        comparisons=(
            *_than("sequential", "not lower", "parallel"),
            *_than("sequential", "higher", "parallel", measure=SPEED),
        ),
        remark="The speed is that of a CPU core.",
    ),
    Claim(
        title="Alternating attention",
        says="Global attention in every third layer costs no quality, and is faster.",
        sweep="attention",
        comparisons=(
            *_than("global", "not higher", "alternating"),
            *_than("global", "higher", "alternating", measure=SPEED),
        ),
        remark="On sequences of 1,024 tokens.",
    ),
    Claim(
        title="Masking 30 percent",
        says="Masking 30 percent of the tokens trains better than BERT's 15 (Wettig et al. 2023).",
        sweep="mask_rate",
        comparisons=(
            *_than("thirty", "higher", "fifteen"),
            *_than("thirty", "lower", "fifteen", measure=NAMES),
        ),
        remark="Both are evaluated at 15 percent, which favours 15.",
    ),
    Claim(
        title="Decay by 1-sqrt",
        says="Where the learning rate falls at the end, 1-sqrt is as good as linear or better, and "
        "better than a cosine (Haegele et al. 2024).",
        sweep="decay",
        comparisons=(
            *_than("one_minus_sqrt", "not lower", "linear"),
            *_than("one_minus_sqrt", "higher", "cosine"),
        ),
    ),
    Claim(
        title="Trapezoid",
        says="A plateau with a decay ends where a cosine does, and a longer run can go on from the "
        "plateau without warming up again, where a cosine's end is a cold restart.",
        sweep="schedules",
        comparisons=(
            *_than("trapezoid", "same", "cosine"),
            *_than("trapezoid", "same", "trapezoid_continued"),
            *_than("trapezoid_continued", "higher", "cosine_continued"),
        ),
        remark="The continued ones see their second half of the tokens in another order.",
    ),
    Claim(
        title="Batch size warmup",
        says="Small batches at the beginning reach the same loss with fewer tokens.",
        sweep="batch_warmup",
        comparisons=_than("full", "lower", "warmup"),
        remark="At equal tokens the warmup has more updates: that is what it does.",
    ),
    Claim(
        title="StableAdamW",
        says="Clipping each update by StableAdamW is better than clipping gradients of AdamW, and "
        "as stable.",
        sweep="optimizers",
        comparisons=(
            *_than("stable_adamw", "higher", "adamw"),
            *_than("stable_adamw_spike", "higher", "adamw_spike"),
            *_than("stable_adamw", "not higher", "stable_adamw_spike"),
        ),
        remark="In the spike, ten updates in the middle are told that every masked token is the "
        "same one.",
    ),
    Claim(
        title="Starting large from small",
        says="A larger model starts well from a smaller one's weights, tiled from the centre, and "
        "far ahead of random ones.",
        sweep="tiling",
        before=("tiling_base",),
        comparisons=(
            *_than("random", "lower", "tile_center", "center_random"),
            *_than("tile_center", "higher", "tile_edge"),
            *_than("tile_center", "same", "same_kind"),
        ),
        remark="The small model's own training comes on top of the large one's.",
    ),
    Claim(
        title="Averages of the decay",
        says="The mean of the last checkpoint and the best of the decay is better than the last "
        "one; a moving average of the weights is not.",
        sweep="averages",
        comparisons=(
            *_than("last", "lower", "best three and last"),
            *_than("last", "not lower", "moving average"),
        ),
        remark="A moving average at 0.98 remembers about 50 updates.",
    ),
    Claim(
        title="A tokenizer that knows code",
        says="A BPE tokenizer trained on text and code does better at code than one like BERT's, "
        "and at text no worse.",
        sweep="tokenizers",
        comparisons=(
            *_than("wordpiece", "higher", "bpe", measure=NAMES),
            *_than("wordpiece", "not lower", "bpe", measure=TOPIC),
        ),
        remark="Both have 8,192 tokens and see as many tokens of the same documents.",
    ),
    Claim(
        title="Deep and narrow",
        says="At equal parameters deep and narrow does better than shallow and wide, as far as "
        "hardware lets it.",
        sweep="shapes",
        comparisons=(
            *_than("shallow", "lower", "deep"),
            *_than("shallow", "lower", "deep", measure=SPEED),
        ),
    ),
)
