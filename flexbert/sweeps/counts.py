"""What a recipe trains and costs in numbers, before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flexbert.config.data import DataConfig
from flexbert.config.encode import encode
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Split
from flexbert.nn.build import meta_masked_lm, parameter_counts
from flexbert.plan.stage_cost import token_cost
from flexbert.schedule.stages import all_stages


@dataclass(frozen=True, kw_only=True)
class RecipeCounts:
    """Numbers in which two recipes may be equal.

    Attributes:
        parameters: of the whole model.
        encoder_parameters: of its layers and final norm.
        tokens, updates: of all stages, as if every row were full.
        flops_per_token: forward and backward, the mean over all stages' tokens; for the corpus's
            lengths where it is there, for full sequences otherwise.
    """

    parameters: int
    encoder_parameters: int
    tokens: int
    updates: int
    flops_per_token: float


class KnownCorpora:
    """The corpora of a sweep's recipes, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, Corpora] = {}

    def splits(self, data: DataConfig, name: str) -> Mapping[str, Split] | None:
        """A split of every source; None where a corpus is not named or not there.

        Raises:
            UserError: if one is there and cannot be used.
        """
        sources = data.all_sources
        for source in sources.values():
            if source.path is None or (source.remote is None and not source.path.exists()):
                return None
        places = {key: (source.path, source.remote) for key, source in sources.items()}
        key = repr((places, encode(data.tokenizer), data.verify_hashes, data.cache_limit))
        if key not in self._opened:
            self._opened[key] = Corpora.open(data)
        return self._opened[key].splits(name)


def counts_of(loaded: LoadedRecipe, corpora: KnownCorpora) -> RecipeCounts:
    """The counts of a recipe.

    Raises:
        UserError: if a corpus is there and cannot be used.
    """
    stages = all_stages(loaded.stages)
    parameters = parameter_counts(loaded.first.model)
    flops = 0.0
    for stage in stages:
        recipe = stage.recipe
        model = meta_masked_lm(recipe.model)
        cost = token_cost(recipe, model, corpora.splits(recipe.data, "train"))
        flops += stage.nominal_tokens * cost.flops
    tokens = sum(stage.nominal_tokens for stage in stages)
    return RecipeCounts(
        parameters=parameters.total,
        encoder_parameters=parameters.encoder,
        tokens=tokens,
        updates=sum(stage.nominal_updates for stage in stages),
        flops_per_token=flops / tokens,
    )
