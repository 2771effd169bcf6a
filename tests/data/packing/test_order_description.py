"""The fingerprint of an order holds what the rows depend on: shown by making rows.

Whether a key of ``data`` changes rows is seen on rows, and is then what the key says of itself.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexbert.config.data import DataConfig
from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.fields import ORDER, Role
from flexbert.config.tree import expand_dotted, flatten, merge
from flexbert.data.packing import order_description
from flexbert.data.packing.order_description import (
    OrderDescription,
    describe_order,
    require_same_order,
    with_new_defaults,
)
from flexbert.data.packing.row_stream import StreamKey, training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import UserError
from tests.config.declarations import declarations
from tests.data.corpora import loader_of_splits, numbered_documents, write_corpus

LABELS = ("low", "high", "high")
LENGTHS = np.random.default_rng(0).integers(1, 400, 500).tolist()


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled corpora of 300 and 200 documents, ``web`` and ``books``, and a copy of one."""
    folder = tmp_path_factory.mktemp("corpora")
    documents = numbered_documents(LENGTHS)
    for name, some in (("web", documents[:300]), ("books", documents[300:])):
        labels = [LABELS[index % 3] for index in range(len(some))]
        write_corpus(folder / name, some, documents[:5], labels=labels, words=True)
    shutil.copytree(folder / "web", folder / "copy")
    return folder


ONE = {
    "path": "{web}",
    "sampler": {"name": "pcg64dxsm"},
    "mask_rate": 0.3,
    "max_length": 128,
    "row_length": 256,
    "packing_window": 100,
    "num_workers": 0,
    "cache": "{cache}",
}
TWO = {"path": None, "sources": {"web": {"path": "{web}"}, "books": {"path": "{books}"}}}
BLOCKS = {"sampler": {"name": "shard_blocks", "block_shards": 2}}
FETCHED = {"path": "{fetched}", "remote": "{web}", **BLOCKS}
SPANS = {"masking": {"name": "span"}}
WEIGHTED = {"sources.web.weight": 1, "sources.books.weight": 1}

# For every key of data: what is laid over ONE, and what is laid over that to change the key.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "path": ({}, {"path": "{copy}"}),
    "remote": ({"path": "{fetched}", "remote": "{web}"}, {"remote": "{copy}"}),
    "sources": (TWO, {"sources": {"books": None}}),
    "sources.*.path": (TWO, {"sources.web.path": "{copy}"}),
    "sources.*.remote": (TWO, {"sources.web": {"path": "{fetched}", "remote": "{web}"}}),
    "sources.*.weight": (TWO | WEIGHTED, {"sources.web.weight": 3}),
    "sources.*.upsample": (TWO, {"sources.web.upsample.lengths": {"100": 2}}),
    "sources.*.upsample.lengths": (
        TWO | {"sources.web.upsample.lengths": {"100": 2}},
        {"sources.web.upsample.lengths": {"100": 5}},
    ),
    "sources.*.upsample.labels": (
        TWO | {"sources.web.upsample.labels": {"low": 2}},
        {"sources.web.upsample.labels": {"low": 5}},
    ),
    "size_exponent": (TWO, {"size_exponent": 0.3}),
    "sampler": ({}, BLOCKS),
    "sampler.block_shards": (BLOCKS, {"sampler.block_shards": 3}),
    "max_length": ({}, {"max_length": 100}),
    "merge_below": ({}, {"merge_below": 50}),
    "row_length": ({}, {"row_length": 384}),
    "mask_rate": ({}, {"mask_rate": 0.4}),
    "masking": ({}, {"masking": {"name": "whole_word"}}),
    "masking.p": (SPANS, {"masking.p": 0.5}),
    "masking.max_length": (SPANS, {"masking.max_length": 3}),
    "masking.unit": (SPANS, {"masking.unit": "token"}),
    "mask_split": ({}, {"mask_split": {"mask": 1, "random": 0, "keep": 0}}),
    "mask_split.mask": ({}, {"mask_split": {"mask": 0.5, "random": 0.4}}),
    "mask_split.random": ({}, {"mask_split": {"random": 0.5, "mask": 0.4}}),
    "mask_split.keep": ({}, {"mask_split": {"keep": 0.5, "mask": 0.4}}),
    "packing_window": ({}, {"packing_window": 50}),
    "num_workers": ({}, {"num_workers": 1}),
    "tokenizer": ({}, {"tokenizer": "{web}/tokenizer"}),
    "verify_hashes": ({}, {"verify_hashes": True}),
    "cache": ({}, {"cache": "{other_cache}"}),
    "cache_limit": (FETCHED, {"cache_limit": "1gb"}),
    "accept_changed_order": ({}, {"accept_changed_order": True}),
}


class Made:
    """The first rows of a stage, and the fingerprint of their order."""

    def __init__(self, config: DataConfig, key: StreamKey) -> None:
        self.config = config
        corpora = Corpora.open(config)
        splits = corpora.splits("train")
        loader = loader_of_splits(
            splits, config, key.seed, key.stage, rows_per_update=lambda update: 3, microbatch_rows=3
        )
        self.rows = [
            np.array(microbatch[name]).tobytes()
            for batch in itertools.islice(loader, 4)
            for microbatch in batch["microbatches"]
            for name in ("input_ids", "cu_seqlens", "masked_positions", "labels")
        ]
        stream = training_stream(splits, config, key)
        self.order: OrderDescription = describe_order(stream, splits, config, key)


@pytest.fixture
def made(corpora: Path, tmp_path: Path) -> Any:
    """Makes rows of ``ONE`` with trees laid over it."""
    places = {name: str(corpora / name) for name in ("web", "books", "copy")}
    places |= {name: str(tmp_path / name) for name in ("cache", "other_cache", "fetched")}

    def filled(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {name: filled(value) for name, value in node.items()}
        return node.format(**places) if isinstance(node, str) else node

    def make(*trees: Mapping[str, Any], seed: int = 1, stage: str = "pretrain") -> Made:
        tree: dict[str, Any] = {}
        for over in (ONE, *trees):
            tree = merge(tree, expand_dotted(filled(over)))
        return Made(decode(DataConfig, tree), StreamKey(seed, stage))

    return make


def role(name: str) -> Role:
    """That of a key, or of the key whose name or entry it is."""
    return ROLES.get(name) or ROLES[name.rpartition(".")[0]]


ROLES = {declared.path: declared.key.role for declared in declarations(DataConfig)}


def test_every_key_of_the_data_is_tried() -> None:
    assert set(CHANGES) == set(ROLES)


@pytest.mark.parametrize("key", ROLES)
def test_a_key_that_changes_rows_is_in_the_fingerprint_and_no_other_is(key: str, made: Any) -> None:
    base, change = CHANGES[key]
    before, after = made(base), made(base, change)
    changes_rows = before.rows != after.rows
    assert (ROLES[key] is ORDER) == changes_rows
    assert (before.order != after.order) == changes_rows
    if changes_rows:
        name = "books" if key == "sources" else f"data.{key}".replace("*", "web")
        with pytest.raises(UserError, match=rf"{name}\S* \(.* -> .*\)"):
            require_same_order(before.order, after.order)
    else:
        require_same_order(before.order, after.order)


def test_the_fingerprint_holds_the_corpora(made: Any, corpora: Path) -> None:
    config = decode(DataConfig, {**ONE, "path": str(corpora / "web")})
    web = Corpora.open(config).splits("train")["corpus"]
    order = made(TWO, {"sources.web.upsample.labels": {"low": 2}}).order
    shares = {name: value for name, value in order.items() if name.endswith(".share")}
    assert {name: value for name, value in order.items() if name.startswith("web")} == {
        "web.tokenizer": web.meta.tokenizer_sha256,
        "web.documents": 300,
        "web.tokens": sum(LENGTHS[:300]),
        "web.shards": web.fingerprint,
        "web.labels": web.labels_hash,
    } | {name: share for name, share in shares.items() if name.startswith("web")}
    assert shares.keys() == {"web/low.share", "web/high.share", "books.share"}
    assert sum(shares.values()) == pytest.approx(1)
    assert {name for name in order if not name.startswith(("data.", "web"))} == {
        *("format", "seed", "stage"),
        *(f"books.{what}" for what in ("tokenizer", "documents", "tokens", "shards", "share")),
    }


@pytest.mark.parametrize("key", CHANGES)
def test_the_fingerprint_holds_the_value_of_every_key_that_changes_rows(
    key: str, made: Any
) -> None:
    base, change = CHANGES[key]
    rows = made(base, change)
    written = flatten({"data": encode(rows.config)})
    names = {path: re.sub(r"(sources|lengths|labels)\.[^.]+", r"\1.*", path) for path in written}
    assert {path: value for path, value in rows.order.items() if path.startswith("data.")} == {
        path: value
        for path, value in written.items()
        if value is not None and role(names[path].removeprefix("data.")) is ORDER
    }


def test_other_code_is_another_order(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made().order
    monkeypatch.setattr(order_description, "ORDER_FORMAT", order_description.ORDER_FORMAT + 1)
    with pytest.raises(UserError, match="so far: format \\("):
        require_same_order(before, made().order)


@pytest.mark.parametrize(("name", "value"), [("seed", 2), ("stage", "decay")])
def test_seed_and_stage_decide_the_rows(name: str, value: Any, made: Any) -> None:
    before, after = made(), made(**{name: value})
    assert before.rows != after.rows
    with pytest.raises(UserError, match=f"so far: {name} \\("):
        require_same_order(before.order, after.order)


def test_a_description_of_before_a_key_was_there_has_its_default(made: Any) -> None:
    now, other = made(), made({"masking": {"name": "whole_word"}})
    before = {path: value for path, value in now.order.items() if path != "data.masking.name"}
    assert len(before) == len(now.order) - 1
    assert with_new_defaults(before, now.config) == now.order
    with pytest.raises(UserError, match=r"data\.masking\.name \(token -> whole_word\)"):
        require_same_order(with_new_defaults(before, other.config), other.order)
    # What has no default is missed.
    del before["data.max_length"]
    with pytest.raises(UserError, match=r"data\.max_length"):
        require_same_order(with_new_defaults(before, now.config), now.order)
