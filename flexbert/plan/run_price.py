"""What many runs that are much the same will do and cost, of which what they share is read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from flexbert.config.model import ModelConfig
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import config_errors_under
from flexbert.nn.build import meta_masked_lm
from flexbert.nn.masked_lm import MaskedLM
from flexbert.optim.groups import parameter_groups
from flexbert.plan.checkpoint_sizes import checkpoint_room, stage_checkpoints
from flexbert.plan.packing_efficiency import StageLength, nominal_length, pack_stage
from flexbert.plan.stage_cost import Hardware, token_cost
from flexbert.schedule.stages import Stage, all_stages
from flexbert.stage_checks import check_corpora, check_transitions, open_corpora

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunPrice:
    """What a run will do and cost, as :class:`~flexbert.plan.plan.Plan` has it.

    Attributes:
        tokens, updates: of all stages.
        steps_are: how the updates are known, in words; of the stage of which least is known.
        parameters: of the first stage's model.
        flops: of all stages' training.
        gpu_hours: of all GPUs together, if none had rows that are padding.
        checkpoint_bytes: the most that its checkpoints take at once.
    """

    tokens: int
    updates: int
    steps_are: str
    parameters: int
    flops: float
    gpu_hours: float
    checkpoint_bytes: int


class RunPricing:
    """Prices runs one after another.

    A model is built once for all runs that have it, a corpus is opened once, and rows are packed
    once for all runs that pack the same ones: those of the same ``data``, batches, length and seed.
    """

    def __init__(self, hardware: Hardware, *, with_corpora: bool = True) -> None:
        """
        Args:
            with_corpora: without them a price is what every machine finds, whatever it has there.
        """
        self.hardware = hardware
        self._with_corpora = with_corpora
        self._known: dict[tuple[str, str], object] = {}

    def price(self, loaded: LoadedRecipe) -> RunPrice:
        """What a recipe's run comes to.

        Raises:
            UserError: as :func:`~flexbert.plan.make_plan.make_plan` does of corpora, stages and
                groups of the optimizer.
        """
        stages = all_stages(loaded.stages)
        corpora = [self._corpora(stage.recipe) for stage in stages]
        check_transitions(stages, corpora)
        lengths, flops, checkpoints = [], [], []
        for stage, opened in zip(stages, corpora, strict=True):
            model = self._model(stage.recipe.model)
            with config_errors_under("optimizer"):
                parameter_groups(model, stage.recipe.optimizer)
            lengths.append(length := self._length(stage, opened))
            flops.append(self._flops_per_token(stage.recipe, model, opened))
            checkpoints.append(stage_checkpoints(stage, length, model, opened))
        recipe = stages[0].recipe
        room = checkpoint_room(checkpoints, recipe.run_folder / "checkpoints")
        hours = map(self.hardware.hours, (length.tokens for length in lengths), flops)
        unsure = [length.steps_are for length in lengths if length.steps_are != "exact"]
        return RunPrice(
            tokens=sum(length.tokens for length in lengths),
            updates=sum(length.steps for length in lengths),
            steps_are=unsure[0] if unsure else "exact",
            parameters=sum(p.numel() for p in self._model(recipe.model).parameters()),
            flops=sum(n.tokens * each for n, each in zip(lengths, flops, strict=True)),
            gpu_hours=sum(hours),
            checkpoint_bytes=room.total_bytes,
        )

    def _once(self, what: str, of: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once of all that is the same."""
        if (what, of) not in self._known:
            self._known[what, of] = make()
        return cast(T, self._known[what, of])

    def _corpora(self, recipe: Recipe) -> Corpora | None:
        named = all(source.path is not None for source in recipe.data.all_sources.values())
        if not (named and self._with_corpora):
            return None
        opened = self._once("corpora", repr(recipe.data), lambda: open_corpora(recipe))
        # Another run's model may be too small for its tokenizer.
        check_corpora(recipe, opened)
        return opened

    def _model(self, config: ModelConfig) -> MaskedLM:
        return self._once("model", repr(config), lambda: meta_masked_lm(config))

    def _length(self, stage: Stage, corpora: Corpora | None) -> StageLength:
        if corpora is None:
            return nominal_length(stage)
        recipe = stage.recipe
        packed = repr((stage.name, recipe.data, recipe.batch, recipe.duration, recipe.seed))
        return self._once(
            "length", packed, lambda: pack_stage(stage, corpora.splits("train")).length
        )

    def _flops_per_token(self, recipe: Recipe, model: MaskedLM, corpora: Corpora | None) -> float:
        train = corpora.splits("train") if corpora is not None else None
        of = repr((recipe.model, recipe.data))
        return self._once("flops", of, lambda: token_cost(recipe, model, train).flops)
