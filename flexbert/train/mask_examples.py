"""A few validation texts at every evaluation, and what the model takes their masked tokens for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from tokenizers import Tokenizer
from torch import Tensor

from flexbert.config.training import IGNORE
from flexbert.errors import first_line
from flexbert.mask_examples_file import EvaluationExamples, MaskedPlace, MaskExample, Prediction
from flexbert.train.composer_model import ComposerMaskedLM
from flexbert.train.run_folder import RunFolder
from flexbert.train.stage_run import StageRun

# Of one example, so that a record stays within a few kilobytes.
MOST_TOKENS = 40
MOST_MASKED = 6
NUM_PREDICTIONS = 3


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of a sequence.

    Attributes:
        ids: its tokens as they were before masking, without ``[CLS]`` and ``[SEP]``.
        masked: places in ``ids`` that are masked, in order.
        indices: of the same places, in the micro-batch's ``masked_positions``.
    """

    ids: list[int]
    masked: list[int]
    indices: list[int]


class MaskExamples(Callback):
    """Appends to ``mask_examples.jsonl``, on the first process alone.

    The texts are from the first row of each source's evaluation. They are masked there as in every
    other evaluation of the stage, so that predictions at two updates compare. The model sees the
    micro-batch that they stand in once more, in shapes that it has just been compiled for. No other
    process takes part, nothing random is drawn and no weight changes.
    """

    def __init__(
        self,
        run: StageRun,
        folder: RunFolder,
        model: ComposerMaskedLM,
        tokenizer: Mapping[str, str],
    ) -> None:
        """
        Args:
            tokenizer: of the corpus, file name to text.
        """
        self.run = run
        self.folder = folder
        self.model = model
        self._examples: list[MaskExample] = []
        self._tokenizer = None
        if run.recipe.evaluation.examples and dist.get_global_rank() == 0:
            self._tokenizer = _tokenizer(tokenizer)

    def eval_before_all(self, state: State, logger: Logger) -> None:
        self._examples = []

    def eval_after_forward(self, state: State, logger: Logger) -> None:
        if self._tokenizer is None or int(state.eval_timestamp.batch.value) > 0:
            return
        found = excerpts(
            state.batch, self.run.recipe.data.row_length, self.run.recipe.evaluation.examples
        )
        if not found:
            return
        predicted = predictions(self.model, state.batch, found)
        source = str(state.dataloader_label)
        self._examples += [
            _example(source, one, probabilities, self._tokenizer)
            for one, probabilities in zip(found, predicted, strict=True)
        ]

    def eval_after_all(self, state: State, logger: Logger) -> None:
        if self._examples:
            evaluation = EvaluationExamples(
                stage=self.run.stage.name,
                step=int(state.timestamp.batch.value),
                tokens=int(state.timestamp.token.value),
                examples=tuple(self._examples),
            )
            self.folder.append_mask_examples(evaluation.plain())
        self._examples = []


def excerpts(batch: Mapping[str, Any], row_length: int, most: int) -> list[Excerpt]:
    """Parts of the sequences in a micro-batch's first row that have masked tokens.

    The beginning of each sequence, then the parts that follow in each; where the row has fewer
    sequences than are asked for, parts spread evenly over it. The first row is the same whatever
    the number of processes and the size of micro-batches.

    Args:
        batch: a micro-batch, see
            :meth:`flexbert.data.packing.microbatches.MicrobatchBuilder.build`.
        most: how many at most.
    """
    row = batch["input_ids"][:row_length].tolist()
    labels = batch["labels"].tolist()
    index_at = {
        position: index
        for index, position in enumerate(batch["masked_positions"].tolist())
        if position < row_length and labels[index] != IGNORE
    }
    original = [
        labels[index_at[place]] if place in index_at else row[place] for place in range(row_length)
    ]
    bounds = [bound for bound in batch["cu_seqlens"].tolist() if bound < row_length]
    found: list[Excerpt] = []
    for places in _parts([*bounds, row_length]):
        masked = [place for place in places if place in index_at]
        if len(masked) > MOST_MASKED:
            places = range(places.start, masked[MOST_MASKED])
        masked = masked[:MOST_MASKED]
        if masked:
            found.append(
                Excerpt(
                    ids=original[places.start : places.stop],
                    masked=[place - places.start for place in masked],
                    indices=[index_at[place] for place in masked],
                )
            )
    # The first of few long sequences' parts would lie next to each other.
    if len(bounds) < most < len(found):
        return [found[number * len(found) // most] for number in range(most)]
    return found[:most]


def _parts(bounds: list[int]) -> list[range]:
    """Ranges of a row without ``[CLS]`` and ``[SEP]``: the first of each sequence come first."""
    parts = [
        (number, range(first, min(end - 1, first + MOST_TOKENS)))
        for begin, end in itertools.pairwise(bounds)
        for number, first in enumerate(range(begin + 1, end - 1, MOST_TOKENS))
    ]
    return [places for _, places in sorted(parts, key=lambda part: part[0])]


@torch.no_grad()
def predictions(
    model: ComposerMaskedLM, batch: Mapping[str, Any], found: list[Excerpt]
) -> list[Tensor]:
    """Probabilities ``[M, V]`` at the masked tokens of each excerpt, float32 on the CPU.

    Args:
        batch: the micro-batch that they are of, on the model's device.
    """
    logits = model(dict(batch))
    rows = [index for one in found for index in one.indices]
    features = logits.features[torch.tensor(rows, device=logits.features.device)]
    probabilities = logits._replace(features=features).computed().float().softmax(-1)
    # Of a model whose numbers are not finite nothing is probable.
    return list(probabilities.nan_to_num(0.0).cpu().split([len(one.indices) for one in found]))


def _example(source: str, one: Excerpt, probabilities: Tensor, tokenizer: Tokenizer) -> MaskExample:
    masked = []
    begin = 0
    for place, of_place in zip(one.masked, probabilities, strict=True):
        best, best_ids = of_place.topk(min(NUM_PREDICTIONS, len(of_place)))
        masked.append(
            MaskedPlace(
                before=_text(tokenizer, one.ids[:begin], one.ids[begin:place]),
                token=_text(tokenizer, one.ids[:place], [one.ids[place]]),
                predictions=tuple(
                    Prediction(
                        token=_text(tokenizer, one.ids[:place], [token]),
                        probability=round(probability, 4),
                    )
                    for probability, token in zip(best.tolist(), best_ids.tolist(), strict=True)
                ),
                token_probability=round(float(of_place[one.ids[place]]), 4),
            )
        )
        begin = place + 1
    return MaskExample(
        source=source,
        masked=tuple(masked),
        after=_text(tokenizer, one.ids[:begin], one.ids[begin:]),
    )


def _text(tokenizer: Tokenizer, before: list[int], ids: list[int]) -> str:
    """The text of tokens where they stand: spaces may come from what is before them."""
    start = tokenizer.decode(before, skip_special_tokens=False)
    whole = tokenizer.decode(before + ids, skip_special_tokens=False)
    # Not so where a character is made of several tokens.
    if whole.startswith(start):
        return whole[len(start) :]
    return tokenizer.decode(ids, skip_special_tokens=False)


def _tokenizer(texts: Mapping[str, str]) -> Tokenizer | None:
    try:
        return Tokenizer.from_str(texts["tokenizer.json"])
    # The library raises nothing narrower; no training ends for want of examples.
    except Exception as error:
        print(
            "warning: no examples of masked texts are recorded: the corpus's tokenizer cannot be "
            f"read ({first_line(error)})",
            flush=True,
        )
        return None
