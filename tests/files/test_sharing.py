"""What a node's processes share: folders that nobody else fills, locks, arrays with their hash."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from flexbert.errors import UserError
from flexbert.files.file_lock import file_lock
from flexbert.files.node_arrays import node_array
from flexbert.files.private_folder import default_cache, make_private

NUMBERS = np.arange(1000, dtype=np.uint32)


def write(out: BinaryIO) -> None:
    out.write(NUMBERS.data)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_default_cache_is_private(temporary: Path) -> None:
    file = default_cache() / "a.order"
    assert file.parent.parent == temporary
    np.testing.assert_array_equal(node_array(file, NUMBERS.dtype, write), NUMBERS)
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["link", "file", "open to others", "another user's"])
def test_a_default_cache_that_others_may_have_filled_is_refused(
    temporary: Path, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = default_cache()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    if planted == "link":
        cache.symlink_to(elsewhere)
    elif planted == "file":
        cache.touch()
    else:
        cache.mkdir(mode=0o700)
    if planted == "open to others":
        cache.chmod(0o777)
    if planted == "another user's":
        own = os.getuid()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        cache.rename(temporary / f"flexbert-{own + 1}")
        monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(UserError, match=r"set data\.cache"):
        node_array(default_cache() / "a.order", NUMBERS.dtype, write)
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(UserError, match=r"set data\.cache"):
        make_private(default_cache())


def test_every_damage_to_an_array_is_found_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.order"
    node_array(file, NUMBERS.dtype, write)
    whole = file.read_bytes()
    flips = [
        whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]
        for place in (0, 1777, len(whole) - 17, len(whole) - 16, len(whole) - 1)
    ]
    others = [b"", whole[:-1], whole[:-16], whole[4:], whole + bytes(4), bytes(len(whole)), None]
    for damaged in (*flips, *others):
        file.unlink()
        if damaged is None:
            file.mkdir()
        else:
            file.write_bytes(damaged)
        np.testing.assert_array_equal(node_array(file, NUMBERS.dtype, write), NUMBERS)
        assert "damaged; it is made again" in capsys.readouterr().err
        assert file.read_bytes() == whole
    node_array(file, NUMBERS.dtype, pytest.fail)  # what is sound is not made again
    assert not capsys.readouterr().err


def test_an_empty_array_is_one(tmp_path: Path) -> None:
    for write in (lambda out: None, pytest.fail):
        assert len(node_array(tmp_path / "a.long", np.dtype(np.int64), write)) == 0


@pytest.fixture
def without_locks(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system that knows no locks, except where temporary files are."""
    flock = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if str(default_cache()) not in path:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refuse)
    return temporary


def hold(path: Path, held: Any, release: Any) -> None:
    with file_lock(path):
        held.set()
        release.wait(30)


@pytest.mark.parametrize("locks", ["with", "without"])
def test_a_lock_excludes_with_and_without_the_file_systems_help(
    tmp_path: Path, locks: str, request: pytest.FixtureRequest
) -> None:
    if locks == "without":
        request.getfixturevalue("without_locks")
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, held, release))
    process.start()
    assert held.wait(30)
    with file_lock(path, wait=False) as is_held:
        assert not is_held
    # A reader of another file is not kept waiting.
    with file_lock(tmp_path / "other", wait=False) as is_held:
        assert is_held
    release.set()
    with file_lock(path) as is_held:
        assert is_held
    process.join()
    # A lock dies with its holder.
    dying = context.Process(target=hold, args=(path, held, context.Event()))
    held.clear()
    dying.start()
    assert held.wait(30)
    dying.kill()
    dying.join()
    begun = time.monotonic()
    with file_lock(path, wait=False) as is_held:
        assert is_held
    assert time.monotonic() - begun < 20


@pytest.mark.usefixtures("without_locks")
def test_arrays_are_made_where_the_file_system_knows_no_locks(tmp_path: Path) -> None:
    found = node_array(tmp_path / "cache" / "a.order", NUMBERS.dtype, write)
    np.testing.assert_array_equal(found, NUMBERS)


def test_no_lock_is_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), file_lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "victim").exists()
