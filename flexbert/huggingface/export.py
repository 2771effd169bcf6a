"""``flexbert export``: from a checkpoint to a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import checkpoint_file, read_checkpoint
from flexbert.checkpoint.weights import model_config, model_of
from flexbert.config.model import ModelConfig, Pooling
from flexbert.errors import UserError, first_line
from flexbert.files.durable import WriteError, new_folder
from flexbert.huggingface.compare import compare_logits, load_theirs, sample
from flexbert.huggingface.config_keys import Expressed
from flexbert.huggingface.families import family_for, transformers_version
from flexbert.huggingface.family import Facts, Family, is_tied
from flexbert.huggingface.sentence_transformers import write_sentence_transformers
from flexbert.huggingface.tokenizer import (
    as_a_corpus_reads_it,
    longest,
    of_older_transformers,
    special_ids,
    with_max_length,
    without_token_types,
    write_tokenizer,
)
from flexbert.huggingface.tokenizer_agreement import disagreement, sample_texts
from flexbert.nn.padded import PaddedModel

# What a model without a table of positions is said to be for, where nothing tells.
DEFAULT_LENGTH = 8192


def export_checkpoint(source: Path, target: Path, pooling: Pooling | None = None) -> list[str]:
    """Write a checkpoint's model and tokenizer as a Hugging Face folder.

    It is written next to the target, loaded by transformers, and moved to the target if the logits
    of both implementations are the same.

    Args:
        source: a checkpoint, or a run's folder for its newest.
        target: a folder that is not there yet, or is empty.
        pooling: makes it a folder of sentence-transformers too, which pools so.

    Returns:
        What to tell the user.

    Raises:
        UserError: if there is anything in the way, and then nothing is left behind.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target}: is there already; give another name, or remove it")
    path = checkpoint_file(source)
    checkpoint = read_checkpoint(path)
    config = model_config(checkpoint)
    model = model_of(checkpoint, config)
    tokenizer = checkpoint.tokenizer
    notes: list[str] = []
    facts, family, expressed = _family(config, checkpoint, notes)
    if getattr(config.embedding, "token_types", 0) < 2:
        changed = without_token_types(tokenizer)
        if changed is not None:
            tokenizer = changed
            notes.append("the tokenizer now gives no token_type_ids: the model takes none")
    task = config.head.task
    written = {**expressed.config, "transformers_version": transformers_version()}
    tokenizer = _agreeing(tokenizer, checkpoint, family.model_type, notes)
    tokenizer = with_max_length(tokenizer, facts.max_length)
    with new_folder(target) as folder:
        write_tokenizer(tokenizer, folder)
        _write_json(folder / "config.json", written)
        _write_weights(folder, family.weights(model.state_dict(), config))
        if pooling is not None:
            write_sentence_transformers(folder, pooling, config.hidden_size, facts.max_length)
        theirs = load_theirs(folder, family, task, tied=is_tied(config))
        documents = sample(config, facts.max_length, facts.special_ids["pad"])
        difference = compare_logits(PaddedModel(model, config), theirs, documents)
    return [
        *(f"note: {note}" for note in (*notes, *expressed.notes)),
        f"{target}: {family.classes[task]}, logits as those of transformers "
        f"{transformers_version()} (largest difference {difference:.1e} of their scale)",
    ]


def exported_class(checkpoint: Checkpoint) -> str:
    """The class of transformers that a checkpoint would be exported to; nothing is written.

    Raises:
        UserError: if there is none, or the checkpoint holds no tokenizer.
    """
    config = model_config(checkpoint)
    _, family, _ = _family(config, checkpoint, [])
    return family.classes[config.head.task]


def _family(
    config: ModelConfig, checkpoint: Checkpoint, notes: list[str]
) -> tuple[Facts, Family, Expressed]:
    if not checkpoint.tokenizer:
        raise UserError(f"{checkpoint.name}: holds no tokenizer")
    facts = Facts(
        special_ids=special_ids(checkpoint.tokenizer, config.vocab_size),
        max_length=_max_length(config, checkpoint, notes),
    )
    return facts, *family_for(config, facts)


def _agreeing(
    tokenizer: Mapping[str, str], checkpoint: Checkpoint, model_type: str, notes: list[str]
) -> dict[str, str]:
    """The tokenizer of which AutoTokenizer makes the tokens that the model was trained with."""
    texts = of_older_transformers(tokenizer)
    samples = sample_texts(texts["tokenizer.json"]) if "tokenizer.json" in texts else []
    if "tokenizer.json" not in texts or not (found := disagreement(texts, samples, model_type)):
        return texts
    if checkpoint.training is None and checkpoint.averaged is None:
        # Imported: no corpus was read, and its users have known it as it is.
        notes.append(f"the tokenizer is as it was imported, and for a corpus another: {found}")
        return texts
    changed = as_a_corpus_reads_it(texts)
    if still := disagreement(changed, samples, model_type):
        raise UserError(
            f"the tokenizer cannot be exported as the model was trained with it: {still}; give a "
            "tokenizer.json whose template and added tokens transformers leaves as they are"
        )
    notes.append(f"the tokenizer is written as its tokenizer.json says, as in training: {found}")
    return changed


def _max_length(config: ModelConfig, checkpoint: Checkpoint, notes: list[str]) -> int:
    """The longest document: of the positions, or else of the training data."""
    if config.embedding.max_length is not None:
        return config.embedding.max_length
    if checkpoint.max_length is not None:
        return checkpoint.max_length
    length = longest(checkpoint.tokenizer) or DEFAULT_LENGTH
    notes.append(f"the checkpoint does not say how long documents are; written as {length}")
    return length


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_weights(folder: Path, state: Mapping[str, torch.Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = folder / "model.safetensors"
    try:
        save_file(dict(state), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise WriteError(f"{path}: cannot be written: {first_line(error)}") from None
    # safetensors lets nobody else read it, whatever the user's umask.
    path.chmod((folder / "config.json").stat().st_mode)
