"""Batch warmup: each size the same number of updates, whatever the stage's unit."""

from __future__ import annotations

import itertools

import pytest

from flexbert.config.data import DataConfig, SamplerConfig
from flexbert.config.duration import Duration
from flexbert.config.training import BatchConfig, BatchWarmupConfig
from flexbert.errors import ConfigError
from flexbert.schedule.batch_sizes import BatchSizes

STAGE = Duration.parse("1_719_000_000_000tok")


def data_config(max_length: int = 1024, row_length: int = 8192) -> DataConfig:
    order: SamplerConfig = None  # type: ignore[assignment]
    return DataConfig(sampler=order, max_length=max_length, row_length=row_length, mask_rate=0.3)


def sizes_of(
    full: int, start: int, duration: str, increment: int | None = None, stage: Duration = STAGE
) -> BatchSizes:
    warmup = BatchWarmupConfig(start=start, duration=Duration.parse(duration), increment=increment)
    batch = BatchConfig(size=full, warmup=warmup)
    batch.check(data_config(), stage)
    return BatchSizes.of(batch, data_config(), stage)


@pytest.mark.parametrize(
    ("full", "start", "tokens", "sizes", "updates"),
    [
        # arXiv 2412.13663, table 3: 768 to 4608 over 50B tokens, 448 to 4928 over 10B.
        (4608, 768, 50_000_000_000, [768, 1536, 2304, 3072, 3840], 4239),
        (4928, 448, 10_000_000_000, list(range(448, 4481, 448)), 396),
    ],
)
def test_published_warmups_have_equal_updates_nearest_to_their_tokens(
    full: int, start: int, tokens: int, sizes: list[int], updates: int
) -> None:
    batches = sizes_of(full, start, f"{tokens}tok")
    every = [batches.size(update) for update in range(len(sizes) * updates + 10)]
    assert [(size, len(list(run))) for size, run in itertools.groupby(every)] == [
        *((size, updates) for size in sizes),
        (full, 10),
    ]
    away = [abs(n * sum(sizes) * 1024 - tokens) for n in (updates - 1, updates, updates + 1)]
    assert min(away) == away[1]


def test_sums_of_rows_and_their_inverse_are_those_of_every_update() -> None:
    batches = sizes_of(64, 16, "4000ba", increment=8, stage=Duration(10_000, "ba"))
    assert (batches.warmup, batches.updates_each) == ((16, 24, 32, 40, 48, 56), 667)
    total = 0
    for update in range(5000):
        assert batches.rows_before(update) == total
        assert batches.updates_for(total) == update
        total += batches.rows(update)
        assert batches.updates_for(total - 0.5) == update + 1


def test_the_last_increment_stops_below_the_full_size() -> None:
    assert sizes_of(64, 24, "10ba", increment=16, stage=Duration(99, "ba")).warmup == (24, 40, 56)


def test_a_warmup_may_be_a_fraction_of_the_stage() -> None:
    batches = sizes_of(24, 8, "0.5dur", stage=Duration(40, "ba"))
    assert [batches.size(update) for update in (0, 9, 10, 19, 20)] == [8, 8, 16, 16, 24]


def test_without_a_warmup_every_update_is_full() -> None:
    batches = BatchSizes.of(BatchConfig(size=16), data_config(), STAGE)
    assert {batches.size(update) for update in (0, 1, 10**9)} == {16}
    assert batches.rows_before(10) == 20
    assert batches.updates_for(20) == 10


@pytest.mark.parametrize(
    ("settings", "path", "words"),
    [
        ({"start": 768, "duration": "1000tok"}, "warmup.duration", "too short: one update of each"),
        ({"start": 4608, "duration": "9e9tok"}, "warmup.start", "below size 4608"),
        ({"start": 4, "duration": "9e9tok"}, "warmup.start", "nearest: 8"),
        ({"start": 8, "duration": "9e9tok", "increment": 3}, "warmup.increment", "nearest: 8"),
        ({"start": 768, "duration": "2e12tok"}, "warmup.duration", "longer than the stage's"),
    ],
)
def test_a_warmup_that_cannot_be_is_refused(
    settings: dict[str, object], path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        sizes_of(4608, **settings)  # type: ignore[arg-type]
    assert error.value.path == path
    assert words in str(error.value)
