"""Files of others: regular ones only, no longer than they may be, and never waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from flexbert.files.regular import (
    IrregularFileError,
    load_json,
    open_regular,
    parse_json,
    read_regular,
    refuse_irregular,
)


def test_a_regular_file_is_read_as_it_is(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"\x00abc")
    link.symlink_to(file)
    assert read_regular(file) == read_regular(link) == b"\x00abc"
    assert read_regular(file, at_most=4) == b"\x00abc"
    with open_regular(file) as opened:
        assert opened.read(2) == b"\x00a"
    refuse_irregular(tmp_path)


def test_a_longer_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(IrregularFileError, match="are the most that are read"):
        read_regular(file)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IrregularFileError, match="not a regular file"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(IrregularFileError, match="pipe"):
        refuse_irregular(tmp_path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused_behind_a_link_too(tmp_path: Path, device: str) -> None:
    (tmp_path / "link").symlink_to(device)
    for path in (Path(device), tmp_path / "link"):
        with pytest.raises(IrregularFileError, match="not a regular file"):
            open_regular(path)
    with pytest.raises(IrregularFileError, match="link"):
        refuse_irregular(tmp_path)


def test_folders_sockets_and_nothing_are_errors_of_the_system(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        for path in (tmp_path, tmp_path / "s", tmp_path / "nothing"):
            with pytest.raises(OSError, match=r".") as caught:
                open_regular(path)
            assert caught.value.strerror


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular("/dev/zero")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "NaN", "[Infinity]", "{", "\xff"]
)
def test_json_that_is_none_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    with pytest.raises(ValueError, match=r"."):
        load_json(tmp_path / "file")
