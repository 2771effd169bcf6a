"""Corpora elsewhere: fetching over broken connections, and keeping a cache within its limit."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import http.server
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import oci
import paramiko
import pytest
import xxhash
from botocore.exceptions import ClientError, NoCredentialsError
from google.api_core import exceptions as google_exceptions
from streaming.base.storage.download import LocalDownloader

from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.format.mds import ShardFile
from flexbert.data.remote import shard_cache
from flexbert.data.remote.remote_folder import WORK_FOLDER, RemoteFolder, prepare_downloads
from flexbert.data.remote.shard_cache import RemoteShards
from flexbert.files.file_lock import file_lock
from tests.data.remote.sftp_server import KEYGEN, SSHD, Proxy, SftpServer, sftp_server

MEBIBYTE = 1 << 20
SHARD_BYTES = 1000
NO_WAIT = (0.01, 0.01)

fork = multiprocessing.get_context("fork")
needs_sshd = pytest.mark.skipif(
    not (SSHD and KEYGEN), reason="needs sshd and ssh-keygen (openssh-server)"
)


@dataclass(frozen=True)
class Payload:
    """A folder with one file in it, as the remote has it."""

    folder: Path
    content: bytes
    name: str = "train/shard.00000.mds"

    @property
    def checks(self) -> dict[str, Any]:
        return {
            "num_bytes": len(self.content),
            "xxh3_64": xxhash.xxh3_64(self.content).hexdigest(),
        }

    def replace(self, content: bytes) -> None:
        (self.folder / self.name).write_bytes(content)


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    """Four MiB: more than sockets buffer, so that a cut falls into the transfer."""
    made = Payload(tmp_path / "remote", np.random.default_rng(0).bytes(4 * MEBIBYTE))
    (made.folder / made.name).parent.mkdir(parents=True)
    made.replace(made.content)
    return made


@pytest.fixture(scope="session")
def running_sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with sftp_server(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture
def sftp(running_sftp: SftpServer, monkeypatch: pytest.MonkeyPatch) -> SftpServer:
    monkeypatch.setenv("COMPOSER_SFTP_KEY_FILE", str(running_sftp.key))
    monkeypatch.setenv("COMPOSER_SFTP_KNOWN_HOSTS_FILE", str(running_sftp.known_hosts))
    return running_sftp


class Downloads:
    """Every download from a folder, of all processes: one line each in a file."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.seconds = 0.0
        self.before: Callable[[str], None] = lambda local: None
        self._really = LocalDownloader._download_file_impl

    def __call__(self, remote: str, local: str, timeout: float) -> None:
        with self._log.open("a") as log:
            log.write(Path(remote).name + "\n")
        self.before(local)
        time.sleep(self.seconds)
        self._really(LocalDownloader(), remote, local, timeout)

    @property
    def names(self) -> list[str]:
        return self._log.read_text().split() if self._log.exists() else []


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Downloads:
    made = Downloads(tmp_path / "downloads.log")
    monkeypatch.setattr(
        LocalDownloader, "_download_file_impl", lambda _, *arguments: made(*arguments)
    )
    return made


def leftovers(local: Path) -> list[str]:
    """What fetching has left beside the files that it fetched."""
    return [path.name for path in local.rglob(f"{WORK_FOLDER}/*") if path.name != "cache.lock"]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# One file, from a folder and from a real server


def test_a_file_is_fetched_from_a_folder_once(
    payload: Payload, tmp_path: Path, downloads: Downloads
) -> None:
    folder = RemoteFolder(str(payload.folder), tmp_path / "local")
    for _ in range(2):
        file = folder.fetch(payload.name, **payload.checks)
    assert file == tmp_path / "local" / payload.name
    assert file.read_bytes() == payload.content
    assert len(downloads.names) == 1
    assert leftovers(tmp_path / "local") == []


@needs_sshd
def test_files_are_fetched_from_an_sftp_server(
    payload: Payload, tmp_path: Path, sftp: SftpServer
) -> None:
    for number in range(12):  # more than an SSH connection has sessions
        (payload.folder / f"{number}.txt").write_text(str(number))
    folder = RemoteFolder(sftp.url(payload.folder), tmp_path / "local")
    assert folder.fetch(payload.name, **payload.checks).read_bytes() == payload.content
    assert [folder.fetch(f"{n}.txt").read_text() for n in range(12)] == list(map(str, range(12)))
    folder.disconnect()
    assert leftovers(tmp_path / "local") == []


def test_files_are_fetched_from_an_object_store(
    payload: Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    shutil.move(payload.folder, tmp_path / "store/bucket/corpus")
    store = functools.partial(Quiet, directory=str(tmp_path / "store"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        folder = RemoteFolder("s3://bucket/corpus", tmp_path / "local", NO_WAIT)
        try:
            assert folder.fetch(payload.name, **payload.checks).read_bytes() == payload.content
            with pytest.raises(CorpusError, match=r"nothing\.txt: Object .* not found"):
                folder.fetch("nothing.txt")
        finally:
            server.shutdown()


@needs_sshd
@pytest.mark.parametrize("after_bytes", [30, 2500, 2 * MEBIBYTE])
def test_a_dropped_connection_is_retried(
    payload: Payload,
    tmp_path: Path,
    sftp: SftpServer,
    capfd: pytest.CaptureFixture[str],
    after_bytes: int,
) -> None:
    proxy = Proxy(sftp.port, breaks=2, after_bytes=after_bytes)
    url = sftp.url(payload.folder, proxy.port)
    folder = RemoteFolder(url, tmp_path / "local", NO_WAIT)
    file = folder.fetch(payload.name, **payload.checks)
    proxy.close()
    assert file.read_bytes() == payload.content
    assert proxy.num_connections == 3
    out, err = capfd.readouterr()
    assert out.count("trying again") == len(out.splitlines()) == 2
    assert "Traceback" not in err
    assert leftovers(tmp_path / "local") == []


@needs_sshd
def test_a_silent_connection_counts_as_dropped(
    payload: Payload, tmp_path: Path, sftp: SftpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(sftp.port, breaks=1, after_bytes=2 * MEBIBYTE, stall=True)
    url = sftp.url(payload.folder, proxy.port)
    folder = RemoteFolder(url, tmp_path / "local", NO_WAIT, stall_seconds=1)
    file = folder.fetch(payload.name, **payload.checks)
    proxy.close()
    assert file.read_bytes() == payload.content
    assert "nothing arrived for 1 s; trying again" in capsys.readouterr().out


@needs_sshd
def test_a_server_out_of_reach_is_an_error_in_the_end(
    payload: Payload, tmp_path: Path, sftp: SftpServer
) -> None:
    proxy = Proxy(sftp.port, breaks=99, after_bytes=0)
    folder = RemoteFolder(sftp.url(payload.folder, proxy.port), tmp_path / "local", NO_WAIT)
    with pytest.raises(CorpusError, match=r"cannot be fetched .* tried 3 times"):
        folder.fetch(payload.name)
    proxy.close()
    assert leftovers(tmp_path / "local") == []


@needs_sshd
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COMPOSER_SFTP_KNOWN_HOSTS_FILE", os.devnull, "not found in known_hosts; .*refused"),
        ("COMPOSER_SFTP_KNOWN_HOSTS_FILE", "/no/such/hosts", "'/no/such/hosts'"),
        ("COMPOSER_SFTP_KEY_FILE", "/no/such/key", "'/no/such/key'"),
        ("COMPOSER_SFTP_KEY_FILE", __file__, "not a valid .*refused"),
    ],
)
def test_missing_credentials_are_an_error_at_once(
    payload: Payload,
    tmp_path: Path,
    sftp: SftpServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CorpusError, match=message):
        RemoteFolder(sftp.url(payload.folder), tmp_path / "local").fetch(payload.name)
    assert capsys.readouterr().out == ""


@needs_sshd
def test_a_password_is_never_shown(payload: Payload, tmp_path: Path, sftp: SftpServer) -> None:
    url = sftp.url(payload.folder).replace("@", "-nobody:tell-none@")
    with pytest.raises(CorpusError, match=r"-nobody:\*\*\*@.*refused") as refused:
        RemoteFolder(url, tmp_path / "local").fetch(payload.name)
    assert "tell-none" not in str(refused.value)


@needs_sshd
def test_a_missing_file_is_an_error_at_once(
    payload: Payload, tmp_path: Path, sftp: SftpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for remote in (str(payload.folder), sftp.url(payload.folder)):
        with pytest.raises(CorpusError, match=r"corpus\.json: .*the whole corpus was uploaded"):
            RemoteFolder(remote, tmp_path / "local").fetch("corpus.json")
    assert capsys.readouterr().out == ""
    assert leftovers(tmp_path / "local") == []


@pytest.mark.parametrize(
    ("remote", "message"),
    [("ftp://host/corpus", "Unsupported remote path"), ("alipan:///corpus", "install the package")],
)
def test_what_cannot_be_downloaded_from_is_an_error_at_once(
    tmp_path: Path, remote: str, message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        RemoteFolder(remote, tmp_path / "local").fetch("corpus.json")


def test_a_folder_is_not_fetched_into_itself(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="into itself"):
        RemoteFolder(f"{tmp_path}/", tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match="outside"):
        RemoteFolder("s3://bucket/corpus", tmp_path).fetch(name)


@pytest.mark.parametrize(
    ("error", "num_attempts", "message"),
    [
        (NoCredentialsError(), 1, "credentials; access is refused"),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 403}}, "HeadObject"), 1, "refused"),  # type: ignore[typeddict-item]
        (google_exceptions.NotFound("no object"), 1, "whole corpus was uploaded"),
        (google_exceptions.ServiceUnavailable("later"), 3, "later.* tried 3 times"),
        (google_exceptions.TooManyRequests("slower"), 3, "slower.* tried 3 times"),
        (google_exceptions.BadRequest("what"), 1, "such a request"),
        (oci.exceptions.ServiceError(404, "ObjectNotFound", {}, "gone"), 1, "whole corpus"),
        (oci.exceptions.ConfigFileNotFound("no config"), 1, "refused"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "refused"),
        (TimeoutError("timed out"), 3, "timed out.* tried 3 times"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_only_errors_that_may_pass_are_retried(
    payload: Payload,
    tmp_path: Path,
    downloads: Downloads,
    error: Exception,
    num_attempts: int,
    message: str,
) -> None:
    def fail(local: str) -> None:
        raise error

    downloads.before = fail
    with pytest.raises(CorpusError, match=message):
        RemoteFolder(str(payload.folder), tmp_path / "local", NO_WAIT).fetch(payload.name)
    assert len(downloads.names) == num_attempts


# Damage


def test_a_wrong_hash_is_fetched_again_once_and_then_refused(
    payload: Payload, tmp_path: Path, downloads: Downloads
) -> None:
    payload.replace(bytes(len(payload.content)))
    with pytest.raises(CorpusError, match=r"shard\.00000\.mds: its xxh3_64 hash is not"):
        RemoteFolder(str(payload.folder), tmp_path / "local").fetch(payload.name, **payload.checks)
    assert len(downloads.names) == 2
    assert not (tmp_path / "local" / payload.name).exists()
    assert leftovers(tmp_path / "local") == []


def test_a_truncated_file_is_refused(payload: Payload, tmp_path: Path) -> None:
    payload.replace(payload.content[:-1])
    with pytest.raises(CorpusError, match="4194303 bytes, its index says 4194304"):
        RemoteFolder(str(payload.folder), tmp_path / "local").fetch(payload.name, **payload.checks)


def test_damage_on_the_way_is_mended(
    payload: Payload, tmp_path: Path, downloads: Downloads, capsys: pytest.CaptureFixture[str]
) -> None:
    payload.replace(bytes(len(payload.content)))

    def mend_on_second(local: str) -> None:
        if len(downloads.names) == 2:
            payload.replace(payload.content)

    downloads.before = mend_on_second
    folder = RemoteFolder(str(payload.folder), tmp_path / "local")
    assert folder.fetch(payload.name, **payload.checks).read_bytes() == payload.content
    assert "hash is not its index's; fetching it again" in capsys.readouterr().out


def test_a_local_file_of_another_size_is_replaced(payload: Payload, tmp_path: Path) -> None:
    (tmp_path / "local/train").mkdir(parents=True)
    (tmp_path / "local" / payload.name).write_bytes(b"half of it")
    folder = RemoteFolder(str(payload.folder), tmp_path / "local")
    assert folder.fetch(payload.name, **payload.checks).read_bytes() == payload.content


def test_a_corpus_made_anew_is_not_mixed_with_the_local_copy(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    description = tmp_path / "remote/corpus.json"
    description.write_text("old")
    folder = RemoteFolder(str(tmp_path / "remote"), tmp_path / "local")
    for _ in range(2):
        assert folder.fetch_current("corpus.json").read_text() == "old"
    description.write_text("new")
    with pytest.raises(CorpusError, match="another corpus, or an older state"):
        folder.fetch_current("corpus.json")


def test_a_full_disk_says_so(payload: Payload, tmp_path: Path) -> None:
    local = tmp_path / "small"
    local.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(local)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(CorpusError, match=r"no room .*No space left") as full:
            RemoteFolder(str(payload.folder), local).fetch(payload.name, **payload.checks)
        assert str(local) in str(full.value)
        assert leftovers(local) == []
    finally:
        subprocess.run(["umount", str(local)], check=True)


@needs_sshd
def test_a_file_larger_than_allowed_says_so(
    payload: Payload, tmp_path: Path, sftp: SftpServer
) -> None:
    def fetch() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, MEBIBYTE))
        with pytest.raises(CorpusError, match=os.strerror(errno.EFBIG)):
            RemoteFolder(sftp.url(payload.folder), tmp_path / "local").fetch(payload.name)

    process = fork.Process(target=fetch)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert leftovers(tmp_path / "local") == []


# Several processes


def test_of_processes_that_race_one_downloads(
    payload: Payload, tmp_path: Path, downloads: Downloads
) -> None:
    downloads.seconds = 0.2
    start = fork.Barrier(6)

    def fetch() -> None:
        start.wait()
        folder = RemoteFolder(str(payload.folder), tmp_path / "local")
        assert folder.fetch(payload.name, **payload.checks).read_bytes() == payload.content

    processes = [fork.Process(target=fetch) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(downloads.names) == 1
    assert leftovers(tmp_path / "local") == []


@needs_sshd
def test_a_killed_download_leaves_nothing_to_stumble_over(
    payload: Payload, tmp_path: Path, sftp: SftpServer
) -> None:
    proxy = Proxy(sftp.port, breaks=1, after_bytes=2 * MEBIBYTE, stall=True)
    through_proxy = RemoteFolder(sftp.url(payload.folder, proxy.port), tmp_path / "local")
    process = fork.Process(target=through_proxy.fetch, args=(payload.name,))
    process.start()
    partial = tmp_path / "local/train" / WORK_FOLDER
    eventually(lambda: any(f.is_file() and f.stat().st_size > 0 for f in partial.rglob("*.tmp")))
    process.kill()
    process.join()
    proxy.close()
    assert not (tmp_path / "local" / payload.name).exists()
    assert leftovers(tmp_path / "local") != []
    folder = RemoteFolder(sftp.url(payload.folder), tmp_path / "local")
    assert folder.fetch(payload.name, **payload.checks).read_bytes() == payload.content
    assert leftovers(tmp_path / "local") == []


@needs_sshd
def test_a_forked_process_has_a_connection_of_its_own(
    payload: Payload, tmp_path: Path, sftp: SftpServer
) -> None:
    proxy = Proxy(sftp.port, breaks=0, after_bytes=0)
    for number in range(3):
        (payload.folder / f"{number}.txt").write_text(str(number))
    folder = RemoteFolder(sftp.url(payload.folder, proxy.port), tmp_path / "local", ())
    folder.fetch("0.txt")
    process = fork.Process(target=folder.fetch, args=("1.txt",))
    process.start()
    process.join()
    assert process.exitcode == 0
    folder.fetch("2.txt")
    folder.disconnect()
    proxy.close()
    assert proxy.num_connections == 2


# Shards, fetched ahead and evicted


@dataclass(frozen=True)
class Split:
    """Ten shards in a folder, to be fetched."""

    remote: Path
    local: Path
    files: tuple[ShardFile, ...]

    def open(self, num_shards: int | None = None) -> RemoteShards:
        """The shards as a new process sees them, within a limit of so many."""
        limit = None if num_shards is None else num_shards * SHARD_BYTES
        return RemoteShards(RemoteFolder(str(self.remote), self.local), self.files, limit)

    def original(self, shard: int) -> Path:
        return self.remote / "train" / self.files[shard].path.name

    def reads(self, shards: RemoteShards, shard: int) -> bool:
        return shards.path(shard).read_bytes() == self.original(shard).read_bytes()

    @property
    def here(self) -> set[int]:
        return {shard for shard, file in enumerate(self.files) if file.path.exists()}

    @property
    def num_bytes(self) -> int:
        """What lies in the cache at one moment, unfinished downloads included."""
        total = 0
        work = self.local / "train" / WORK_FOLDER
        work.mkdir(parents=True, exist_ok=True)
        # Nothing is evicted meanwhile, which would be counted beside what comes in its place.
        with file_lock(work / "cache.lock"):
            for folder, _, names in os.walk(self.local / "train"):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        size = os.stat(os.path.join(folder, name)).st_size
                        total += size if ".mds" in name else 0
        return total


@pytest.fixture
def split(tmp_path: Path) -> Split:
    remote, local = tmp_path / "remote", tmp_path / "local"
    (remote / "train").mkdir(parents=True)
    files = []
    for shard in range(10):
        content = np.random.default_rng(shard).bytes(SHARD_BYTES)
        name = f"shard.{shard:05}.mds"
        (remote / "train" / name).write_bytes(content)
        digest = xxhash.xxh3_64(content).hexdigest()
        files.append(ShardFile(local / "train" / name, 1, len(content), digest))
    return Split(remote, local, tuple(files))


def test_expected_shards_are_fetched_ahead_in_their_order(
    split: Split, downloads: Downloads
) -> None:
    downloads.seconds = 0.02
    shards = split.open()
    shards.expect([4, 2, 7, 0])
    eventually(lambda: split.here == {0, 2, 4, 7})
    names = [split.files[shard].path.name for shard in (4, 2, 7, 0)]
    assert set(downloads.names[:2]) == set(names[:2])  # two at a time
    assert all(split.reads(shards, shard) for shard in (4, 2, 7, 0))
    assert sorted(downloads.names) == sorted(names)


def test_a_shard_nobody_expected_is_fetched_when_it_is_needed(split: Split) -> None:
    assert split.reads(split.open(), 3)


def test_the_cache_keeps_its_limit_while_every_shard_reads_right(split: Split) -> None:
    random = np.random.default_rng(1)
    shards = split.open(4)
    for _ in range(60):
        if random.random() < 0.5:
            shards.expect(random.permutation(10)[: random.integers(0, 5)].tolist())
        assert split.reads(shards, int(random.integers(10)))
        assert split.num_bytes <= 4 * SHARD_BYTES


def test_processes_share_one_limit(split: Split) -> None:
    def walk(seed: int) -> None:
        random = np.random.default_rng(seed)
        shards = split.open(5)  # what two of the three expect is more than that
        for _ in range(6):
            expected = random.permutation(10)[:3].tolist()
            shards.expect(expected)
            for shard in expected:
                assert split.reads(shards, shard)

    processes = [fork.Process(target=walk, args=(seed,)) for seed in range(3)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert split.num_bytes <= 5 * SHARD_BYTES
        time.sleep(0.002)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_the_least_recently_opened_shards_go_first(split: Split) -> None:
    shards = split.open(3)
    for opened in (0, 1, 2, 0, 3):
        shards.path(opened)
        time.sleep(0.01)  # file systems tick in milliseconds
    assert split.here == {0, 2, 3}


def test_fetching_ahead_spares_what_another_process_expects(split: Split) -> None:
    one, other = split.open(3), split.open(3)
    one.expect([0, 1])
    eventually(lambda: split.here == {0, 1})
    other.expect([2, 3])
    eventually(lambda: split.here == {0, 1, 2})
    time.sleep(0.2)
    assert split.here == {0, 1, 2}
    one.expect([])
    eventually(lambda: {2, 3} <= split.here)


def test_a_shard_needed_now_displaces_what_another_process_expects(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_cache, "_JUST_OPENED_SECONDS", 0.2)
    one, other = split.open(2), split.open(2)
    one.expect([0, 1])
    eventually(lambda: split.here == {0, 1})
    mapped = np.memmap(one.path(0), np.uint8, mode="r")
    other.expect([2, 3])
    assert split.reads(other, 2)
    assert split.reads(other, 3)
    assert split.here == {2, 3}
    assert bytes(mapped) == split.original(0).read_bytes()
    assert split.reads(one, 0)


def test_what_a_dead_process_expected_or_was_fetching_takes_no_room(
    split: Split, downloads: Downloads
) -> None:
    def expect_and_hang() -> None:
        def hang(local: str) -> None:
            if local.endswith("shard.00001.mds"):
                Path(local + ".tmp").write_bytes(bytes(600))
                time.sleep(60)

        downloads.before = hang
        shards = split.open(2)
        shards.expect([0, 1])
        shards.path(1)

    process = fork.Process(target=expect_and_hang)
    process.start()
    eventually(lambda: split.num_bytes == SHARD_BYTES + 600)
    alive = split.open(2)
    alive.expect([2, 3])
    time.sleep(0.1)
    assert split.here == {0}
    process.kill()
    process.join()
    eventually(lambda: split.here == {2, 3})
    assert split.num_bytes == 2 * SHARD_BYTES


@pytest.mark.parametrize("shards", [[0, 1, 2], [0]])
def test_a_limit_below_what_is_needed_at_once_names_what_would_do(
    split: Split, shards: list[int]
) -> None:
    limit = len(shards) * SHARD_BYTES - 1
    folder = RemoteFolder(str(split.remote), split.local)
    with pytest.raises(CorpusError, match=rf"{limit + 1} bytes .* at least 1mb"):
        RemoteShards(folder, split.files, limit).expect(shards)
    if len(shards) == 1:
        with pytest.raises(CorpusError, match="a shard of 1000 bytes"):
            RemoteShards(folder, split.files, limit).path(0)


def test_a_lowered_limit_is_kept_from_the_start(split: Split) -> None:
    shards = split.open()
    shards.expect(range(10))
    eventually(lambda: len(split.here) == 10)
    split.open(4).expect([9])
    assert len(split.here) == 10  # all of them expected by somebody
    shards.expect([])
    split.open(4).expect([9])
    assert 9 in split.here
    assert len(split.here) == 4


def test_an_error_ahead_of_time_is_raised_when_its_shard_is_needed(
    split: Split, downloads: Downloads
) -> None:
    good = split.original(1).read_bytes()
    split.original(1).write_bytes(bytes(SHARD_BYTES))
    shards = split.open()
    shards.expect([0, 1])
    eventually(lambda: downloads.names.count("shard.00001.mds") == 2)
    assert split.reads(shards, 0)
    with pytest.raises(CorpusError, match=r"shard\.00001\.mds: its xxh3_64 hash"):
        shards.path(1)
    assert downloads.names.count("shard.00001.mds") == 2
    split.original(1).write_bytes(good)
    assert split.reads(shards, 1)


def test_no_room_ahead_of_time_says_so_when_the_shard_is_needed(
    split: Split, downloads: Downloads
) -> None:
    def fill_up(local: str) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    downloads.before = fill_up
    shards = split.open()
    shards.expect([0, 1, 2, 3])
    with pytest.raises(CorpusError, match=r"no room .*quota"):
        shards.path(0)


def test_shards_pickle_as_their_address(split: Split) -> None:
    shards = split.open(3)
    shards.expect([0, 1])
    copy = pickle.loads(pickle.dumps(shards))
    copy.expect([1, 2])
    assert split.reads(copy, 2)
    assert split.reads(shards, 0)


def test_a_process_forked_while_shards_are_fetched_fetches_its_own(
    split: Split, downloads: Downloads
) -> None:
    downloads.seconds = 0.1
    shards = split.open(6)
    shards.expect([0, 1, 2, 3])
    eventually(lambda: len(downloads.names) >= 1)

    def read() -> None:
        shards.expect([4, 3])
        assert split.reads(shards, 3)
        assert split.reads(shards, 4)

    process = fork.Process(target=read)
    process.start()
    assert all(split.reads(shards, shard) for shard in range(4))
    process.join()
    assert process.exitcode == 0
    assert sorted(downloads.names) == [split.files[shard].path.name for shard in range(5)]


@needs_sshd
def test_shards_come_over_a_connection_that_keeps_dropping(split: Split, sftp: SftpServer) -> None:
    proxy = Proxy(sftp.port, breaks=3, after_bytes=5000)
    folder = RemoteFolder(sftp.url(split.remote, proxy.port), split.local, (0.01,) * 4)
    shards = RemoteShards(folder, split.files, 4 * SHARD_BYTES)
    for block in ([0, 1, 2], [3, 4, 5], [6, 7, 8, 9]):
        shards.expect(block)
        assert all(split.reads(shards, shard) for shard in block)
    proxy.close()
    assert proxy.num_connections > 3


def test_a_channel_that_is_collected_says_nothing() -> None:
    """It may be collected while its own connection sends, and holds the lock that it would take."""
    prepare_downloads()
    said: list[object] = []
    channel = paramiko.Channel(1)
    channel.active, channel.transport = True, SimpleNamespace(_send_user_message=said.append)
    del channel
    gc.collect()
    assert said == []
