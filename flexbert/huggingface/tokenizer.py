"""The tokenizer's files, and what they say of special tokens."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from flexbert.data.format.corpus_format import TOKENIZER_FILES
from flexbert.errors import UserError, did_you_mean, first_line
from flexbert.files.regular import parse_json, read_regular
from flexbert.huggingface.folder import read_json
from flexbert.huggingface.quiet import quiet_transformers

CONFIG = "tokenizer_config.json"
FILES = TOKENIZER_FILES
# What holds for any class; vocab.txt and its like are for the one of a model.
_NOT_OF_A_CLASS = ("tokenizer.json", CONFIG, "chat_template.jinja")
# Of a folder with nothing that a model's class is needed for.
_BARE = frozenset({"tokenizer.json", "special_tokens_map.json"})
TOKEN_TYPES = "token_type_ids"
# One of them is always there.
_ANY_OF = ("tokenizer.json", "vocab.txt", "vocab.json")
ROLES = ("pad", "cls", "sep", "mask", "bos", "eos", "unk")
CONFIG_ROLES = frozenset(f"{role}_token" for role in ROLES)
# transformers 5 writes this class, 4.57 has the same under its older name.
_SAME_CLASS = {"TokenizersBackend": "PreTrainedTokenizerFast"}
# This class takes tokenizer.json for all that it says.
PLAIN_CLASS = "PreTrainedTokenizerFast"
# What a token of a role is called in tokenizers that do not say which has it.
_USUAL_NAMES = {
    "cls": ("[CLS]", "<s>", "<cls>"),
    "sep": ("[SEP]", "</s>", "<sep>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
    "unk": ("[UNK]", "<unk>"),
}


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _ANY_OF)


def read_tokenizer(folder: Path, model_type: str | None) -> dict[str, str]:
    """The tokenizer's files of a folder, file name to text, as they are.

    One that says its class only through the model's ``config.json``, or has no ``tokenizer.json``,
    is written again by transformers, so that it is whole without the model. A ``tokenizer.json``
    alone is enough: which token is [CLS] is then read off its template and the usual names.

    Args:
        model_type: of the model in the folder; None where there is none.

    Raises:
        UserError: if there is no tokenizer, or it cannot be read without running code.
    """
    if not has_tokenizer(folder):
        raise UserError(f"{folder}: no tokenizer in it (none of {', '.join(_ANY_OF)})")
    # What is there and cannot be read (a pipe, a broken link) is refused, and not passed over.
    found = [name for name in FILES if os.path.lexists(folder / name)]
    try:
        texts = {name: read_regular(folder / name).decode() for name in found}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}: its tokenizer is not readable ({first_line(error)})") from None
    config = read_json(folder / CONFIG) if CONFIG in texts else {}
    is_whole = "tokenizer.json" in texts and "tokenizer_class" not in config
    if is_whole and (model_type is None or texts.keys() <= _BARE):
        # The class of a model would add the special tokens of its own first tokenizer.
        texts = {**texts, CONFIG: _dumped({**config, **_plain_class(texts["tokenizer.json"])})}
    elif "tokenizer.json" not in texts or "tokenizer_class" not in config:
        texts = _written_anew(texts, model_type)
    return of_older_transformers(_with_roles(texts))


def _plain_class(tokenizer: str) -> dict[str, Any]:
    """What a config says of a ``tokenizer.json`` that is to be taken as it is."""
    return {
        "tokenizer_class": PLAIN_CLASS,
        # transformers 4.57 sets the pre-tokenizer's to this, and takes silence for False.
        "add_prefix_space": has_prefix_space(tokenizer),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def has_prefix_space(tokenizer: str) -> bool:
    """Whether the pre-tokenizer of a ``tokenizer.json`` puts a space before a text."""
    try:
        pre_tokenizer = parse_json(tokenizer).get("pre_tokenizer")
    except (ValueError, AttributeError):
        return False
    return isinstance(pre_tokenizer, dict) and pre_tokenizer.get("add_prefix_space") is True


def as_a_corpus_reads_it(texts: Mapping[str, str]) -> dict[str, str]:
    """The tokenizer in the form of which AutoTokenizer makes what a corpus has: no more and no less
    than its ``tokenizer.json``, with the template [CLS] A [SEP] if that has none for one text.

    Raises:
        UserError: if it has no [CLS] or [SEP], or is not readable.
    """
    try:
        config = parse_json(texts.get(CONFIG, "{}"))
        backend = Tokenizer.from_str(texts["tokenizer.json"])
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"the tokenizer is not readable ({first_line(error)})") from None
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "do_basic_tokenize"):
        config.pop(key, None)
    input_names = config.get("model_input_names")
    written = {**config, **_plain_class(texts["tokenizer.json"])}
    if input_names is not None:
        written["model_input_names"] = input_names
    kept = {name: text for name, text in texts.items() if name in _NOT_OF_A_CLASS}
    whole = _with_roles({**kept, CONFIG: _dumped(written)})
    named = parse_json(whole[CONFIG])
    cls, sep = (_content(named.get(f"{role}_token")) for role in ("cls", "sep"))
    ids = [None if token is None else backend.token_to_id(token) for token in (cls, sep)]
    if None in ids:
        raise UserError("the tokenizer has no [CLS] or [SEP]")
    alone = backend.encode("x", add_special_tokens=False).ids
    if backend.encode("x").ids != [ids[0], *alone, ids[1]]:
        backend.post_processor = template(str(cls), str(sep), backend)
        whole["tokenizer.json"] = backend.to_str(pretty=True)
    return whole


def template(cls: str, sep: str, backend: Tokenizer) -> TemplateProcessing:
    """BERT's: [CLS] A [SEP], and [CLS] A [SEP] B [SEP] with the type 1 from B on."""
    return TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, backend.token_to_id(cls)), (sep, backend.token_to_id(sep))],
    )


def _content(token: Any) -> str | None:
    """A token's text, whether the config has it alone or with its settings."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _with_roles(texts: dict[str, str]) -> dict[str, str]:
    """With the tokens of all roles in the config, where only other files or names tell them."""
    config = parse_json(texts.get(CONFIG, "{}"))
    if not isinstance(config, dict) or all(config.get(f"{role}_token") for role in _USUAL_NAMES):
        return texts
    loaded = load_tokenizer(texts)
    vocabulary = loaded.get_vocab()
    added = {}
    for role, names in _USUAL_NAMES.items():
        if config.get(f"{role}_token"):
            continue
        token = getattr(loaded, f"{role}_token", None)
        if token is None and CONFIG_ROLES.isdisjoint(config):
            placed = _placed_by_template(texts["tokenizer.json"], role)
            candidates = (placed, *names) if placed else names
            token = next((name for name in candidates if name in vocabulary), None)
        if token is not None:
            added[f"{role}_token"] = str(token)
    return {**texts, CONFIG: _dumped({**config, **added})} if added else texts


def _placed_by_template(tokenizer: str, role: str) -> str | None:
    """The token that a ``tokenizer.json`` puts before (cls) or behind (sep) a text."""
    processor = parse_json(tokenizer).get("post_processor") or {}
    for part in processor.get("processors", [processor]):
        if role in ("cls", "sep") and isinstance(part.get(role), list):
            return str(part[role][0])
        single = part.get("single")
        if role in ("cls", "sep") and isinstance(single, list) and single:
            part = single[0 if role == "cls" else -1].get("SpecialToken", {})
            if "id" in part:
                return str(part["id"])
    return None


def _dumped(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


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
    return {**texts, CONFIG: _dumped(older)}


def _written_anew(texts: Mapping[str, str], model_type: str | None) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "written"
        load_tokenizer(texts, model_type).save_pretrained(folder)
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
    tokenizer = load_tokenizer(texts)
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
    return load_tokenizer(texts).backend_tokenizer


def without_token_types(texts: Mapping[str, str]) -> dict[str, str] | None:
    """The tokenizer made to give no token types, None if it gives none as it is.

    A model with fewer than two of them cannot be called with what a tokenizer gives for a pair.
    """
    config = parse_json(texts.get(CONFIG, "{}"))
    names = config.get("model_input_names", ["input_ids", TOKEN_TYPES, "attention_mask"])
    if TOKEN_TYPES not in names:
        return None
    config["model_input_names"] = [name for name in names if name != TOKEN_TYPES]
    return {**texts, CONFIG: _dumped(config)}


def with_max_length(texts: Mapping[str, str], length: int) -> dict[str, str]:
    """The tokenizer, saying that texts of up to ``length`` tokens are what its model takes."""
    config = parse_json(texts.get(CONFIG, "{}"))
    if config.get("model_max_length") == length:
        return dict(texts)
    return {**texts, CONFIG: _dumped({**config, "model_max_length": length})}


def longest(texts: Mapping[str, str]) -> int | None:
    """The longest document that the tokenizer says it is made for, None if it says nothing."""
    try:
        length = parse_json(texts[CONFIG])["model_max_length"]
    except (KeyError, TypeError, ValueError):
        return None
    # Where nobody decided, transformers writes 10 to the 30.
    return length if isinstance(length, int) and 0 < length < 10**9 else None


def load_tokenizer(texts: Mapping[str, str], model_type: str | None = None) -> Any:
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
