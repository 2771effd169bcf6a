"""Which measures a run will have recorded at its end: known before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.config.training import SuiteEvaluationConfig
from flexbert.errors import ConfigError, did_you_mean, user_errors_at
from flexbert.sweeps.runs import SweepRun
from flexbert.tasks.suite import Suite, load_suite

# What flexbert.train records, written out: to import it takes seconds, which a sweep's own process
# does without. A test holds them against it.
SPEED = (
    "seconds",
    *("tokens_per_second", "tflops", "mfu", "time_shares", "padding", "peak_memory"),
)
SHARES = ("data", "forward", "backward", "communication", "optimizer", "other")
_OF_TRAINING = (
    *("loss", "skipped_updates", "lr", "weight_decay", "mask_rate", "batch_size"),
    *("grad_norm", "update_rms"),
    *(name for name in SPEED if name != "time_shares"),
    *(f"time_shares.{part}" for part in SHARES),
)
_OF_EVALUATION = ("eval_loss", "eval_accuracy", "eval_masked_tokens")
_OF_A_STOP = ("best", "best_step", "restored_step")
# Followed by the name of a group or a bucket, which are counted when they are made.
_COUNTED = ("groups.", "epochs.")


def is_speed(measure: str) -> bool:
    """Whether a measure is of a run's speed or memory."""
    return measure.partition(".")[0] in SPEED


def check_measures(runs: Sequence[SweepRun], measures: Sequence[str]) -> None:
    """See that every run will record every measure.

    Raises:
        ConfigError: naming the first that one will not and the nearest that it will, or if a suite
            cannot be read.
    """
    suites: dict[SuiteEvaluationConfig, Suite] = {}
    for number, run in enumerate(runs, 1):
        known = measure_names(run.recipe, suites)
        for measure in measures:
            if measure not in known and not measure.startswith(_COUNTED):
                raise ConfigError(
                    "measure",
                    f"run {number} of {len(runs)} ({run.name}) records no {measure!r}; "
                    + did_you_mean(measure, known),
                )


def measure_names(
    loaded: LoadedRecipe, suites: dict[SuiteEvaluationConfig, Suite] | None = None
) -> list[str]:
    """What a run of this recipe records, but for the numbers of groups and of buckets.

    A task's metric has the short name that :mod:`flexbert.checkpoint.run_metric` knows it by.

    Args:
        suites: those that were read before.

    Raises:
        ConfigError: if the recipe's suite cannot be read.
    """
    stages = loaded.stages.values()
    names = [*_OF_EVALUATION, *_OF_TRAINING]
    for recipe in stages:
        names += _by_source(recipe)
    if any(recipe.evaluation.early_stopping is not None for recipe in stages):
        names += _OF_A_STOP
    if (config := loaded.first.evaluation.suite) is not None:
        names += _suite(config, {} if suites is None else suites).metric_names
    return list(dict.fromkeys(names))


def _by_source(recipe: Recipe) -> list[str]:
    sources = recipe.data.all_sources
    if len(sources) == 1:
        return []
    return [f"{kind}.{name}" for kind in ("eval_losses", "eval_accuracies") for name in sources]


def _suite(config: SuiteEvaluationConfig, known: dict[SuiteEvaluationConfig, Suite]) -> Suite:
    if config not in known:
        with user_errors_at("evaluation.suite"):
            known[config] = load_suite(config.file, config.overrides, config.tasks)
    return known[config]
