from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flexbert.config.data import DataConfig, SourceConfig, UpsampleConfig
from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.packing.position import PackingWindowStart, StreamKey
from flexbert.data.packing.row_stream import (
    RowStream,
    evaluation_stream,
    training_stream,
)
from flexbert.data.reading.corpora import Corpora
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.data.sampling import chunks as chunks_module
from flexbert.data.sampling import subset as subset_module
from flexbert.errors import ConfigError
from tests.data.corpora import numbered_documents, write_corpus

KEY = StreamKey(1, "pretrain")
LENGTHS = {"short": (5, 40, 900), "long": (50, 300, 200), "rare": (1, 100, 7)}
LABELS = ("high", "low", "middle")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three corpora of documents of different lengths; ``long`` has labels."""
    made = {}
    for seed, (name, (shortest, longest, count)) in enumerate(LENGTHS.items()):
        lengths = np.random.default_rng(seed).integers(shortest, longest, count).tolist()
        documents = numbered_documents(lengths)
        labels = [LABELS[i % 3] for i in range(count)] if name == "long" else ()
        folder = tmp_path_factory.mktemp("mixture") / name
        made[name] = write_corpus(folder, documents, documents[:5], labels=labels)
    return made


def mixed(
    config: DataConfig, folders: dict[str, Path], **sources: SourceConfig
) -> tuple[DataConfig, dict[str, Split], RowStream]:
    named = {name: replace(source, path=folders[name]) for name, source in sources.items()}
    config = replace(config, path=None, sources=named)
    splits = Corpora.open(config).splits("train")
    return config, splits, training_stream(splits, config, KEY)


def tokens_by_part(start: PackingWindowStart, stream: RowStream) -> dict[str, int]:
    return {
        bucket.name: tokens
        for bucket, tokens in zip(stream.mixture.buckets, start.tokens, strict=True)
    }


def test_sources_keep_their_shares_within_a_chunk_at_every_window(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    weights = {"short": 0.2, "long": 0.7, "rare": 0.1}
    sources = {name: SourceConfig(weight=weight) for name, weight in weights.items()}
    _, _, stream = mixed(small_config, folders, **sources)
    for window in itertools.islice(stream.packing_windows(), 40):
        drawn = tokens_by_part(window.next, stream)
        for name, weight in weights.items():
            assert abs(drawn[name] - weight * sum(drawn.values())) <= small_config.max_length
        assert len(window.drawn.buckets) == small_config.packing_window


def test_each_source_goes_through_its_own_epochs(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    """Every chunk of a source comes once before any comes twice, however small its source."""
    sources = {name: SourceConfig(weight=1.0) for name in LENGTHS}
    _, _, stream = mixed(small_config, folders, **sources)
    drawn = [window.drawn for window in itertools.islice(stream.packing_windows(), 60)]
    buckets = np.concatenate([d.buckets for d in drawn])
    numbers = np.concatenate([d.numbers for d in drawn])
    for number, bucket in enumerate(stream.mixture.buckets):
        own = numbers[buckets == number]
        size = len(bucket.chunks)
        epochs = [own[begin : begin + size] for begin in range(0, len(own) - size + 1, size)]
        for epoch in epochs:
            assert sorted(epoch) == list(range(size))
        if bucket.name == "rare":
            assert len(epochs) > 10
            assert not np.array_equal(epochs[0], epochs[1])


def test_a_window_follows_from_where_it_begins_alone(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    sources = {name: SourceConfig(weight=1.0) for name in LENGTHS}
    config, splits, stream = mixed(small_config, folders, **sources)
    windows = list(itertools.islice(stream.packing_windows(), 6))
    again = training_stream(splits, config, KEY)
    start = PackingWindowStart.read(windows[4].next.plain())
    window = again.packing_window(start)
    np.testing.assert_array_equal(window.drawn.buckets, windows[5].drawn.buckets)
    np.testing.assert_array_equal(window.drawn.numbers, windows[5].drawn.numbers)
    assert window.next == windows[5].next
    assert window.start.row == sum(w.num_rows for w in windows[:5])


@pytest.mark.parametrize(("exponent", "even"), [(0.0, True), (1.0, False), (0.5, False)])
def test_without_weights_shares_follow_sizes_to_a_power(
    small_config: DataConfig, folders: dict[str, Path], exponent: float, even: bool
) -> None:
    sources = {name: SourceConfig(path=folders[name]) for name in LENGTHS}
    config = replace(small_config, path=None, sources=sources, size_exponent=exponent)
    splits = Corpora.open(config).splits("train")
    stream = training_stream(splits, config, KEY)
    sizes = np.array([bucket.chunks.num_tokens for bucket in stream.mixture.buckets], float)
    expected = sizes**exponent / (sizes**exponent).sum()
    np.testing.assert_allclose(stream.mixture.shares.sources, expected, rtol=1e-12)
    assert (len(set(expected.round(12))) == 1) == even


def test_upsampling_by_length_keeps_each_sources_share(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    upsample = UpsampleConfig(lengths={"100": 2.0, "200": 6.0})
    _, splits, stream = mixed(
        small_config,
        folders,
        short=SourceConfig(weight=1.0),
        long=SourceConfig(weight=3.0, upsample=upsample),
    )
    lengths = splits["long"].lengths
    bounds = {"long/0-99": (0, 100, 1), "long/100-199": (100, 200, 2), "long/200-": (200, 1e9, 6)}
    tokens = {}
    for bucket in stream.mixture.buckets[:-1]:  # sources come sorted by name
        low, high, factor = bounds[bucket.name]
        documents, _, _ = bucket.chunks.locate(np.arange(len(bucket.chunks)))
        inside = (lengths >= low) & (lengths < high)
        assert set(documents) == set(np.flatnonzero(inside))
        tokens[bucket.name] = factor * (lengths[inside].sum() + 2 * len(bucket.chunks))
    for window in itertools.islice(stream.packing_windows(), 30):
        drawn = tokens_by_part(window.next, stream)
        total = sum(drawn.values())
        longs = total - drawn["short"]
        assert abs(longs - 0.75 * total) <= small_config.max_length
        for name, weighted in tokens.items():
            target = longs * weighted / sum(tokens.values())
            assert abs(drawn[name] - target) <= small_config.max_length


def test_upsampling_by_label_leaves_out_what_weighs_nothing(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    upsample = UpsampleConfig(labels={"high": 3.0, "low": 0.0})
    _, splits, stream = mixed(small_config, folders, long=SourceConfig(upsample=upsample))
    assert len(stream.mixture.buckets) == 2
    labels = splits["long"].labels
    seen = {}
    for bucket in stream.mixture.buckets:
        documents, _, _ = bucket.chunks.locate(np.arange(len(bucket.chunks)))
        (label,) = {LABELS[number] for number in labels[documents]}
        seen[label] = bucket
    high, middle = seen["high"], seen["middle"]
    assert high.share / middle.share == pytest.approx(
        3 * high.chunks.num_tokens / middle.chunks.num_tokens
    )


@pytest.mark.parametrize(
    ("upsample", "problem"),
    [
        (UpsampleConfig(labels={"hihg": 2.0}), "did you mean 'high'"),
        (UpsampleConfig(lengths={"1": 0.0}), "leaves no document"),
    ],
)
def test_an_upsampling_that_does_not_fit_is_refused(
    small_config: DataConfig, folders: dict[str, Path], upsample: UpsampleConfig, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        mixed(small_config, folders, long=SourceConfig(upsample=upsample))
    assert caught.value.path.startswith("data.sources.long.upsample")


def test_one_corpus_cannot_be_two_sources(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    twice = {"a": folders["short"], "b": folders["short"]}
    with pytest.raises(ConfigError, match="is the same corpus as a's"):
        mixed(small_config, twice, a=SourceConfig(), b=SourceConfig())


def test_the_order_of_sources_in_a_recipe_means_nothing(
    small_config: DataConfig, folders: dict[str, Path]
) -> None:
    sources = {name: SourceConfig(weight=1.0) for name in LENGTHS}
    _, _, one = mixed(small_config, folders, **sources)
    _, _, other = mixed(small_config, folders, **dict(reversed(sources.items())))
    for mine, yours in zip(
        itertools.islice(one.rows(), 50), itertools.islice(other.rows(), 50), strict=True
    ):
        np.testing.assert_array_equal(mine.drawn.buckets, yours.drawn.buckets)
        np.testing.assert_array_equal(mine.drawn.numbers, yours.drawn.numbers)


def test_sources_share_one_tokenizer(
    small_config: DataConfig, folders: dict[str, Path], tmp_path: Path
) -> None:
    other = write_corpus(tmp_path / "o", numbered_documents([5], 200), vocab_size=200)
    with pytest.raises(CorpusError, match="with another tokenizer than"):
        mixed(small_config, {**folders, "other": other}, short=SourceConfig(), other=SourceConfig())


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"path": Path("c")}, "path"),
        ({"path": None, "remote": "s3://b"}, "remote"),
        ({"path": None, "size_exponent": 0.5}, "size_exponent"),
        ({"path": None, "sources": {"a": SourceConfig(weight=1.0), "b": SourceConfig()}}, None),
        ({"path": None, "sources": {}, "size_exponent": 0.3}, "size_exponent"),
        ({"path": None, "sources": {"a/b": SourceConfig()}}, "sources.a/b"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    small_config: DataConfig, settings: dict, path: str | None
) -> None:
    weighted = {"a": SourceConfig(weight=1.0), "b": SourceConfig(weight=2.0)}
    with pytest.raises(ConfigError) as caught:
        replace(small_config, **{"sources": weighted, **settings})
    assert caught.value.path == (path or "sources.b.weight")


def test_a_small_last_chunk_is_shared_with_the_one_before(small_config: DataConfig) -> None:
    """Through the whole stream: every token once, and no short chunks but short documents'."""
    config = replace(small_config, merge_below=40)
    split = Corpus.open(config.path).split("train")
    stream = evaluation_stream(split, config)
    windows = list(itertools.islice(stream.packing_windows(), stream.packing_windows_per_epoch))
    (bucket,) = stream.mixture.buckets
    numbers = np.concatenate([window.drawn.numbers for window in windows])
    documents, starts, counts = bucket.chunks.locate(numbers)
    assert counts.sum() == split.num_tokens
    assert counts.max() <= config.max_length - 2
    short = counts < 40
    assert (split.lengths[documents[short]] == counts[short]).all()
    order = np.lexsort((starts, documents))
    ends = (starts + counts)[order][:-1]
    follows = documents[order][1:] == documents[order][:-1]
    np.testing.assert_array_equal(starts[order][1:][follows], ends[follows])


def test_large_corpora_share_what_small_ones_hold_in_memory(
    small_config: DataConfig, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents of a subset and where long ones are cut come from files, made once."""
    upsample = UpsampleConfig(lengths={"60": 2.0, "200": 6.0}, labels={"high": 2.0})
    source = SourceConfig(upsample=upsample)
    _, _, in_memory = mixed(small_config, folders, long=source)
    expected = [window.drawn for window in itertools.islice(in_memory.packing_windows(), 8)]
    for module in (chunks_module, subset_module):
        monkeypatch.setattr(module, "IN_MEMORY", 5)
        monkeypatch.setattr(module, "_AT_ONCE", 7)
    made = []
    for _ in range(2):
        _, _, shared = mixed(small_config, folders, long=source)
        for window, drawn in zip(shared.packing_windows(), expected, strict=False):
            np.testing.assert_array_equal(window.drawn.buckets, drawn.buckets)
            np.testing.assert_array_equal(window.drawn.numbers, drawn.numbers)
            np.testing.assert_array_equal(window.drawn.lengths, drawn.lengths)
        files = [f for f in small_config.cache.iterdir() if f.suffix != ".lock"]
        assert {f.suffix for f in files} >= {".documents", ".tokens", ".long", ".ends"}
        made.append({(f.name, f.stat().st_ino, f.stat().st_mtime_ns) for f in files})
    assert made[0] == made[1]
