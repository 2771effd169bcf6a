"""The rungs of a ladder: what finished runs were given, and the loss that they ended with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.components import register_all
from flexbert.config.fields import OPERATIONAL
from flexbert.config.recipe import Recipe
from flexbert.config.recipe_files import LoadedRecipe, decode_resolved
from flexbert.config.tree import flatten
from flexbert.errors import UserError
from flexbert.forecast.laws import Scale
from flexbert.manifest_file import CorpusRecord, Manifest
from flexbert.metrics_file import read_metrics
from flexbert.nn.build import meta_masked_lm, parameter_counts
from flexbert.plan.stage_cost import token_cost
from flexbert.report.recorded_run import CONFIG, recorded_recipe
from flexbert.sweeps.runs import runs_below
from flexbert.tasks.watching import run_is_finished
from flexbert.train.run_folder import role_of_resolved

LOSS = "eval_loss"
# Keys that change what the loss is measured on, though nothing of the training.
_MEASURED_BY = ("evaluation.mask_rate", "evaluation.rows")
# Which of two runs of one rung it is.
_SEED = "seed"
CORPUS = "corpus"
_RECIPES = (".yaml", ".yml")
# Of a fingerprint's characters, enough to tell corpora apart.
_PRINT = 12


@dataclass(frozen=True, kw_only=True)
class LadderRung:
    """A finished run.

    Attributes:
        name: of its folder.
        loss: of its last evaluation, in nats per masked token.
        settings: as JSON, by dotted key: all that decides the loss but for the seed; ``corpus.``
            keys are fingerprints of the data.
    """

    name: str
    scale: Scale
    loss: float
    settings: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Finished runs of different sizes.

    Attributes:
        left_out: runs that are not finished, or have no loss.
    """

    rungs: tuple[LadderRung, ...]
    left_out: tuple[str, ...] = ()

    def held(self) -> dict[str, str]:
        """The settings that all rungs have in common."""
        first, *others = (rung.settings for rung in self.rungs)
        return {
            key: value
            for key, value in first.items()
            if all(other.get(key) == value for other in others)
        }

    def numbered(self) -> list[int]:
        """Of each run the number of its rung: those with the same settings share one."""
        shapes = [json.dumps(dict(rung.settings), sort_keys=True) for rung in self.rungs]
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(shapes))}
        return [numbers[shape] for shape in shapes]


def read_ladder(paths: Sequence[Path]) -> Ladder:
    """The finished runs of these folders.

    Args:
        paths: of runs, or of sweeps.

    Raises:
        UserError: if a folder holds no run, or a run goes on from another one's weights.
    """
    rungs, left_out = [], []
    for folder in _run_folders(paths):
        rung = read_rung(folder)
        if rung is None:
            left_out.append(folder.name)
        else:
            rungs.append(rung)
    if not rungs:
        raise UserError(f"{', '.join(map(str, paths))}: no run there is finished")
    return Ladder(rungs=tuple(rungs), left_out=tuple(left_out))


def read_rung(folder: Path) -> LadderRung | None:
    """What a run was given, and the loss of its last evaluation.

    Returns:
        None where the run is not finished, or its loss is no finite number.

    Raises:
        UserError: if it is no run, its recipe cannot be read, or it began with trained weights.
    """
    if folder.is_file():
        kind = "is a recipe, or a sweep's file" if folder.suffix in _RECIPES else "is a file"
        raise UserError(f"{folder}: {kind}; give the folder of its runs, such as sweeps/NAME")
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: no run; give runs/NAME, or the folder of a sweep")
    if not run_is_finished(folder):
        return None
    register_all()
    records = read_metrics(folder)
    _, resolved = recorded_recipe(folder)
    if not resolved:
        raise UserError(f"{folder}: its config.yaml cannot be read")
    tokens: dict[str, int] = {}
    for record in records:
        tokens[record.stage] = max(tokens.get(record.stage, 0), record.stage_tokens)
    losses = [record.numbers[LOSS] for record in records if LOSS in record.numbers]
    manifest = Manifest.read(folder)
    corpora = {stage: record.corpora for stage, record in manifest.stages.items()}
    if not losses or not math.isfinite(losses[-1]):
        return None
    try:
        stages = decode_resolved(resolved)
        scale = scale_of(stages, tokens)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    return LadderRung(
        name=manifest.run_name,
        scale=scale,
        loss=losses[-1],
        settings=settings_of(LoadedRecipe(stages=stages), corpora),
    )


def scale_of(stages: Mapping[str, Recipe], tokens: Mapping[str, int]) -> Scale:
    """What a run is given, by the tokens of each of its stages.

    FLOPs count full sequences, so that runs compare whatever their corpus's lengths.

    Raises:
        UserError: if it goes on from trained weights, whose tokens nobody knows.
    """
    first = next(iter(stages.values()))
    if first.init_from is not None or first.start_from:
        raise UserError("goes on from trained weights; a forecast is of runs that begin with none")
    flops = 0.0
    for name, count in tokens.items():
        model = meta_masked_lm(stages[name].model)
        flops += count * token_cost(stages[name], model, None).flops
    last = stages[list(tokens)[-1]]
    return Scale(
        parameters=parameter_counts(last.model).encoder,
        tokens=sum(tokens.values()),
        flops=flops,
    )


def settings_of(
    loaded: LoadedRecipe, corpora: Mapping[str, Mapping[str, CorpusRecord]]
) -> dict[str, str]:
    """All that decides the loss but for the seed.

    Args:
        corpora: by stage and source.
    """
    found = {
        key: json.dumps(value)
        for key, value in flatten(loaded.resolved).items()
        if key != _SEED and (role_of_resolved(key) is not OPERATIONAL or key.endswith(_MEASURED_BY))
    }
    for stage, sources in corpora.items():
        for source, record in sources.items():
            prints = {"tokenizer": record.tokenizer_sha256, **record.splits}
            for name, value in prints.items():
                found[f"{CORPUS}.{stage}.{source}.{name}"] = json.dumps(value[:_PRINT])
    return found


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    found = runs_below(paths)
    if len({path.resolve() for path in found}) < len(found):
        raise UserError("a run is given twice")
    return found
