"""A corpus folder elsewhere, its files fetched once a node through mosaicml-streaming.

Streaming brings the downloaders (S3, GCS, SFTP and the others) and the hashes; this module adds
what a training run needs around them: one download however many processes ask, nothing left behind
by a process that is killed, retries, and one clear line where retrying does not help.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import logging
import mmap
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from flexbert.config.remote_address import RemoteAddress
from flexbert.data.format.corpus_format import SHARD_HASH, CorpusError
from flexbert.data.remote.download_errors import advice_on, text_of
from flexbert.files.durable import place
from flexbert.files.file_lock import file_lock
from flexbert.files.regular import LARGEST_TEXT, open_regular

if TYPE_CHECKING:
    from streaming.base.storage import CloudDownloader

WORK_FOLDER = ".fetching"
_SLACK_BYTES = 64 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_JITTER = random.SystemRandom()


class RemoteFolder:
    """A corpus folder elsewhere and the local folder that its files are fetched into.

    It pickles as its arguments. Threads and forked processes may share one; each download has a
    connection of its own, and connections are kept for the next one.
    """

    def __init__(
        self,
        remote: RemoteAddress | str,
        local: Path,
        retry_seconds: tuple[float, ...] = (1, 2, 4, 8, 16),
        stall_seconds: float = 60,
    ) -> None:
        """Describe the folder; nothing is fetched yet.

        Args:
            remote: whatever Streaming downloads from: ``s3://bucket/folder``,
                ``sftp://user@host:port/folder``, a mounted folder's path.
            retry_seconds: how long to wait before each further attempt after a passing error.
            stall_seconds: a transfer that brings nothing for so long counts as dropped.

        Raises:
            CorpusError: if both are the same folder.
            UserError: if the address needs what the environment does not have.
        """
        self.remote = RemoteAddress.parse(remote)
        self.local = Path(local)
        self.retry_seconds = retry_seconds
        self.stall_seconds = stall_seconds
        self._idle: list[CloudDownloader] = []
        self._idle_pid = os.getpid()
        self._inherited: list[list[CloudDownloader]] = []
        self._url = self.remote.address.rstrip("/")
        if self._is_folder and Path(self._url).resolve() == self.local.resolve():
            raise CorpusError(f"{self}: fetched into itself; name another local folder")

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFolder, (self.remote, self.local, self.retry_seconds, self.stall_seconds)

    def __str__(self) -> str:
        return str(self.remote).rstrip("/")

    @property
    def _is_folder(self) -> bool:
        """Whether it is a folder of this machine, mounted perhaps."""
        return "://" not in self._url and ":" not in self._url.split("/")[0]

    def fetch(self, name: str, *, num_bytes: int | None = None, xxh3_64: str | None = None) -> Path:
        """A local copy of one file, downloaded unless it is there with ``num_bytes`` bytes.

        Of several processes of a node that ask at once one downloads and the others wait.

        Args:
            name: its path inside the folder, with forward slashes.
            xxh3_64: compared after downloading; a copy that is there is taken as it is.

        Raises:
            CorpusError: if it is missing, or differs in size or hash twice, or the remote refuses,
                or stays out of reach through every retry, or there is no room for it.
        """
        file = self.file(name)
        if not is_there(file, num_bytes):
            with self.lock(name):
                if not is_there(file, num_bytes):
                    self.download(name, num_bytes=num_bytes, xxh3_64=xxh3_64)
        return file

    def fetch_current(self, name: str) -> Path:
        """A local copy of one small file that is certain to be what the remote holds now.

        For the files that describe the others: a corpus that was made again under the same address
        would otherwise be mixed with the local copy of the old one.

        Raises:
            CorpusError: as :meth:`fetch`, or if a local copy differs from the remote file.
        """
        file = self.file(name)
        with self.lock(name), self._downloaded(name, None, None) as fetched:
            if not file.exists():
                _place(fetched, file)
            elif not filecmp.cmp(fetched, file, shallow=False):
                raise CorpusError(
                    f"{file}: is not what {self} has now; the folder holds another corpus, or an "
                    "older state of this one: remove it, or name another local folder"
                )
        return file

    def file(self, name: str) -> Path:
        """Where the local copy of a file lies, fetched or not.

        Raises:
            CorpusError: if the name leads out of the folder.
        """
        # Names come from the remote's own description, which is not to choose what it overwrites.
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CorpusError(f"{self}: names a file outside of its folder, {name!r}")
        return self.local / name

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the right to download a file, of all processes and threads of the node.

        Yields:
            whether it is held; never False with ``wait``.

        Raises:
            CorpusError: if the local folder cannot be written.
        """
        path = self._work_path(name, ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(path, wait=wait) as held:
                try:
                    yield held
                finally:
                    if held:
                        path.unlink(missing_ok=True)
        except OSError as error:
            raise self.local_error(name, error) from error

    def download(
        self, name: str, *, num_bytes: int | None = None, xxh3_64: str | None = None
    ) -> None:
        """Download a file, whose lock the caller holds, and give it its name when it is whole.

        Raises:
            CorpusError: as :meth:`fetch`.
        """
        with self._downloaded(name, num_bytes, xxh3_64) as fetched:
            _place(fetched, self.file(name))

    def is_being_fetched(self, name: str) -> bool:
        """Whether somebody downloads the file now; what a killed process left of it is removed."""
        if not self._work_path(name, ".lock").exists():
            return False
        with self.lock(name, wait=False) as held:
            if held:
                shutil.rmtree(self._work_path(name, ".partial"), ignore_errors=True)
            return not held

    def disconnect(self) -> None:
        """Close the connections that are kept for the next download."""
        idle = self._connections()
        while idle:
            with contextlib.suppress(Exception):
                idle.pop().clean_up()

    def local_error(self, name: str, error: OSError) -> CorpusError:
        """The user's view of an error while something was written to the local folder."""
        if error.errno in _NO_ROOM:
            return CorpusError(
                f"{self.local}: no room for {name} ({error.strerror}); free some space there, set "
                "data.cache_limit to what the folder may take, or name another local folder"
            )
        return CorpusError(f"{self.local}: {name} cannot be written there ({error})")

    def _work_path(self, name: str, suffix: str) -> Path:
        file = self.file(name)
        return file.parent / WORK_FOLDER / (file.name + suffix)

    @contextlib.contextmanager
    def _downloaded(self, name: str, num_bytes: int | None, xxh3_64: str | None) -> Iterator[Path]:
        """The file under a temporary name that ends with the context, checked."""
        # A folder, because the downloaders put temporary files of their own next to their target.
        partial = self._work_path(name, ".partial")
        fetched = partial / PurePosixPath(name).name
        try:
            self._transfer(name, fetched, num_bytes)
            if difference := _difference(fetched, num_bytes, xxh3_64):
                print(f"warning: {self}/{name}: {difference}; fetching it again", flush=True)
                self._transfer(name, fetched, num_bytes)
                if difference := _difference(fetched, num_bytes, xxh3_64):
                    raise CorpusError(
                        f"{self}/{name}: {difference}, fetched twice; upload the corpus again, "
                        f"or remove {self.local} if it holds an older state of it"
                    )
            yield fetched
        except OSError as error:
            raise self.local_error(name, error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _transfer(self, name: str, target: Path, num_bytes: int | None) -> None:
        """Download to ``target`` in an emptied folder of its own, with retries."""
        url = f"{self._url}/{name}"
        # Room for a downloader's temporary copy; whether the size is right is seen afterwards.
        most = _SLACK_BYTES + (LARGEST_TEXT if num_bytes is None else 2 * num_bytes)
        waits = iter(self.retry_seconds)
        while True:
            shutil.rmtree(target.parent, ignore_errors=True)
            target.parent.mkdir(parents=True)
            try:
                self._attempt(url, target, most)
                return
            except Exception as error:
                text = self.remote.redact(text_of(error))
                if isinstance(error, OSError) and error.errno in _NO_ROOM:
                    raise
                # Not "from error": its text, which may have a password, would travel with it.
                if advice := advice_on(error, url):
                    raise CorpusError(f"{self}/{name}: {text}; {advice}") from None
                wait = next(waits, None)
                if wait is None:
                    raise CorpusError(
                        f"{self}/{name}: cannot be fetched ({text}), tried "
                        f"{len(self.retry_seconds) + 1} times; check the connection and run the "
                        "same command again"
                    ) from None
            print(f"warning: {self}/{name}: {text}; trying again in {wait:g} s", flush=True)
            # Processes that lost one server together do not come back in the same instant.
            time.sleep(wait * _JITTER.uniform(1, 1.3))

    def _attempt(self, url: str, target: Path, most: int) -> None:
        idle = self._connections()
        try:
            downloader = idle.pop()
        except IndexError:
            downloader = _downloaders().get(self._url)
        try:
            if self._is_folder:
                open_regular(url).close()  # copying a device would have no end
            with _hang_up(downloader, target.parent, self.stall_seconds, most):
                downloader.download(url, str(target), timeout=self.stall_seconds)
        except BaseException:
            # A connection that failed once is not trusted with the next attempt.
            with contextlib.suppress(Exception):
                downloader.clean_up()
            raise
        idle.append(downloader)

    def _connections(self) -> list[CloudDownloader]:
        """This process's idle connections."""
        if self._idle_pid != os.getpid():
            # A forked process must neither use its parent's connections nor say goodbye on them,
            # which dropping the last reference would do.
            self._inherited.append(self._idle)
            self._idle, self._idle_pid = [], os.getpid()
        return self._idle


def prepare_downloads() -> None:
    """Import what downloading needs, which takes seconds.

    To be called before a thread downloads: a process forked while the thread imports would have
    half a module for ever.
    """
    _downloaders()


def is_there(file: Path, num_bytes: int | None) -> bool:
    """Whether a file exists, with ``num_bytes`` bytes if they are given."""
    try:
        size = file.stat().st_size
    except OSError:
        return False
    return num_bytes is None or size == num_bytes


def _downloaders() -> type[CloudDownloader]:
    import paramiko
    from streaming.base.storage import CloudDownloader

    # Left to itself, a channel that is collected tells its server so. Where that happens while its
    # connection sends a packet, it waits for the very lock that the sender holds, for ever.
    paramiko.Channel.__del__ = lambda channel: None

    # It logs tracebacks of errors that end here as one line.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    return CloudDownloader


@contextlib.contextmanager
def _hang_up(
    downloader: CloudDownloader, folder: Path, seconds: float, most: int
) -> Iterator[None]:
    """Close the connection when the files in ``folder`` have not grown for so long, or have grown
    to more than ``most`` bytes.

    Streaming passes no timeout to SFTP, so that a server that falls silent without closing the
    connection would be waited for without end; closing it wakes the download with an error.

    Raises:
        TimeoutError: in place of that error.
        ValueError: likewise, where more arrives than there can be.
    """
    done, stalled, endless = threading.Event(), threading.Event(), threading.Event()

    def watch() -> None:
        arrived, since = -1, time.monotonic()
        while not done.wait(min(seconds / 10, 1)):
            if (size := _size_below(folder)) != arrived:
                arrived, since = size, time.monotonic()
                if arrived > most:
                    endless.set()
            elif time.monotonic() - since > seconds:
                stalled.set()
            if stalled.is_set() or endless.is_set():
                with contextlib.suppress(Exception):
                    downloader.clean_up()
                return

    watcher = threading.Thread(target=watch, name="flexbert-stall-watch", daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if stalled.is_set():
            raise TimeoutError(f"nothing arrived for {seconds:g} s") from error
        if endless.is_set():
            raise ValueError(f"more than {most} bytes arrived") from error
        raise
    finally:
        done.set()
        watcher.join()


def _size_below(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, file)).st_size
    return total


def _difference(file: Path, num_bytes: int | None, xxh3_64: str | None) -> str | None:
    """In what a file is not what was expected."""
    found = file.stat().st_size
    if num_bytes is not None and found != num_bytes:
        return f"{found} bytes, its index says {num_bytes}"
    if xxh3_64 is not None and _hash(file) != xxh3_64:
        return f"its {SHARD_HASH} hash is not its index's"
    return None


def _hash(file: Path) -> str:
    from streaming.base.hashing import get_hash

    with file.open("rb") as opened:
        if not file.stat().st_size:
            return get_hash(SHARD_HASH, b"")  # an empty file cannot be mapped
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return get_hash(SHARD_HASH, mapped)  # type: ignore[arg-type]  # any buffer will do


def _place(fetched: Path, file: Path) -> None:
    """Give a file its name, complete even after a power cut, and the present time.

    Downloaders differ in whose time they leave; the cache of shards goes by it.
    """
    os.utime(fetched)
    place(fetched, file)
