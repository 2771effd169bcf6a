"""Forty small tokenizers that differ in all that AutoTokenizer may read otherwise."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import TemplateProcessing

TEXTS = (
    "The Cat sat on the Mat, and Caf\u00e9 na\u0308ive people looked at it.",
    " leading and trailing space ",
    "def f(x):\n    return {x: 12345}",
    "a [MASK] is text here, and so is <new> too",
    "\u4f60\u597d \u0645\u0631\u062d\u0628\u0627 Stra\u00dfe \u0130stanbul",
)
ROLES = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
SPECIAL = list(ROLES.values())


@dataclass(frozen=True, kw_only=True)
class Made:
    """How one is made.

    Attributes:
        kind: ``bytes``, ``wordpiece`` or ``unigram``.
        prefix_space: what tokenizer.json has; None where its kind has no such setting.
        lower: whether the normalizer of tokenizer.json makes all small.
        config: what tokenizer_config.json says beyond roles.
        added: an ordinary added token.
        gap: whether an id in the middle belongs to no token.
        differs: whether AutoTokenizer of one generation or the other gives other ids.
    """

    kind: str
    prefix_space: bool = False
    lower: bool = False
    template: bool = True
    added: bool = False
    gap: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    differs: bool = False

    def write(self, folder: Path) -> None:
        backend = _BACKENDS[self.kind](self)
        if self.added:
            backend.add_tokens([AddedToken("<new>", normalized=False)])
        if self.template:
            ids = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
            backend.post_processor = TemplateProcessing("[CLS] $A [SEP]", None, ids)
        folder.mkdir()
        state = json.loads(backend.to_str())
        if self.gap:
            vocabulary = state["model"]["vocab"]
            last = max(vocabulary, key=vocabulary.__getitem__)
            vocabulary[last] += 3
        (folder / "tokenizer.json").write_text(json.dumps(state))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **ROLES, **self.config}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _byte_level(made: Made) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=made.prefix_space)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    return _trained(backend, trainer, made)


def _word_piece(made: Made) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=made.lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def _unigram(made: Made) -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    scheme = "always" if made.prefix_space else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
    )
    return _trained(backend, trainer, made)


def _trained(backend: Tokenizer, trainer: Any, made: Made) -> Tokenizer:
    if made.lower:
        backend.normalizer = normalizers.Lowercase()
    backend.train_from_iterator(TEXTS, trainer)
    return backend


_BACKENDS = {"bytes": _byte_level, "wordpiece": _word_piece, "unigram": _unigram}
CASED = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
UNCASED = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
FORTY: dict[str, Made] = {}
for _kind in _BACKENDS:
    for _prefix in (False, True) if _kind != "wordpiece" else (False,):
        for _lower in (False, True):
            for _template in (True, False):
                _name = f"{_kind}{' prefix' * _prefix}{' lower' * _lower}"
                _name += "" if _template else " no template"
                # 4.57 takes a config's silence for no prefix space, in byte-level ones alone.
                FORTY[_name] = Made(
                    kind=_kind,
                    prefix_space=_prefix,
                    lower=_lower,
                    template=_template,
                    differs=not _template or (_kind == "bytes" and _prefix),
                )
FORTY |= {
    **{f"{kind} added": Made(kind=kind, added=True) for kind in _BACKENDS},
    **{f"{kind} lower added": Made(kind=kind, lower=True, added=True) for kind in _BACKENDS},
    "bytes prefix said": Made(kind="bytes", prefix_space=True, config={"add_prefix_space": True}),
    "bytes prefix denied": Made(
        kind="bytes", prefix_space=True, config={"add_prefix_space": False}, differs=True
    ),
    "bytes prefix only said": Made(kind="bytes", config={"add_prefix_space": True}, differs=True),
    "bytes plain class of 5": Made(kind="bytes", config={"tokenizer_class": "TokenizersBackend"}),
    "wordpiece gap": Made(kind="wordpiece", gap=True),
    "wordpiece lower gap": Made(kind="wordpiece", lower=True, gap=True),
    "wordpiece of BERT": Made(kind="wordpiece", config=CASED),
    "wordpiece lower of BERT": Made(kind="wordpiece", lower=True, config=UNCASED),
    "wordpiece lower json, cased config": Made(
        kind="wordpiece", lower=True, config=CASED, differs=True
    ),
    "wordpiece cased json, lower config": Made(kind="wordpiece", config=UNCASED, differs=True),
    "wordpiece cased json, silent config": Made(
        kind="wordpiece", config={"tokenizer_class": "BertTokenizer"}, differs=True
    ),
    "wordpiece of BERT added": Made(kind="wordpiece", added=True, config=CASED),
    "wordpiece accents by config": Made(
        kind="wordpiece", config={**CASED, "strip_accents": True}, differs=True
    ),
    "wordpiece of BERT fast": Made(
        kind="wordpiece", lower=True, config={**UNCASED, "tokenizer_class": "BertTokenizerFast"}
    ),
}
