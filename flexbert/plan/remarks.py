"""What looks wrong in a recipe that can be run: a plan says it at its end, a run when it begins.

A remark is not an error: the run does what the recipe says. It names the key, what will happen, and
the way out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction

from flexbert.config.by_metric import is_own_metric
from flexbert.config.duration import Duration
from flexbert.data.packing.loader import RankRows
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import UserError
from flexbert.huggingface.families import family_for
from flexbert.huggingface.family import Facts
from flexbert.nn.build import meta_masked_lm
from flexbert.plan.plan import StagePlan
from flexbert.plan.stage_cost import CPU, Hardware, cpu_hardware, token_cost
from flexbert.schedule.stages import Stage

# Rows of an embedding for one of the tokenizer's: padding to a multiple of 64, and some spare
# tokens, stay below.
_VOCABULARY = 1.25
# Masked-LMs gain from many epochs, BERT had 40; a hundred are a corpus too small or a slip.
_EPOCHS = 100
# Rows of a process among which a better batch is looked for, besides twice what it has.
_SEARCHED = 100
# Of the rows computed, padding.
_IDLE = 0.05
_DAYS_ON_GPUS, _DAYS_ON_A_CPU = 365, 30
# What a core of 50 GFLOP/s at an MFU of 0.4 does in ten days.
_FLOPS_OF_ANY_CPU = 1.7e16
# Rows are not full: so much more than the split's tokens may be asked for.
_EVALUATION = 1.1
# Checkpoints before a stage's end from which one would choose: ModernBERT averaged the best 3.
_CHOICE = 3


def recipe_remarks(stages: Sequence[Stage], corpora: Sequence[Corpora | None]) -> list[str]:
    """What the recipe and its corpora's counts tell, each once.

    Args:
        corpora: of each stage; None where they are not known.
    """
    found = list(_unexportable(stages[-1], corpora[-1]))
    for stage, opened in zip(stages, corpora, strict=True):
        if opened is not None:
            found += _large_evaluation(stage, opened)
            found += _large_vocabulary(stage, opened)
        found += _stopping_never(stage)
    found += _unevaluated_checkpoints(stages[-1])
    found += _long_average(stages)
    return list(dict.fromkeys(found))


def _unexportable(stage: Stage, corpora: Corpora | None) -> Iterator[str]:
    """A model that no architecture of transformers expresses: training it is what may be wanted."""
    model, data = stage.recipe.model, stage.recipe.data
    positions = getattr(model.embedding, "positions", None)
    offset = getattr(positions, "offset", 0)
    if corpora is None:
        # Any pad id may be that of the corpus to come.
        ids: dict[str, int | None] = {"pad": offset - 1 if offset else 0}
    else:
        ids = asdict(corpora.meta.special_ids)
    try:
        family_for(model, Facts(special_ids=ids, max_length=data.max_length))
    except UserError as error:
        ways = "change these to export it, or load its checkpoints with flexbert.load_model"
        pad = ids["pad"]
        if offset and pad is not None and pad + 1 != offset:
            ways = (
                f"the corpus's pad id is {pad}: make the corpus with a tokenizer whose pad id is "
                f"{offset - 1}, or set model.embedding.positions.offset={pad + 1}; or {ways}"
            )
        yield f"the model cannot be exported to Hugging Face: {error}; {ways}"


def _large_evaluation(stage: Stage, corpora: Corpora) -> Iterator[str]:
    """Rows that a split does not have: all of it is read, and less than was asked for."""
    rows, length = stage.recipe.evaluation.rows, stage.recipe.data.row_length
    if rows is None:
        return
    splits = [corpus.meta.splits["validation"] for corpus in corpora.by_source.values()]
    # With [CLS] and [SEP].
    tokens = sum(split.tokens + 2 * split.documents for split in splits)
    if rows * length > _EVALUATION * tokens:
        yield (
            f"evaluation.rows of stage {stage.name}: {rows:,} rows of {length:,} are more than the "
            f"validation split of {tokens:,} tokens has; all of it is evaluated, about "
            f"{math.ceil(tokens / length):,} rows"
        )


def _large_vocabulary(stage: Stage, corpora: Corpora) -> Iterator[str]:
    """Rows of the embedding that no token will ever use, and logits that are only computed."""
    model, entries = stage.recipe.model, corpora.meta.vocab_size
    enough = math.ceil(entries / 64) * 64
    if model.vocab_size > _VOCABULARY * enough:
        yield (
            f"model.vocab_size: {model.vocab_size:,} are far more than the {entries:,} entries of "
            f"the tokenizer of {corpora.first.folder}; the rest is never used and slows training: "
            f"{enough:,} would do"
        )


def _unevaluated_checkpoints(stage: Stage) -> Iterator[str]:
    """Checkpoints among which ``flexbert average --best`` can find no best."""
    recipe, whole = stage.recipe, stage.duration
    saved, measured = (
        section.interval.of(whole) for section in (recipe.checkpoints, recipe.evaluation)
    )
    if saved.unit != measured.unit or saved.unit != whole.unit:
        return  # where they meet depends on how full the rows are
    together = _common_multiple(saved, measured)
    kept = recipe.checkpoints.keep
    before_the_end = math.ceil(Fraction(whole.value) / _exact(saved)) - 1
    best = recipe.checkpoints.keep_best
    by_evaluation = best is not None and is_own_metric(best.metric)
    if kept is not None and best is None:
        before_the_end = min(before_the_end, kept - 1)
    if (before_the_end >= _CHOICE or by_evaluation) and together >= whole.value:
        who = "flexbert average --best finds" if best is None else "checkpoints.keep_best finds"
        yield (
            f"evaluation.interval {recipe.evaluation.interval} of stage {stage.name} does not meet "
            f"checkpoints.interval {recipe.checkpoints.interval} before the stage's end, so that "
            f"{who} no evaluated checkpoint; make one a multiple of the other"
        )


def _stopping_never(stage: Stage) -> Iterator[str]:
    """More patience than a stage has evaluations."""
    evaluation, whole = stage.recipe.evaluation, stage.duration
    stopping, interval = evaluation.early_stopping, evaluation.interval.of(whole)
    if stopping is None or evaluation.restores_best or interval.unit != whole.unit:
        return
    evaluations = math.ceil(Fraction(whole.value) / _exact(interval))
    # The first one is an improvement, and after the last one the stage ends anyway.
    if evaluations < stopping.patience + 2:
        yield (
            f"evaluation.early_stopping of stage {stage.name} can change nothing: with "
            f"{evaluations} evaluations and a patience of {stopping.patience} it never ends the "
            "stage before its duration"
        )


def _exact(duration: Duration) -> Fraction:
    return Fraction(duration.value).limit_denominator(10**9)


def _common_multiple(one: Duration, other: Duration) -> Fraction:
    """The smallest length that both divide."""
    a, b = _exact(one), _exact(other)
    numerator = math.lcm(a.numerator * b.denominator, b.numerator * a.denominator)
    return Fraction(numerator, a.denominator * b.denominator)


def _long_average(stages: Sequence[Stage]) -> Iterator[str]:
    """An average that remembers more updates than there are still holds the first weights."""
    kept = stages[-1].recipe.moving_average
    if kept is None:
        return
    updates = sum(stage.nominal_updates for stage in stages if stage.recipe.moving_average == kept)
    remembered = kept.every / (1 - kept.decay)
    if remembered > updates:
        decay = 1 - kept.every * 10 / updates
        smaller = f"; a decay of {decay:.4g} remembers a tenth" if decay > 0 else ""
        yield (
            f"moving_average.decay: {kept.decay:g} averages over about {remembered:,.0f} updates, "
            f"and the run has {updates:,}, so that the average is mostly of its first weights"
            f"{smaller}"
        )


def plan_remarks(stages: Sequence[StagePlan], hardware: Hardware) -> list[str]:
    """What only shows once rows are packed, batches shared out and hours counted."""
    found: list[str] = []
    for stage in stages:
        found += _many_epochs(stage)
        found += _idle_rows(stage)
    return [*found, *slow_remarks(sum(stage.hours for stage in stages), hardware)]


def cpu_remarks(stages: Sequence[Stage], processes: int) -> list[str]:
    """Of a run on this machine's CPU, whose rate is measured only where it could matter."""
    flops = 0.0
    for stage in stages:
        model = meta_masked_lm(stage.recipe.model)
        flops += stage.nominal_tokens * token_cost(stage.recipe, model, None).flops
    if flops < _FLOPS_OF_ANY_CPU:
        return []
    hardware = cpu_hardware(stages[0].recipe.precision)
    return slow_remarks(hardware.hours(1, flops) / processes, hardware)


def slow_remarks(hours: float, hardware: Hardware) -> list[str]:
    """Of a run that takes far longer than anyone waits."""
    is_cpu = hardware.device == CPU
    days = hours / 24
    if days <= (_DAYS_ON_A_CPU if is_cpu else _DAYS_ON_GPUS):
        return []
    instead = "use GPUs" if is_cpu else "use more GPUs"
    return [
        f"the run would take {clock_text(hours)} on {'a CPU' if is_cpu else 'these GPUs'}, at "
        f"{hardware.rate_text}; {instead}, or a shorter duration or a smaller model"
    ]


def clock_text(hours: float) -> str:
    """A time by the clock, for people: in the unit that leaves few digits."""
    for unit, size in (("years", 365 * 24), ("days", 24), ("hours", 1), ("minutes", 1 / 60)):
        if hours >= 2 * size:
            return (
                f"{hours / size:,.1f} {unit}"
                if hours < 10 * size
                else f"{hours / size:,.0f} {unit}"
            )
    return "under 2 minutes"


def _many_epochs(stage: StagePlan) -> Iterator[str]:
    for name, source in (stage.packing.sources if stage.packing else {}).items():
        if source.epochs >= _EPOCHS:
            yield (
                f"stage {stage.name} reads source {name} {source.epochs:,.0f} times over; give it "
                "more text, a smaller weight, or the stage a shorter duration"
            )


def _idle_rows(stage: StagePlan) -> Iterator[str]:
    batch = stage.batch
    if batch.idle_rows < _IDLE:
        return
    yield (
        f"batch.size of stage {stage.name}: its {batch.rows:,} rows are not whole micro-batches of "
        f"{batch.rows_per_microbatch} on each of {batch.processes} processes; "
        f"{batch.idle_rows:.0%} of the rows that are computed are padding{_better_sizes(stage)}"
    )


def _better_sizes(stage: StagePlan) -> str:
    """The nearest batch sizes that leave no row idle."""
    batch = stage.batch
    share = RankRows(0, 1, batch.rows_per_microbatch)

    def size_of(rows_each: int) -> int | None:
        """Of a batch of so many rows for each process; None where it leaves some idle."""
        count, rows = share.split(rows_each)
        tokens = rows_each * batch.processes * stage.row_length
        return (
            None
            if count * rows != rows_each or tokens % stage.max_length
            else (tokens // stage.max_length)
        )

    each = batch.rows // batch.processes
    below = next(filter(None, map(size_of, range(each, 0, -1))), None)
    above = next(filter(None, map(size_of, range(each + 1, 2 * each + _SEARCHED))), None)
    sizes = [f"{size:,}" for size in (below, above) if size is not None]
    return f"; batch.size {' or '.join(sizes)} leaves none" if sizes else ""
