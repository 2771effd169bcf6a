from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexbert.config.data import DataConfig, MaskSplit, SourceConfig, UpsampleConfig
from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.num_bytes import NumBytes
from flexbert.config.remote_address import RemoteAddress
from flexbert.data.sampling.samplers import PermutationConfig, ShardBlocksConfig
from flexbert.errors import ConfigError
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY

REMOTE = RemoteAddress("s3://b/c")
VALUES: dict[str, Any] = {
    "mask_rate": 0.3,
    "path": None,
    "sampler": PermutationConfig(),
    "max_length": 128,
    "row_length": 128,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_length", 2),
        ("row_length", 127),
        ("merge_below", 127),
        ("merge_below", -1),
        ("mask_rate", 0.0),
        ("mask_rate", 1.1),
        ("packing_window", 0),
        ("num_workers", -1),
    ],
)
def test_a_wrong_value_is_refused_by_name(key: str, value: Any) -> None:
    values: dict[str, Any] = {**VALUES, key: value}
    with pytest.raises(ConfigError) as caught:
        DataConfig(**values)
    assert caught.value.path == key


def test_a_mask_split_sums_to_one() -> None:
    MaskSplit(mask=1.0, random=0.0, keep=0.0)
    with pytest.raises(ConfigError, match=r"must sum to 1, got 1\.1"):
        MaskSplit(mask=0.9)
    with pytest.raises(ConfigError, match=r"random: must be between 0 and 1, got -0\.2"):
        MaskSplit(mask=1.0, random=-0.2, keep=0.2)


def test_a_mixture_takes_the_place_of_the_corpus_that_a_recipe_asks_for() -> None:
    overrides = ["data.sources={a: {path: x, weight: 2}, b: {path: y, weight: 1}}"]
    loaded = load_recipe(REPOSITORY / "yamls" / "base.yaml", overrides)
    assert loaded.first.data.path is None
    assert list(loaded.first.data.all_sources) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"data\.path: is still to be given"):
        load_recipe(REPOSITORY / "yamls" / "base.yaml", [])


def test_what_is_written_out_is_read_back() -> None:
    upsample = UpsampleConfig(lengths={"4096": 5.0}, labels={"low": 0.0})
    config = DataConfig(
        **{**VALUES, "sampler": ShardBlocksConfig(block_shards=3)},
        sources={"a": SourceConfig(path=Path("x"), remote=REMOTE, upsample=upsample)},
        cache_limit=NumBytes(3 << 30),
        mask_split=MaskSplit(mask=1.0, random=0.0, keep=0.0),
    )
    plain = encode(config)
    assert plain["cache_limit"] == "3gb"
    assert decode(DataConfig, plain) == config


@pytest.mark.parametrize("text", ["0gb", "3", 3, "3 gigabytes", "-1gb", None])
def test_an_amount_has_a_number_and_a_unit(text: Any) -> None:
    with pytest.raises(ValueError, match="expected an amount such as 500mb or 200gb"):
        NumBytes.parse(text)


@given(st.integers(1, 10**9), st.sampled_from(["kb", "mb", "gb", "tb"]))
def test_amounts_are_written_as_they_are_read(number: int, unit: str) -> None:
    amount = NumBytes.parse(f"{number}{unit}")
    assert NumBytes.parse(amount.plain()) == amount


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"lengths": {"4096": -1.0}}, "lengths.4096"),
        ({"lengths": {"long": 2.0}}, "lengths.long"),
        ({"lengths": {"0": 2.0}}, "lengths.0"),
        ({}, ""),
    ],
)
def test_an_upsampling_without_meaning_is_refused(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        UpsampleConfig(**settings)
    assert caught.value.path == path
