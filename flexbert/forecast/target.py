"""What is forecast: a recipe that was not trained, or a run that was; and the forecast of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flexbert.config.recipe_files import LoadedRecipe
from flexbert.errors import UserError
from flexbert.forecast.forecast_file import LadderFit
from flexbert.forecast.laws import Scale
from flexbert.forecast.rungs import CORPUS, read_rung, scale_of, settings_of
from flexbert.plan.plan import Plan
from flexbert.schedule.stages import all_stages
from flexbert.stage_checks import open_corpora
from flexbert.train.manifest import corpus_records

# Tokens that are read again are nearly as good as new ones up to here (Muennighoff et al. 2023,
# "Scaling Data-Constrained Language Models").
_EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is forecast.

    Attributes:
        settings: as those of a rung.
        measured: the loss that it ended with; None before it is trained.
        epochs: over the source that is read most often; None where they are not known.
    """

    name: str
    scale: Scale
    settings: Mapping[str, str]
    measured: float | None = None
    epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A loss, before it is measured.

    Attributes:
        low, high: the interval that a run's loss lies in 95 times of 100, if the law holds.
        compute: FLOPs, in units of the ladder's largest.
        parameters, tokens: the same of each.
        differences: of a recipe to the ladder's in what no law knows of: keys, with both values.
        remarks: what else a reader has to know.
        measured: the loss in the end; None before.
    """

    name: str
    loss: float
    low: float
    high: float
    compute: float
    parameters: float
    tokens: float
    differences: Mapping[str, tuple[str | None, str | None]]
    remarks: tuple[str, ...]
    measured: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the interval holds the measured loss."""
        return None if self.measured is None else self.low <= self.measured <= self.high


def target_of_plan(loaded: LoadedRecipe, plan: Plan) -> Target:
    """A recipe.

    Raises:
        UserError: if it goes on from trained weights.
    """
    stages = all_stages(loaded.stages)
    tokens = {stage.name: stage.length.tokens for stage in plan.stages}
    corpora = {
        stage.name: corpus_records(open_corpora(stage.recipe))
        for stage, planned in zip(stages, plan.stages, strict=True)
        if planned.corpora is not None
    }
    epochs = [
        source.epochs
        for stage in plan.stages
        if stage.packing is not None
        for source in stage.packing.sources.values()
    ]
    return Target(
        name=plan.run_name,
        scale=scale_of({stage.name: stage.recipe for stage in stages}, tokens),
        settings=settings_of(loaded, corpora),
        epochs=max(epochs, default=None),
    )


def target_of_run(folder: Path) -> Target:
    """A run that is finished.

    Raises:
        UserError: if it is not, or has no loss.
    """
    rung = read_rung(folder)
    if rung is None:
        raise UserError(
            f"{folder}: not finished, or no loss; give its recipe to forecast it before it is"
        )
    return Target(name=rung.name, scale=rung.scale, settings=rung.settings, measured=rung.loss)


def forecast(found: LadderFit, target: Target) -> Forecast:
    """The loss of a target, where the ladder's law goes on as far as it."""
    interval = found.fitted.prediction(target.scale)
    largest = [rung.scale for rung in found.ladder.rungs]
    return Forecast(
        name=target.name,
        loss=interval.estimate,
        low=interval.low,
        high=interval.high,
        compute=target.scale.flops / max(scale.flops for scale in largest),
        parameters=target.scale.parameters / max(scale.parameters for scale in largest),
        tokens=target.scale.tokens / max(scale.tokens for scale in largest),
        differences=_differences(found.ladder.held(), target.settings),
        remarks=tuple(_remarks(found, target)),
        measured=target.measured,
    )


def _differences(
    held: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """What the rungs have in common and the target has otherwise."""
    names_corpora = any(key.startswith(f"{CORPUS}.") for key in own)
    return {
        key: (value, own.get(key))
        for key, value in held.items()
        if own.get(key) != value and (names_corpora or not key.startswith(f"{CORPUS}."))
    }


def _remarks(found: LadderFit, target: Target) -> list[str]:
    remarks = []
    if not any(key.startswith(f"{CORPUS}.") for key in target.settings):
        remarks.append("whether its corpus is the ladder's is not known: the recipe names none")
    if target.epochs is not None and target.epochs > _EPOCHS:
        remarks.append(
            f"it reads its data {target.epochs:.1f} times over, and tokens that are read more than "
            f"{_EPOCHS} times are worth less than the law has it"
        )
    if found.fitted.undetermined:
        remarks.append(
            f"the ladder does not determine {', '.join(found.fitted.undetermined)} of "
            f"{found.fitted.law.formula}"
        )
    noise = found.fitted.noise
    if noise.misfit is not None and noise.misfit < 0.05:
        remarks.append(
            f"the rungs are further from the law than seeds explain (p = {noise.misfit:.2g}): the "
            "interval is as wide as that asks for"
        )
    sizes = {rung.scale.parameters for rung in found.ladder.rungs}
    if len(sizes) == 1 and sizes != {target.scale.parameters}:
        remarks.append("all rungs have one size, and the target has another")
    return remarks
