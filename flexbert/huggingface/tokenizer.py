"""The tokenizer's files, and what they say of special tokens."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flexbert.errors import UserError, did_you_mean, first_line
from flexbert.files.regular import parse_json, read_regular
from flexbert.huggingface.folder import read_json
from flexbert.huggingface.quiet import quiet_transformers

CONFIG = "tokenizer_config.json"
# What a tokenizer may be kept in; all are text.
FILES = (
    "tokenizer.json",
    CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
TOKEN_TYPES = "token_type_ids"
# One of them is always there.
_ANY_OF = ("tokenizer.json", "vocab.txt", "vocab.json")
ROLES = ("pad", "cls", "sep", "mask", "bos", "eos", "unk")
# transformers 5 writes this class, 4.57 has the same under its older name.
_SAME_CLASS = {"TokenizersBackend": "PreTrainedTokenizerFast"}


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _ANY_OF)


def read_tokenizer(folder: Path, model_type: str) -> dict[str, str]:
    """The tokenizer's files of a folder, file name to text, as they are.

    One that says its class only through the model's ``config.json``, or has no ``tokenizer.json``,
    is written again by transformers, so that it is whole without the model.

    Raises:
        UserError: if there is no tokenizer, or it cannot be read without running code.
    """
    if not has_tokenizer(folder):
        raise UserError(f"{folder}: no tokenizer in it (none of {', '.join(_ANY_OF)})")
    found = [name for name in FILES if (folder / name).is_file()]
    try:
        texts = {name: read_regular(folder / name).decode() for name in found}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}: its tokenizer is not readable ({first_line(error)})") from None
    config = read_json(folder / CONFIG) if CONFIG in texts else {}
    if "tokenizer.json" not in texts or "tokenizer_class" not in config:
        texts = _written_anew(texts, model_type)
    return of_older_transformers(texts)


def of_older_transformers(texts: Mapping[str, str]) -> dict[str, str]:
    """A tokenizer as transformers 4.57 reads it, and 5 too; the same where it has nothing new.

    Raises:
        UserError: if its config is not readable.
    """
    try:
        config = parse_json(texts.get(CONFIG, "{}"))
        older = dict(config)
    except (ValueError, TypeError) as error:
        problem = first_line(error)
        raise UserError(f"a tokenizer's file {CONFIG} is not readable ({problem})") from None
    name = older.get("tokenizer_class")
    if isinstance(name, str) and name in _SAME_CLASS:
        older["tokenizer_class"] = _SAME_CLASS[name]
    # A list in transformers 5, a mapping before.
    if isinstance(older.get("extra_special_tokens"), list):
        older["additional_special_tokens"] = older.pop("extra_special_tokens")
    if older == config:
        return dict(texts)
    return {**texts, CONFIG: json.dumps(older, indent=2, ensure_ascii=False) + "\n"}


def _written_anew(texts: Mapping[str, str], model_type: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "written"
        _load(texts, model_type).save_pretrained(folder)
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


def write_tokenizer(texts: Mapping[str, str], folder: Path) -> None:
    """The files of a tokenizer into a folder that has none of them.

    Raises:
        UserError: if a name is none of a file of a tokenizer, or the tokenizer asks for code.
    """
    for name, text in texts.items():
        if name not in FILES or not isinstance(text, str):
            raise UserError(f"a tokenizer's file {name!r}: {did_you_mean(str(name), FILES)}")
        try:
            if name == CONFIG and "auto_map" in parse_json(text):
                raise UserError(f"{CONFIG} names code of its own (auto_map), which is not run")
            (folder / name).write_bytes(text.encode())
        except (ValueError, TypeError) as error:
            problem = first_line(error)
            raise UserError(f"a tokenizer's file {name} is not readable ({problem})") from None


def special_ids(texts: Mapping[str, str], vocab_size: int) -> dict[str, int | None]:
    """Role (``pad``, ``cls``, ...) to token id, None for one that the tokenizer does not have.

    Raises:
        UserError: if it is no tokenizer, or has tokens that an embedding of this size has not.
    """
    tokenizer = _load(texts)
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= vocab_size:
        raise UserError(
            f"the tokenizer has a token of id {highest}, and the embedding {vocab_size} rows"
        )
    return {role: getattr(tokenizer, f"{role}_token_id", None) for role in ROLES}


def fast_tokenizer(texts: Mapping[str, str]) -> Any:
    """The ``tokenizers.Tokenizer`` that a tokenizer's files describe.

    Raises:
        UserError: if transformers cannot read them.
    """
    return _load(texts).backend_tokenizer


def without_token_types(texts: Mapping[str, str]) -> dict[str, str] | None:
    """The tokenizer made to give no token types, None if it gives none as it is.

    A model with fewer than two of them cannot be called with what a tokenizer gives for a pair.
    """
    config = parse_json(texts.get(CONFIG, "{}"))
    names = config.get("model_input_names", ["input_ids", TOKEN_TYPES, "attention_mask"])
    if TOKEN_TYPES not in names:
        return None
    config["model_input_names"] = [name for name in names if name != TOKEN_TYPES]
    return {**texts, CONFIG: json.dumps(config, indent=2, ensure_ascii=False) + "\n"}


def longest(texts: Mapping[str, str]) -> int | None:
    """The longest document that the tokenizer says it is made for, None if it says nothing."""
    try:
        length = parse_json(texts[CONFIG])["model_max_length"]
    except (KeyError, TypeError, ValueError):
        return None
    # Where nobody decided, transformers writes 10 to the 30.
    return length if isinstance(length, int) and 0 < length < 10**9 else None


def _load(texts: Mapping[str, str], model_type: str | None = None) -> Any:
    """The tokenizer, loaded from a folder that holds nothing else."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_tokenizer(texts, folder)
        if model_type is not None:
            (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        try:
            with quiet_transformers():
                return AutoTokenizer.from_pretrained(
                    folder, use_fast=True, trust_remote_code=False, local_files_only=True
                )
        # A tokenizer's parser raises whatever the place in it is that it cannot read.
        except Exception as error:
            problem = first_line(error)
            raise UserError(f"transformers cannot read the tokenizer ({problem})") from None
