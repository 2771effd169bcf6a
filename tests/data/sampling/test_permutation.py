from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from benchmarks.permutation import bias, packed_order
from flexbert.data.sampling import permutation as module
from flexbert.data.sampling.permutation import number_dtype, permutation, shuffled
from flexbert.data.sampling.random_keys import derive_key
from flexbert.errors import UserError

NUM_ITEMS = 5_000
GOLDEN_KEY = 0xFF3AC877DA0EADFBAD7B3D3D41C06887
GOLDEN_SMALL = [12, 27, 8, 7, 16]
GOLDEN_LARGE = [2101, 72, 2931, 276, 1117]


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small permutations take the way of large ones: through bins and a file."""
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    monkeypatch.setattr(module, "BIN_ITEMS", 700)
    monkeypatch.setattr(module, "_AT_ONCE", 999)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("num_items", [10, 699, 1398, NUM_ITEMS])
def test_a_permutation_on_disk_has_every_number_once(tmp_path: Path, num_items: int) -> None:
    mapped = permutation(num_items, 7, tmp_path)
    assert mapped.dtype == np.uint32
    np.testing.assert_array_equal(np.sort(mapped), np.arange(num_items))
    np.testing.assert_array_equal(permutation(num_items, 7, tmp_path), mapped)
    assert not np.array_equal(permutation(num_items, 8, tmp_path), mapped)


def test_every_order_is_equally_likely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 24 orders of four items, 2400 times, by a chi-squared test at one in a million."""
    monkeypatch.setattr(module, "BIN_ITEMS", 2)
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    file = tmp_path / "order"
    found: Counter[tuple[int, ...]] = Counter()
    for key in range(2400):
        with file.open("w+b") as out:
            module.write_permutation(out, 4, key)
        found[tuple(np.fromfile(file, np.uint32).tolist())] += 1
    assert set(found) == set(permutations(range(4)))
    chi_squared = sum((count - 100) ** 2 / 100 for count in found.values())
    assert chi_squared < 70.6  # 23 degrees of freedom


@pytest.mark.usefixtures("on_disk")
def test_orders_do_not_change_from_one_release_to_the_next(tmp_path: Path) -> None:
    """NumPy may change Generator's streams; runs would then resume in another order."""
    assert derive_key("a", 1) == GOLDEN_KEY
    assert shuffled(30, 5)[:5].tolist() == GOLDEN_SMALL
    assert permutation(NUM_ITEMS, 7, tmp_path)[:5].tolist() == GOLDEN_LARGE


def test_numbers_take_four_bytes_as_long_as_they_can() -> None:
    assert number_dtype(1 << 32) == np.uint32
    assert number_dtype((1 << 32) + 1) == np.uint64


def _build_counting(cache: Path, marks: Path) -> None:
    write = module.write_permutation

    def counted(out: BinaryIO, num_items: int, key: int) -> None:
        (marks / str(os.getpid())).touch()
        time.sleep(0.2)
        write(out, num_items, key)

    module.write_permutation = counted
    assert len(set(permutation(NUM_ITEMS, 7, cache).tolist())) == NUM_ITEMS


@pytest.mark.usefixtures("on_disk")
def test_of_racing_processes_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=_build_counting, args=(tmp_path, marks)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(240)
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert len(list(marks.iterdir())) == 1


def _build_and_hang(cache: Path) -> None:
    def hang(out: BinaryIO, num_items: int, key: int) -> None:
        out.write(b"half")
        out.flush()
        time.sleep(60)

    module.write_permutation = hang
    permutation(NUM_ITEMS, 7, cache)


@pytest.mark.usefixtures("on_disk")
def test_a_killed_builder_blocks_nobody(tmp_path: Path) -> None:
    builder = multiprocessing.get_context("fork").Process(target=_build_and_hang, args=(tmp_path,))
    builder.start()
    while not any(file.stat().st_size for file in tmp_path.glob(".*.tmp")):
        time.sleep(0.01)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert len(set(permutation(NUM_ITEMS, 7, tmp_path).tolist())) == NUM_ITEMS
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.usefixtures("on_disk")
def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"set data\.cache to a folder"):
        permutation(NUM_ITEMS, 7, tmp_path / "file" / "cache")


def test_means_of_blocks_vary_as_chance_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch 2.4's randperm fails at 6e8 items; within five standard deviations here."""
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    monkeypatch.setattr(module, "BIN_ITEMS", 5_000)
    monkeypatch.setattr(module, "_AT_ONCE", 7_000)
    in_bins = permutation(300_000, 1, tmp_path)
    for order in (shuffled(300_000, 1), in_bins, packed_order(300_000, 1, by_length=False)):
        ratio, correlation = bias(order)
        assert ratio == pytest.approx(1, abs=5 * 0.045)
        assert correlation == pytest.approx(0, abs=5 * 0.032)
    drifting = np.sort(in_bins.reshape(-1, 3000), axis=0).ravel()
    assert bias(drifting)[0] > 2


@pytest.mark.usefixtures("on_disk")
def test_a_full_disk_is_told_and_not_kept_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", no_room)
    with pytest.raises(UserError, match=r"No space left on device.*data\.cache"):
        permutation(NUM_ITEMS, 7, tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.usefixtures("on_disk")
def test_a_damaged_order_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = permutation(NUM_ITEMS, 7, tmp_path).copy()
    (file,) = tmp_path.glob("*.order")
    whole = file.read_bytes()
    one_bit = bytearray(whole)
    one_bit[1234] ^= 4
    for damaged in (whole[:-4], bytes(len(whole)), bytes(one_bit), b"", whole + b"\0\0\0\0"):
        file.write_bytes(damaged)
        capsys.readouterr()
        np.testing.assert_array_equal(permutation(NUM_ITEMS, 7, tmp_path), order)
        assert f"warning: {file}: damaged; it is made again" in capsys.readouterr().err
        assert file.read_bytes() == whole
    capsys.readouterr()
    permutation(NUM_ITEMS, 7, tmp_path)
    assert not capsys.readouterr().err
