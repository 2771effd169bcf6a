"""``python -m data_prep tokenizer --adapt``: an existing tokenizer, fit for masked-LM training.

Every id stays what it is, and where nothing is missing none is added: a published model's embedding
fits without a change. It is saved in a form of which both generations of transformers make what its
``tokenizer.json`` says.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from data_prep.tokenizer_training import MULTIPLE, SPECIAL_TOKENS, complete, unused_numbers
from flexbert.errors import UserError, first_line
from flexbert.files.regular import read_regular, refuse_irregular

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# A published tokenizer's own word on these stays.
KEPT_SETTINGS = ("model_input_names", "model_max_length", "padding_side", "truncation_side")


def adapt_tokenizer(source: str, *, unused: int | None = None) -> PreTrainedTokenizerFast:
    """Make an existing fast tokenizer fit for masked-LM training; its ids stay what they are.

    Special tokens that are missing, or that share an id with another role, are added. Ids that no
    token has become unused tokens. The template is set where it is not [CLS] A [SEP] for one text.

    Args:
        source: a folder or a name, read as AutoTokenizer reads it; or a ``tokenizer.json``, which
            is taken as it is.
        unused: pads the vocabulary to a multiple of 64 with at least so many unused tokens in it;
            None adds none.

    Raises:
        UserError: if it cannot be loaded, or is not a fast tokenizer.
    """
    existing = _load(source)
    backend = _without_gaps(Tokenizer.from_str(existing.backend_tokenizer.to_str()))
    backend.no_truncation()
    backend.no_padding()
    before = backend.get_vocab()
    roles = {role: token for role in SPECIAL_TOKENS if (token := getattr(existing, role))}
    _drop_shared(roles)
    vocab_size = None
    if unused is not None:
        missing = sum(token not in before for token in {**SPECIAL_TOKENS, **roles}.values())
        smallest = len(before) + missing + max(unused - len(unused_numbers(backend)), 0)
        vocab_size = -(-smallest // MULTIPLE) * MULTIPLE
    given = existing.init_kwargs
    settings = {key: given[key] for key in KEPT_SETTINGS if key in given}
    # A class may have them without saying so.
    settings["model_input_names"] = list(existing.model_input_names)
    adapted = complete(backend, roles, vocab_size=vocab_size, settings=settings)
    after = adapted.get_vocab()
    if new := sorted(after.keys() - before.keys(), key=after.__getitem__):
        shown = ", ".join(new[:5]) + (" ..." if len(new) > 5 else "")
        print(
            f"{len(new)} ids are new, from {after[new[0]]} on ({shown}): a model of "
            "this tokenizer has no embedding for them"
        )
    return adapted


def _load(source: str) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from flexbert.huggingface.quiet import quiet_transformers
    from flexbert.huggingface.tokenizer import read_tokenizer, write_tokenizer

    path = Path(source)
    is_bare = path.is_file() or (
        path.is_dir()
        and (path / "tokenizer.json").is_file()
        and not any((path / name).is_file() for name in ("tokenizer_config.json", "config.json"))
    )
    try:
        if path.is_dir():
            refuse_irregular(path)
        with tempfile.TemporaryDirectory() as temporary, quiet_transformers():
            folder: Path | str = source
            if is_bare:
                bare, folder = Path(temporary) / "bare", Path(temporary) / "whole"
                bare.mkdir()
                folder.mkdir()
                file = path / "tokenizer.json" if path.is_dir() else path
                (bare / "tokenizer.json").write_bytes(read_regular(file))
                _copy_roles(file.parent, bare)
                write_tokenizer(read_tokenizer(bare, None), folder)
            # Said outright: left open, transformers asks on the terminal, and runs the folder's
            # code.
            existing = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=is_bare or path.is_dir()
            )
    # Its parsers raise whatever the place in a file is that they cannot read.
    except Exception as error:
        raise UserError(f"--adapt {source}: cannot be loaded ({first_line(error)})") from None
    if not isinstance(existing, PreTrainedTokenizerFast):
        raise UserError(
            f"--adapt {source}: {type(existing).__name__} is not a fast tokenizer "
            "(it has no tokenizer.json)"
        )
    return existing


def _copy_roles(folder: Path, bare: Path) -> None:
    """What the config next to a ``tokenizer.json`` says of roles and lengths, and nothing else."""
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return
    config: dict[str, Any] = json.loads(read_regular(file))
    kept = {k: v for k, v in config.items() if k in SPECIAL_TOKENS or k in KEPT_SETTINGS}
    (bare / file.name).write_text(json.dumps(kept))


def _without_gaps(backend: Tokenizer) -> Tokenizer:
    """With an unused token for every id that none has: new tokens get the ids from the number of
    tokens on, whether or not those are taken."""
    vocabulary = backend.get_vocab()
    gaps = sorted(set(range(max(vocabulary.values(), default=-1) + 1)) - set(vocabulary.values()))
    if not gaps:
        return backend
    state = json.loads(backend.to_str())
    first = max(unused_numbers(backend), default=-1) + 1
    for number, id_ in enumerate(gaps, first):
        name = f"[unused{number}]"
        state["model"]["vocab"][name] = id_
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        state["added_tokens"].append({"id": id_, "content": name, "special": True, **flags})
    state["added_tokens"].sort(key=lambda token: token["id"])
    return Tokenizer.from_str(json.dumps(state))


def _drop_shared(roles: dict[str, str]) -> None:
    """Drop roles whose token already has another role: training must tell them apart.

    A padding token that is also the end-of-text token is the usual case.
    """
    order = ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token")
    # A token whose name is that of a role is that role's.
    keepers = {roles[role]: role for role in reversed(order) if role in roles}
    keepers |= {name: role for role, name in SPECIAL_TOKENS.items() if roles.get(role) == name}
    for role in order:
        if role in roles and keepers[roles[role]] != role:
            del roles[role]
