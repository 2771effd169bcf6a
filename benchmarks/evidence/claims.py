"""What the ModernBERT paper (arXiv 2412.13663) says, in our words, and how it is tried.

A claim names a sweep of ``yamls/ablations`` and what is expected of differences between its points.
What is expected follows from the sentence: where the paper found no difference, none is expected.
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
# Of a speed, as a share of the reference's.
NEGLIGIBLE_SPEED = 0.05


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

    def bounds(self, reference: float) -> tuple[float, float]:
        """What the difference is expected to lie between.

        Args:
            reference: its mean.
        """
        limit = NEGLIGIBLE_SPEED * reference if self.measure == SPEED else NEGLIGIBLE[self.measure]
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


def _probed(reference: str, expected: Expectation, point: str) -> tuple[Comparison, ...]:
    """Both probes, where the paper speaks of downstream tasks."""
    return (
        *_than(reference, expected, point, measure=NAMES),
        *_than(reference, expected, point, measure=TOPIC),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        title="Gated MLPs",
        says="Gated MLPs improve on BERT's GELU (section 2.1.1, after Shazeer 2020). Between GeGLU "
        "and SwiGLU there is next to no difference (D).",
        sweep="activations",
        comparisons=(*_than("geglu", "higher", "gelu"), *_than("geglu", "same", "swiglu")),
        remark="The three have the same number of parameters.",
    ),
    Claim(
        title="Rotary positions on all dimensions",
        says="Turning 50 or 75 percent of a head's dimensions gives slightly better results than "
        "turning all, but the difference is minimal; all are turned out of caution (D).",
        sweep="rope",
        comparisons=_than("all", "same", "three_quarters", "half"),
    ),
    Claim(
        title="LayerNorm",
        says="LayerNorm and RMSNorm give very similar results; LayerNorm is kept because it was "
        "the faster one in PyTorch (D).",
        sweep="norms",
        comparisons=_than("layernorm", "same", "rmsnorm"),
        remark="Each has its usual epsilon (1e-5 and 1e-6), and both the learning rate of the "
        "model with LayerNorm.",
    ),
    Claim(
        title="Sequential blocks",
        says="Attention and MLP side by side lose significantly downstream, and at these sizes are "
        "hardly faster (D).",
        sweep="parallel",
        comparisons=(
            *_probed("sequential", "lower", "parallel"),
            *_than("sequential", "higher", "parallel"),
            *_than("sequential", "same", "parallel", measure=SPEED),
        ),
        remark="The speed is that of a CPU core.",
    ),
    Claim(
        title="Alternating attention",
        says="Global attention in every third layer does as well downstream as in every layer, and "
        "is much faster (D).",
        sweep="attention",
        comparisons=(
            *_probed("global", "same", "alternating"),
            *_than("global", "same", "alternating"),
            *_than("global", "higher", "alternating", measure=SPEED),
        ),
        remark="On sequences of 1,024 tokens, in updates of a single one.",
    ),
    Claim(
        title="Masking 30 percent",
        says="30 percent of the tokens are masked, as BERT's 15 percent have been shown to be "
        "suboptimal (2.2.2, after Wettig et al. 2023).",
        sweep="mask_rate",
        comparisons=(
            *_than("thirty", "higher", "fifteen"),
            *_probed("thirty", "lower", "fifteen"),
        ),
        remark="Both are evaluated at 15 percent, which favours 15.",
    ),
    Claim(
        title="Decay by 1-sqrt",
        says="Where the learning rate falls at the end, 1-sqrt outperforms linear and cosine decay "
        "(2.2.2).",
        sweep="decay",
        comparisons=_than("one_minus_sqrt", "higher", "linear", "cosine"),
    ),
    Claim(
        title="Trapezoid",
        says="The trapezoidal schedule has been shown to match a cosine, and its plateau can be "
        "trained on from any checkpoint without a cold restart (2.2.2).",
        sweep="schedules",
        comparisons=(
            *_than("trapezoid", "same", "cosine"),
            *_than("trapezoid", "not higher", "trapezoid_continued"),
            *_than("cosine", "higher", "cosine_continued"),
        ),
        remark="The continued ones are stopped after half of the tokens, the trapezoid on its "
        "plateau and the cosine at its end, and go on with the other half, in another order. Each "
        "is held against its like over all tokens at once: a cold restart would show there.",
    ),
    Claim(
        title="Batch size warmup",
        says="Growing the batch from small to full size accelerated training in ablations (2.2.2).",
        sweep="batch_warmup",
        comparisons=_than("full", "lower", "warmup"),
        remark="At equal tokens the warmup has more updates: that is what it does.",
    ),
    Claim(
        title="StableAdamW",
        says="StableAdamW's clipping of updates outperforms clipping gradients on downstream "
        "tasks, and trains more stably (2.2.2).",
        sweep="optimizers",
        comparisons=(
            *_probed("stable_adamw", "lower", "adamw"),
            *_than("stable_adamw", "higher", "adamw"),
            *_than("stable_adamw_spike", "higher", "adamw_spike"),
        ),
        remark="Stability is tried by a spike: for ten updates in the middle every masked token is "
        "said to be the same one. Weight decay is 1e-5 of each, which AdamW multiplies by its "
        "rate: next to nothing in both.",
    ),
    Claim(
        title="Starting large from small",
        says="Starting large from base's weights, tiled from the centre, greatly accelerates its "
        "beginning. The centre with random values around it and tiling from an edge are both "
        "worse (2.2.2 and A.2).",
        sweep="tiling",
        before=("tiling_base",),
        comparisons=(
            *_than("random", "lower", "tile_center"),
            *_than("tile_center", "higher", "center_random", "tile_edge"),
            *_than("tile_center", "same", "same_kind"),
        ),
        remark="The small model's own training comes on top of the large one's. In `same kind`, "
        "layers start from layers of the same attention, of which the paper says nothing.",
    ),
    Claim(
        title="Averages of the decay",
        says="Base is the mean of the decay's three best checkpoints and its last one. For large, "
        "averages did not help, and a moving average during the decay did not help at all (A.4).",
        sweep="averages",
        comparisons=(
            *_than("last", "lower", "best three and last"),
            *_than("last", "not lower", "moving average"),
        ),
        remark="In so short a decay the loss still falls from checkpoint to checkpoint, so that "
        "the three best ones are the three before the last. A moving average at 0.98 remembers "
        "about 50 updates.",
    ),
    Claim(
        title="A tokenizer that knows code",
        says="A modern BPE tokenizer does better at code than BERT's. That one is competitive on "
        "MNLI; that it lacks code was expected to hurt (2.2.1 and D).",
        sweep="tokenizers",
        comparisons=(
            *_than("wordpiece", "higher", "bpe", measure=NAMES),
            *_than("wordpiece", "not lower", "bpe", measure=TOPIC),
        ),
        remark="The WordPiece tokenizer is trained on docstrings and other text, as BERT's was, "
        "and the BPE one on code too. Both have 8,192 tokens, and both models see as many of them, "
        "of the same documents. Losses over different tokens do not compare.",
    ),
    Claim(
        title="Deep and narrow",
        says="At the same number of parameters, deep and narrow models do better downstream than "
        "shallow and wide ones, and are slower (2.1.3, after Tay et al. 2022 and Liu et al. 2024).",
        sweep="shapes",
        comparisons=(
            *_probed("shallow", "higher", "deep"),
            *_than("shallow", "lower", "deep"),
            *_than("shallow", "lower", "deep", measure=SPEED),
        ),
        remark="All parameters are the same within 1 percent. More than half of them are "
        "embeddings, so the encoders differ.",
    ),
)
