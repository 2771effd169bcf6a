"""What a corpus takes from a tokenizer: ids with a role, tokens of text, reasons to refuse."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_prep import encoding
from data_prep.encoding import CorpusTokenizer, Encoded, Rejected
from data_prep.readers import Document, Reject
from data_prep.tokenizer_adapting import adapt_tokenizer
from data_prep.tokenizer_training import save_tokenizer
from flexbert.errors import UserError

NAMES = ("[MASK]", "[CLS]", "[unused0]", " ", "a")
ROLES = ("cls", "sep", "pad", "mask", "unk")


@pytest.fixture(scope="module")
def loaded(tokenizer: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tokenizer)


def save(backend: Tokenizer, folder: Path, **special: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapted_bytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer as GPT-2's, which knows but one special token, adapted."""
    folder = tmp_path_factory.mktemp("bytes")
    end = "<|endoftext|>"
    vocabulary = {t: i for i, t in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), end])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    original = save(backend, folder / "original", eos_token=end, bos_token=end, pad_token=end)
    save_tokenizer(adapt_tokenizer(str(original), unused=5), folder / "adapted")
    return folder / "adapted"


def test_one_sequence_takes_berts_template(loaded: PreTrainedTokenizerFast) -> None:
    words = loaded("import sys", add_special_tokens=False).input_ids
    assert loaded("import sys").input_ids == [loaded.cls_token_id, *words, loaded.sep_token_id]


def test_special_ids_are_told_apart_and_reserved_with_the_unused(
    tokenizer: Path, loaded: PreTrainedTokenizerFast
) -> None:
    own = CorpusTokenizer(tokenizer)
    ids = vars(own.special_ids)
    assert ids == {role: getattr(loaded, f"{role}_token_id") for role in ROLES}
    assert len(set(ids.values())) == len(ROLES)
    unused = {id_ for token, id_ in loaded.get_vocab().items() if token.startswith("[unused")}
    assert set(own.reserved_ids) == unused | set(ids.values())


@settings(max_examples=100, deadline=None)
@given(
    text=st.text() | st.lists(st.sampled_from(["[MASK]", "[CLS]", " ", "[unused0]"])).map("".join)
)
def test_an_adapted_byte_level_tokenizer_loses_nothing_and_places_no_special_id(
    adapted_bytes: Path, text: str
) -> None:
    own = CorpusTokenizer(adapted_bytes)
    ids = own.backend.encode(text, add_special_tokens=False).ids
    assert own.backend.decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & set(own.reserved_ids)


def test_a_mask_typed_into_an_adapted_tokenizer_is_the_mask(adapted_bytes: Path) -> None:
    adapted = AutoTokenizer.from_pretrained(adapted_bytes)
    assert adapted("a [MASK] b").input_ids.count(adapted.mask_token_id) == 1


def test_a_role_whose_token_another_role_has_gets_its_own(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, unk_token="<s>"))
    original = save(backend, tmp_path / "t", cls_token="<s>", sep_token="<s>", pad_token="<s>")
    adapted = adapt_tokenizer(str(original), unused=3)
    assert adapted.cls_token == "<s>"
    assert (adapted.sep_token, adapted.pad_token) == ("[SEP]", "[PAD]")


def test_gaps_of_a_vocabulary_become_unused_tokens(tmp_path: Path) -> None:
    words = {"a": 0, "b": 3, "[UNK]": 5}
    original = save(Tokenizer(models.WordLevel(words, unk_token="[UNK]")), tmp_path / "gaps")
    adapted = adapt_tokenizer(str(original))
    vocabulary = adapted.get_vocab()
    assert {token: vocabulary[token] for token in words} == words
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    save_tokenizer(adapted, tmp_path / "adapted")
    own = CorpusTokenizer(tmp_path / "adapted")
    assert {1, 2, 4} <= set(own.reserved_ids)


def test_ids_that_no_token_has_are_reserved(tmp_path: Path) -> None:
    words = {"[CLS]": 0, "[SEP]": 1, "[PAD]": 2, "[MASK]": 3, "[UNK]": 4, "a": 6, "b": 9}
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ROLES}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    own = CorpusTokenizer(save(backend, tmp_path / "gaps", **roles))
    assert {5, 7, 8} <= set(own.reserved_ids)
    assert own.vocab_size == 10


@pytest.mark.parametrize(("role", "other"), [("cls", "sep"), ("pad", "mask"), ("pad", "unk")])
def test_a_token_in_two_roles_is_refused(tmp_path: Path, role: str, other: str) -> None:
    roles = {f"{name}_token": f"[{name.upper()}]" for name in ROLES}
    roles[f"{role}_token"] = roles[f"{other}_token"]
    words = {f"[{name.upper()}]": id_ for id_, name in enumerate(ROLES)} | {"a": 5}
    folder = save(Tokenizer(models.WordLevel(words, unk_token="[UNK]")), tmp_path / "t", **roles)
    with pytest.raises(UserError, match=f"is the {role} and the {other} token.*--adapt"):
        CorpusTokenizer(folder)
    adapted = adapt_tokenizer(str(folder))
    save_tokenizer(adapted, tmp_path / "adapted")
    CorpusTokenizer(tmp_path / "adapted")


def test_text_without_tokens_is_a_counted_row(tokenizer: Path) -> None:
    own = CorpusTokenizer(tokenizer)
    own.backend.normalizer = normalizers.BertNormalizer()  # drops control characters
    rows = [Document("ab"), Document("\x01", "bad"), Reject.NULL, Document("abc", "good")]
    *rejects, encoded = own.encode(enumerate(rows))
    assert rejects == [Rejected(2, Reject.NULL), Rejected(1, Reject.NO_TOKENS)]
    assert isinstance(encoded, Encoded)
    assert len(encoded.lengths) == len(encoded.hashes) == 2
    assert encoded.lengths.sum() == len(encoded.tokens)
    assert encoded.labels == [None, "good"]
    assert encoded.characters.tolist() == [len("ab"), len("abc")]
    assert encoded.inputs.tolist() == [0, 3]


def test_documents_have_the_same_tokens_in_a_batch_as_alone(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 50)
    own = CorpusTokenizer(tokenizer)
    texts = [f"def f{n}(x): return {n}" * (n % 3 + 1) for n in range(20)]
    alone = [own.backend.encode(text, add_special_tokens=False).ids for text in texts]
    batches = [
        batch for batch in own.encode(enumerate(map(Document, texts))) if isinstance(batch, Encoded)
    ]
    assert 1 < len(batches) < len(texts)
    assert [id_ for batch in batches for id_ in batch.tokens.tolist()] == list(chain(*alone))
    assert [n for batch in batches for n in batch.lengths.tolist()] == list(map(len, alone))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "no tokenizer_config.json"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no cls or sep or pad or mask token"),
        ('{"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "nope"}', "no pad or mask"),
    ],
)
def test_a_tokenizer_without_its_roles_says_what_is_missing(
    tokenizer: Path, tmp_path: Path, config: str | None, words: str
) -> None:
    shutil.copy(tokenizer / "tokenizer.json", tmp_path)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(UserError, match=words):
        CorpusTokenizer(tmp_path)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="not a tokenizer that can be loaded"):
        CorpusTokenizer(tmp_path)
