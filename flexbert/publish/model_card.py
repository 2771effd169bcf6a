"""The ``README.md`` of a revision: only what the run's folder and the checkpoint say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from flexbert.errors import UserError, first_line
from flexbert.publish.card_tables import (
    architecture_table,
    corpus_table,
    results_table,
    stage_table,
)
from flexbert.publish.corpus_facts import CorpusFacts
from flexbert.publish.revision_record import RECIPE, RECORD
from flexbert.publish.run_checkpoints import RunCheckpoint
from flexbert.publish.run_results import RunResults

_FENCE = "---\n"
_MASKED_LM = "ForMaskedLM"


@dataclass(frozen=True, kw_only=True)
class OwnText:
    """What a user writes into every card.

    Attributes:
        license: as the Hub names it, for instance ``apache-2.0``.
        text: of a Markdown file, which may begin with front matter of its own; empty for none.
        is_alone: whether it is the whole card.
    """

    license: str | None = None
    text: str = ""
    is_alone: bool = False


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What all cards of a run are written from.

    Attributes:
        repository: ``OWNER/NAME``.
        corpora: by source.
    """

    repository: str
    results: RunResults
    corpora: Mapping[str, CorpusFacts]
    own: OwnText


def check_own_text(own: OwnText, name: str) -> None:
    """Raises: UserError if a file's front matter is no YAML of keys."""
    try:
        _split(own.text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{name}: its front matter is not YAML ({first_line(error)})") from None


def model_card(
    facts: CardFacts,
    checkpoint: RunCheckpoint,
    revision: str | None,
    places: Sequence[tuple[str, int]],
) -> str:
    """The card of a revision.

    Args:
        revision: its name; None for ``main``.
        places: revisions whose results are shown, with their steps; for ``main`` these are all.
    """
    own, body = _split(facts.own.text)
    if facts.own.is_alone:
        return facts.own.text
    front = {**_front_matter(facts, checkpoint), **own}
    sections = [body.strip()] if body.strip() else []
    sections += ["\n".join(_card(facts, checkpoint, revision, places))]
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"{_FENCE}{header}{_FENCE}\n" + "\n\n".join(sections) + "\n"


def _split(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and body of a Markdown file."""
    text = text.replace("\r\n", "\n")
    if not text.startswith(_FENCE):
        return {}, text
    header, is_closed, body = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    if not is_closed:
        raise ValueError("no --- ends it")
    front = yaml.safe_load(header) or {}
    if not isinstance(front, dict):
        raise ValueError("no keys")
    return front, body


def _front_matter(facts: CardFacts, checkpoint: RunCheckpoint) -> dict[str, Any]:
    datasets = sorted({name for corpus in facts.corpora.values() for name in corpus.datasets})
    return {
        **({"license": facts.own.license} if facts.own.license else {}),
        "library_name": "transformers",
        **({"pipeline_tag": "fill-mask"} if checkpoint.exported_as.endswith(_MASKED_LM) else {}),
        "tags": ["flexbert", "masked-lm", "pretraining"],
        **({"datasets": datasets} if datasets else {}),
    }


def _card(
    facts: CardFacts,
    checkpoint: RunCheckpoint,
    revision: str | None,
    places: Sequence[tuple[str, int]],
) -> Iterator[str]:
    yield f"# {facts.repository.partition('/')[2]}"
    yield ""
    yield (
        f"An encoder with a masked-LM head (`{checkpoint.exported_as}`), pretrained with FlexBERT. "
        + _what(checkpoint, revision)
    )
    yield from ("", "## Use", "", *_use(facts.repository, checkpoint, revision))
    yield from ("", "## Architecture", "")
    yield from architecture_table(checkpoint.model, checkpoint.max_length)
    yield from ("", "## Training data", "", *corpus_table(facts.corpora), "")
    yield (
        "Tokens are those of the corpus's training split. A fingerprint is a hash of it. How much "
        "the run read of it stands in the next table."
    )
    # As of the checkpoint, so that its card stays what it is while the run goes on.
    trained = facts.results.stage_tokens(checkpoint.step)
    yield from ("", "## Training", "", *stage_table(checkpoint.recipe.stages, trained), "")
    yield f"All of the recipe is in `{RECIPE}`: YAML, with `???` where a path has to be given."
    yield from ("", "## Results", "", *_results(facts.results, places))
    yield from ("", "## Limits", "", *_limits(facts, checkpoint, places))
    yield from ("", "## Versions", "", *_versions(facts.results, checkpoint))


def _what(checkpoint: RunCheckpoint, revision: str | None) -> str:
    run = f"the run `{checkpoint.run_name}`"
    if checkpoint.averaged is not None or checkpoint.step is None or checkpoint.tokens is None:
        made_of = checkpoint.averaged.checkpoints if checkpoint.averaged is not None else ()
        # Its path would tell where the run lies.
        names = ", ".join(f"`{name.replace(chr(92), '/').rpartition('/')[2]}`" for name in made_of)
        return f"Its weights are an average of checkpoints of {run}" + (
            f": {names}." if names else "."
        )
    place = f"after update {checkpoint.step:,} of {run}, in its stage `{checkpoint.stage}`"
    end = "the end of the run" if checkpoint.is_end_of_run else "and not the end of the run"
    return f"This is the checkpoint {place}, after {checkpoint.tokens:,} tokens: {end}." + (
        f" `{RECORD}` names it." if revision else " Other checkpoints are revisions."
    )


def _use(repository: str, checkpoint: RunCheckpoint, revision: str | None) -> Iterator[str]:
    given = f', revision="{revision}"' if revision else ""
    yield "```python"
    yield f"from transformers import {checkpoint.exported_as}, AutoTokenizer"
    yield ""
    yield f'model = {checkpoint.exported_as}.from_pretrained("{repository}"{given})'
    yield f'tokenizer = AutoTokenizer.from_pretrained("{repository}"{given})'
    yield "```"


def _results(results: RunResults, places: Sequence[tuple[str, int]]) -> Iterator[str]:
    lines = results_table(places, results)
    if not lines:
        yield "Nothing was measured at this checkpoint."
        return
    yield from lines
    yield ""
    yield (
        "Loss is in nats a masked token, on the validation splits of the corpora above; accuracy "
        "is the share of masked tokens that are predicted right."
    )
    if results.manifest.unigram_entropy is not None:
        yield (
            "The entropy of the validation split's own token frequencies is "
            f"{results.manifest.unigram_entropy:.4f} nats a token."
        )


def _limits(
    facts: CardFacts, checkpoint: RunCheckpoint, places: Sequence[tuple[str, int]]
) -> Iterator[str]:
    results = facts.results
    yield "- It predicts masked tokens. For any other task it has to be fine-tuned."
    on_tasks = any(results.tasks_at(step) for _, step in places)
    if not on_tasks:
        yield "- It was not evaluated on tasks."
    if checkpoint.averaged is not None:
        yield "- The run did not evaluate the average itself."
    besides = " and of the tasks above" if on_tasks else ""
    yield (
        "- It was not evaluated on texts other than those of its corpora's validation "
        f"splits{besides}."
    )
    yield (
        "- The run records neither the languages of its corpora nor what stands in them. What "
        "biases the model has taken from them was not examined."
    )
    if checkpoint.step is not None and not checkpoint.is_end_of_run:
        yield "- It is an intermediate checkpoint: training had not ended."


def _versions(results: RunResults, checkpoint: RunCheckpoint) -> Iterator[str]:
    launch = results.launch_at(checkpoint.step)
    if launch is None:
        yield "The run's manifest names none."
        return
    packages = [f"{name} {version}" for name, version in launch.packages.items() if version]
    yield (
        f"Trained with FlexBERT {launch.flexbert}, Python {launch.python}, "
        f"{', '.join(packages)}; {launch.processes} process{'es' * (launch.processes != 1)}, "
        f"device {launch.device}. `{RECORD}` says what the weights were exported with, and holds "
        "the hash of the checkpoint."
    )
