"""The tables of a model card, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.nn.build import parameter_counts
from flexbert.publish.corpus_facts import CorpusFacts
from flexbert.publish.run_results import RunResults
from flexbert.schedule.stages import Stage

_UNKNOWN = "not known"

# What a reader of a card calls the ways of trying a model on a task.
_MODES = {"frozen": "linear probe", "fine_tune": "fine-tuned"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; a bar in a cell is not taken for its border."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines]


def architecture_table(model: ModelConfig, max_length: int | None) -> list[str]:
    heads = getattr(model.attention, "num_heads", None)
    windows = sorted({layer.window for layer in layer_plan(model) if layer.window is not None})
    rows = [
        ("parameters", f"{parameter_counts(model).total:,}"),
        ("layers", str(model.num_layers)),
        ("hidden size", str(model.hidden_size)),
        ("attention heads", _UNKNOWN if heads is None else str(heads)),
        ("tokens that a layer attends to", _attended(model, windows)),
        ("vocabulary", f"{model.vocab_size:,}"),
        ("longest sequence in training, in tokens", _or_unknown(max_length)),
    ]
    return table(("", ""), rows)


def _attended(model: ModelConfig, windows: Sequence[int]) -> str:
    num_local = sum(layer.window is not None for layer in layer_plan(model))
    widths = ", ".join(map(str, windows))
    whole = f"the whole sequence in {model.num_layers - num_local} layers"
    return f"{whole}, {widths} in {num_local}" if num_local else "the whole sequence"


def corpus_table(corpora: Mapping[str, CorpusFacts]) -> list[str]:
    """A row for each source: its corpus, its size, and the fingerprint of what was read."""
    rows = [
        (
            source,
            facts.name,
            _or_unknown(facts.documents),
            _or_unknown(facts.tokens),
            f"`{facts.fingerprint[:16]}`",
        )
        for source, facts in corpora.items()
    ]
    return table(("source", "corpus", "documents", "tokens", "fingerprint"), rows)


def stage_table(stages: Sequence[Stage], trained_tokens: Mapping[str, int]) -> list[str]:
    """A row for each stage: what the recipe asks for, and the tokens it was trained on."""
    rows = []
    for stage in stages:
        recipe = stage.recipe
        rows.append(
            (
                stage.name,
                _duration(stage),
                f"{trained_tokens.get(stage.name, 0):,}",
                f"{recipe.data.max_length:,}",
                f"{recipe.batch.size:,}",
                f"{recipe.optimizer.lr:g}",
                f"{recipe.data.mask_rate:g}",
                recipe.optimizer.name,
            )
        )
    header = (
        *("stage", "planned", "tokens trained on", "longest sequence", "sequences an update"),
        *("learning rate", "mask rate", "optimizer"),
    )
    return table(header, rows)


def _duration(stage: Stage) -> str:
    unit = "tokens" if stage.duration.unit == "tok" else "updates"
    return f"{int(stage.duration.value):,} {unit}"


def results_table(places: Sequence[tuple[str, int]], results: RunResults) -> list[str]:
    """Validation loss and accuracy, and metrics of tasks, by revision.

    Args:
        places: name of a revision, and its step.

    Returns:
        Nothing where nothing was measured at any of them.
    """
    measured = {
        name: {
            f"{each.task}.{metric} ({_MODES.get(each.mode, each.mode)}, suite {each.suite})": value
            for each in results.tasks_at(step)
            for metric, value in each.metrics.items()
        }
        for name, step in places
    }
    columns = list(dict.fromkeys(column for row in measured.values() for column in row))
    rows = []
    for name, step in places:
        record = results.evaluation_at(step)
        numbers = record.numbers if record is not None else {}
        if numbers or measured[name]:
            rows.append(
                (
                    f"`{name}`",
                    _number(numbers.get("eval_loss")),
                    _number(numbers.get("eval_accuracy")),
                    *(_number(measured[name].get(column)) for column in columns),
                )
            )
    return table(("revision", "validation loss", "accuracy", *columns), rows) if rows else []


def _number(value: float | None) -> str:
    return "" if value is None else ("not finite" if math.isnan(value) else f"{value:.4f}")


def _or_unknown(count: int | None) -> str:
    return _UNKNOWN if count is None else f"{count:,}"
