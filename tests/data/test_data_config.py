from __future__ import annotations

from typing import Any

import pytest

from flexbert.config.data import DataConfig, MaskSplit
from flexbert.data.order import GlobalOrderConfig
from flexbert.errors import ConfigError

VALUES: dict[str, Any] = {
    "path": None,
    "order": GlobalOrderConfig(),
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
        ("window", 0),
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
