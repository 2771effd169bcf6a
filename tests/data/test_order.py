from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexbert.data import order
from flexbert.data.keys import derive_key, shuffled
from flexbert.data.order import ShuffledOrder, Windows, permutation
from flexbert.errors import UserError

NUM_ITEMS = 5_000
GOLDEN_PIECES = [49, 39, 79, 92, 60]
GOLDEN_KEY = 0xFF3AC877DA0EADFBAD7B3D3D41C06887


def shuffled_order(stage: str = "pretrain", seed: int = 1, source: str = "s") -> ShuffledOrder:
    return ShuffledOrder(Windows(100, 30), seed, stage, source, Path("unused"))


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small permutations take the way of large ones, through a file."""
    monkeypatch.setattr(order, "IN_MEMORY", 10)
    permutation.cache_clear()


@given(st.integers(1, 10_000), st.integers(1, 300), st.integers(0, 5))
def test_windows_of_an_epoch_join_without_gap_and_are_nearly_equal(
    num_pieces: int, size: int, epoch: int
) -> None:
    windows = Windows(num_pieces, size)
    first = epoch * windows.per_epoch
    bounds = [windows.bounds(first + i) for i in range(windows.per_epoch)]
    assert {b[0] for b in bounds} == {epoch}
    begins, ends = [b[1] for b in bounds], [b[2] for b in bounds]
    assert begins == [0, *ends[:-1]]
    assert ends[-1] == num_pieces
    sizes = np.subtract(ends, begins)
    assert sizes.max() <= size
    assert sizes.max() - sizes.min() <= 1


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    pieces = [shuffled_order().pieces(window) for window in range(8)]
    first, second = np.concatenate(pieces[:4]), np.concatenate(pieces[4:])
    assert sorted(first) == sorted(second) == list(range(100))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    "other", [shuffled_order("extend"), shuffled_order(seed=2), shuffled_order(source="t")]
)
def test_another_stage_seed_or_source_has_another_order(other: ShuffledOrder) -> None:
    assert not np.array_equal(shuffled_order().pieces(0), other.pieces(0))
    assert not np.array_equal(shuffled_order().rows(0, 50), other.rows(0, 50))


def test_the_order_does_not_change_from_one_release_to_the_next() -> None:
    """NumPy may change Generator's streams; runs would then resume in another order."""
    assert shuffled_order().pieces(0)[:5].tolist() == GOLDEN_PIECES
    assert derive_key("a", 1) == GOLDEN_KEY


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_order_is_the_same_in_every_process(hash_seed: str) -> None:
    code = (
        "from pathlib import Path; from flexbert.data.order import ShuffledOrder, Windows; "
        "o = ShuffledOrder(Windows(100, 30), 1, 'pretrain', 's', Path('unused')); "
        "print(o.pieces(5).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(shuffled_order().pieces(5).tolist())


@pytest.mark.usefixtures("on_disk")
def test_the_order_on_disk_is_the_order_in_memory(tmp_path: Path) -> None:
    mapped = permutation(NUM_ITEMS, 7, tmp_path)
    assert mapped.dtype == np.uint32
    np.testing.assert_array_equal(mapped, shuffled(NUM_ITEMS, 7))


def _build_counting(cache: Path, marks: Path) -> None:
    write = order._write

    def counted(file: Path, items: np.ndarray) -> None:
        (marks / str(os.getpid())).touch()
        time.sleep(0.2)
        write(file, items)

    order._write = counted
    np.testing.assert_array_equal(permutation(NUM_ITEMS, 7, cache), shuffled(NUM_ITEMS, 7))


@pytest.mark.usefixtures("on_disk")
def test_of_racing_processes_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=_build_counting, args=(tmp_path, marks)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert len(list(marks.iterdir())) == 1


def _build_and_hang(cache: Path) -> None:
    def hang(file: Path, items: np.ndarray) -> None:
        file.with_suffix(".partial").write_bytes(b"half")
        time.sleep(60)

    order._write = hang
    permutation(NUM_ITEMS, 7, cache)


@pytest.mark.usefixtures("on_disk")
def test_a_killed_builder_blocks_nobody(tmp_path: Path) -> None:
    builder = multiprocessing.get_context("fork").Process(target=_build_and_hang, args=(tmp_path,))
    builder.start()
    while not list(tmp_path.glob("*.partial")):
        time.sleep(0.01)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    np.testing.assert_array_equal(permutation(NUM_ITEMS, 7, tmp_path), shuffled(NUM_ITEMS, 7))
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.usefixtures("on_disk")
def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"set data\.cache to a folder"):
        permutation(NUM_ITEMS, 7, tmp_path / "file" / "cache")
