"""What a failing download says: never a password, wherever its library puts it."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.remote import remote_folder
from flexbert.data.remote.remote_folder import RemoteFolder
from flexbert.errors import UserError

SECRET = "hunter2-hunter2"
ADDRESSES = [
    f"sftp://me:{SECRET}@host:22/corpus",
    "sftp://me:${oc.env:SECRET}@host:22/corpus",
    "${oc.env:WHOLE}",
    f"s3://bucket/corpus?X-Amz-Signature={SECRET}",
]
FAILURES: list[Callable[[str], Exception]] = [
    lambda url: PermissionError(f"refused for {url}"),
    lambda url: ConnectionError(f"{url} is gone"),
    lambda url: FileNotFoundError(2, "No such file", url),
    lambda url: ValueError(f"bad address {quote(url, safe='')}"),
    lambda url: OSError(f"{url!r} with {SECRET}"),
    lambda url: RuntimeError({"url": url, "password": SECRET}),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_message_has_the_password(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    address: str,
    failure: Callable[[str], Exception],
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("WHOLE", f"sftp://me:{SECRET}@host:22/corpus")
    asked: list[str] = []

    class Downloader:
        @classmethod
        def get(cls, remote: str) -> Downloader:
            assert SECRET in remote  # the real address comes here
            return cls()

        def download(self, url: str, target: str, timeout: float) -> None:
            asked.append(url)
            raise failure(url)

        def clean_up(self) -> None:
            pass

    monkeypatch.setattr(remote_folder, "_downloaders", lambda: Downloader)
    folder = RemoteFolder(address, tmp_path / "local", (0.001, 0.001))
    again = pickle.loads(pickle.dumps(folder))  # as it comes to a process of a loader
    for one in (folder, again):
        with pytest.raises(CorpusError) as caught:
            one.fetch("corpus.json")
        # All that is sent to another process, and all that a traceback of it would show.
        shown = "".join(traceback.format_exception(caught.value))
        said = capfd.readouterr()
        for text in (str(caught.value), shown, said.out, said.err, str(one)):
            assert SECRET not in text
    assert all(SECRET in url for url in asked)


def test_an_address_without_its_variable_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no variable NOBODY_SETS_THIS; set it"):
        RemoteFolder("s3://${oc.env:NOBODY_SETS_THIS}/x", tmp_path / "local")


@pytest.mark.parametrize("kind", ["/dev/zero", "pipe"])
def test_what_is_no_file_is_not_fetched(tmp_path: Path, kind: str) -> None:
    (tmp_path / "remote").mkdir()
    if kind == "pipe":
        os.mkfifo(tmp_path / "remote" / "corpus.json")
    else:
        (tmp_path / "remote" / "corpus.json").symlink_to(kind)
    folder = RemoteFolder(str(tmp_path / "remote"), tmp_path / "local")
    with pytest.raises(CorpusError, match=r"not a regular file: .*; check data\.remote"):
        folder.fetch("corpus.json")


def test_a_file_without_an_end_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless:
        closed = False

        @classmethod
        def get(cls, remote: str) -> Endless:
            return cls()

        def download(self, url: str, target: str, timeout: float) -> None:
            with Path(target).open("wb") as file:
                while not self.closed:
                    file.truncate(file.seek(1 << 20, os.SEEK_CUR))  # takes no room
            raise ConnectionError("closed by this side")

        def clean_up(self) -> None:
            self.closed = True

    monkeypatch.setattr(remote_folder, "_downloaders", lambda: Endless)
    folder = RemoteFolder("s3://bucket/x", tmp_path / "local", (), stall_seconds=0.5)
    with pytest.raises(CorpusError, match=r"bytes arrived; check data\.remote"):
        folder.fetch("shard.mds", num_bytes=10)
