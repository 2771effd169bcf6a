"""Whether AutoTokenizer gives what a corpus has, in both generations of transformers.

A corpus is made with ``tokenizer.json`` alone. AutoTokenizer also reads ``tokenizer_config.json``,
and then may build normalizer and pre-tokenizer again (transformers 5, for classes of a model), or
change single settings of them (4.57): ``do_lower_case``, ``strip_accents``, ``add_prefix_space``.
A model then sees other tokens in use than in training. The installed transformers is asked itself;
what the older generation would do stands in :func:`as_transformers_4`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from flexbert.errors import UserError, first_line
from flexbert.files.regular import parse_json
from flexbert.huggingface.tokenizer import CONFIG, ROLES, load_tokenizer

OLDER = "4.57"
# Texts on which the known ways to differ show: case, accents, spaces at both ends, CJK, controls.
PROBES = (
    "Hello World, the Cat",
    " Caf\u00e9 na\u0308ive  and\ttabs\n\nlines ",
    "def f(x): return {'a': 1234567}",
    "\u4f60\u597d\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 \U0001f680 \u1e9e\u0130",
    "x",
)
# Classes that set BertNormalizer's switches to the config's words; BERT's defaults.
_BERT_LIKE = frozenset(
    {
        "Bert",
        "ConvBert",
        "DistilBert",
        "Electra",
        "Funnel",
        "LayoutLM",
        "Lxmert",
        "MobileBert",
        "MPNet",
        "Retribert",
        "Roformer",
        "SqueezeBert",
        "Splinter",
    }
)
_SWITCHES = {
    "lowercase": ("do_lower_case", True),
    "strip_accents": ("strip_accents", None),
    "handle_chinese_chars": ("tokenize_chinese_chars", True),
}
# As much of a text as a message shows, and as many ids.
_SHOWN_TEXT, _SHOWN_IDS = 40, 12
_NUM_SAMPLES, _TOKENS_EACH = 16, 32


def disagreement(
    texts: Mapping[str, str], documents: Iterable[str], model_type: str | None = None
) -> str | None:
    """Where AutoTokenizer reads a tokenizer otherwise than a corpus does: a text and both its ids.

    Args:
        texts: the tokenizer's files, name to text.
        documents: a sample of the corpus; some texts that tell differences are always added.
        model_type: of the model that the tokenizer will lie beside; None where it is not known.

    Returns:
        A clause for a message; None if all ids are the same in both generations.

    Raises:
        UserError: if transformers cannot read the tokenizer.
    """
    import transformers

    own = Tokenizer.from_str(texts["tokenizer.json"])
    loaded = load_tokenizer(texts, model_type)
    older = as_transformers_4(texts)
    for tokenizer in (own, older):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A text that spells a special token is text in a corpus.
        tokenizer.encode_special_tokens = True
    for text in (*PROBES, *documents):
        content = own.encode(text, add_special_tokens=False).ids
        expected = [loaded.cls_token_id, *content, loaded.sep_token_id]
        newer = loaded(text, split_special_tokens=True, verbose=False)["input_ids"]
        given = {transformers.__version__: newer, OLDER: older.encode(text).ids}
        for version, ids in given.items():
            if ids != expected:
                return (
                    f"AutoTokenizer of transformers {version} makes {_ids(ids)} of {_text(text)}, "
                    f"a corpus has {_ids(expected)} ({_suspects(texts)})"
                )
    return None


def sample_texts(tokenizer: str) -> list[str]:
    """Texts of random tokens of a ``tokenizer.json``, always the same: a sample without a corpus.

    Raises:
        UserError: if it is no tokenizer.
    """
    try:
        backend = Tokenizer.from_str(tokenizer)
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"tokenizer.json is not readable ({first_line(error)})") from None
    ids = sorted(backend.get_vocab().values())
    draw = random.Random(0)
    drawn = [draw.choices(ids, k=_TOKENS_EACH) for _ in range(_NUM_SAMPLES)]
    return [backend.decode(each, skip_special_tokens=True) for each in drawn]


def as_transformers_4(texts: Mapping[str, str]) -> Tokenizer:
    """The tokenizer as AutoTokenizer of transformers 4.57 sets it up.

    It takes ``tokenizer.json``, adds the special tokens that this lacks, and overwrites settings of
    normalizer and pre-tokenizer with those of the config, or with its class's defaults. (Source:
    ``PreTrainedTokenizerFast.__init__`` and ``BertTokenizerFast.__init__`` of 4.57.6.)

    Raises:
        UserError: if a setting cannot be what the config says.
    """
    tokenizer = Tokenizer.from_str(texts["tokenizer.json"])
    config = parse_json(texts.get(CONFIG, "{}"))
    state: dict[str, Any] = parse_json(texts["tokenizer.json"])
    try:
        _add_missing_tokens(tokenizer, config)
        prefix = config.get("add_prefix_space", False)
        pre_tokenizer = state.get("pre_tokenizer") or {}
        if pre_tokenizer.get("add_prefix_space", prefix) != prefix:
            tokenizer.pre_tokenizer = _made(
                pre_tokenizers, {**pre_tokenizer, "add_prefix_space": prefix}
            )
        normalizer = state.get("normalizer") or {}
        name = str(config.get("tokenizer_class")).removesuffix("Fast").removesuffix("Tokenizer")
        if name in _BERT_LIKE:
            wanted = {key: config.get(word, default) for key, (word, default) in _SWITCHES.items()}
            if any(normalizer.get(key, value) != value for key, value in wanted.items()):
                tokenizer.normalizer = _made(normalizers, {**normalizer, **wanted})
    # Those classes take what words they know, and raise TypeError for others.
    except (TypeError, AttributeError, ValueError) as error:
        problem = first_line(error)
        raise UserError(f"transformers {OLDER} cannot read the tokenizer ({problem})") from None
    return tokenizer


def _made(module: Any, state: Mapping[str, Any]) -> Any:
    return getattr(module, state["type"])(**{k: v for k, v in state.items() if k != "type"})


def _add_missing_tokens(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    decoder = config.get("added_tokens_decoder") or {}
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokens = [_added(decoder[index]) for index in sorted(decoder, key=int)]
    named = [config.get(f"{role}_token") for role in ROLES]
    extra = config.get("additional_special_tokens") or []
    tokens += [_added(token) for token in (*named, *extra) if token]
    tokenizer.add_tokens([token for token in tokens if token.content not in known])


def _added(token: Any) -> AddedToken:
    if not isinstance(token, dict):
        return AddedToken(str(token), special=True)
    fields = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(**{key: token[key] for key in fields if key in token})


def _suspects(texts: Mapping[str, str]) -> str:
    """What of the config may be the reason."""
    config = parse_json(texts.get(CONFIG, "{}"))
    words = ("tokenizer_class", "add_prefix_space", *(word for word, _ in _SWITCHES.values()))
    said = [f"{word} {json.dumps(config[word])}" for word in words if word in config]
    if not parse_json(texts["tokenizer.json"]).get("post_processor"):
        said.append("no template in tokenizer.json")
    return f"{CONFIG} says {', '.join(said)}" if said else f"{CONFIG} says nothing of it"


def _text(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "...")


def _ids(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN_IDS]))
    return f"[{shown}{', ...' if len(ids) > _SHOWN_IDS else ''}]"
