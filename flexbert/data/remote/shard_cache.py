"""Shards of a remote corpus: fetched ahead of their use, within a limit that the whole node keeps.

The folder itself is the record of what it holds, read and changed under one lock of the node: a
shard takes its size from the moment somebody starts to fetch it until it is deleted, and a fetch
whose process died takes nothing, since the lock that marks it has died too. Deleting a shard that a
process has mapped is safe, the mapping stays; so eviction decides how often a shard is fetched and
never what is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from pathlib import Path

from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.format.mds import ShardFile
from flexbert.data.remote.remote_folder import (
    WORK_FOLDER,
    RemoteFolder,
    is_there,
    prepare_downloads,
)
from flexbert.files.file_lock import file_lock

_NUM_FETCHERS = 2
_POLL_SECONDS = 0.05
_JUST_OPENED_SECONDS = 1.0


class _State(Enum):
    HERE = auto()
    RESERVED = auto()
    FETCHED_ELSEWHERE = auto()
    NO_ROOM = auto()


class RemoteShards:
    """The :class:`flexbert.data.format.mds.ShardStore` of one split of a remote corpus.

    It pickles as its arguments, and starts empty in a forked process. One thread may call it.

    When room is needed, shards that no process of the node expects are deleted, the least recently
    opened first. Fetching ahead goes no further; a shard that is needed now also displaces what
    only other processes expect.
    """

    def __init__(
        self, folder: RemoteFolder, files: Sequence[ShardFile], limit_bytes: int | None
    ) -> None:
        """Describe the shards; nothing is fetched yet.

        Args:
            files: the split's index, with paths below ``folder.local``.
            limit_bytes: what the split's shards may take there, for all processes together.
        """
        self._folder = folder
        self._files = files
        self._limit = limit_bytes
        self._names = [file.path.relative_to(folder.local).as_posix() for file in files]
        self._numbers = {file.path.name: shard for shard, file in enumerate(files)}
        self._work = (files[0].path.parent if files else folder.local) / WORK_FOLDER
        self._start_anew()

    def __reduce__(self) -> tuple[type[RemoteShards], tuple[object, ...]]:
        return RemoteShards, (self._folder, self._files, self._limit)

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        self._claims = _Claims(self._work)
        self._expected: tuple[int, ...] = ()
        self._opened: int | None = None
        self._errors: dict[int, Exception] = {}
        self._changed = threading.Condition()  # guards the two below
        self._pending: set[int] = set()
        self._num_fetchers = 0

    def path(self, shard: int) -> Path:
        """A local file that holds the shard, fetched first if need be.

        It is to be opened at once: other processes may have it deleted a second later.

        Raises:
            CorpusError: if it cannot be fetched (see :meth:`RemoteFolder.fetch`), now or when it
                was fetched ahead, or is larger than the limit.
        """
        self._in_this_process()
        if self._limit is not None and self._files[shard].num_bytes > self._limit:
            raise self._limit_error("a shard", self._files[shard].num_bytes)
        if shard not in self._expected and shard != self._opened:
            with self._cache_lock():
                self._opened = shard
                self._claims.claim((*self._expected, shard))
        while True:
            with contextlib.ExitStack() as held:
                state = self._reserve(shard, held, demanded=True)
                if state is _State.RESERVED:
                    self._download(shard)
                if state in (_State.RESERVED, _State.HERE):
                    return self._files[shard].path
            time.sleep(_POLL_SECONDS)

    def expect(self, shards: Sequence[int]) -> None:
        """Fetch these shards ahead in this order; the others may be deleted.

        Raises:
            CorpusError: if they are larger than the limit together.
        """
        self._in_this_process()
        shards = tuple(dict.fromkeys(shards))
        needed = self._total_bytes(shards)
        if self._limit is not None and needed > self._limit:
            raise self._limit_error(f"{len(shards)} shards", needed)
        with self._cache_lock():
            self._expected, self._opened = shards, None
            self._claims.claim(shards)
            self._make_room(set(), demanded=False)  # the limit may be lower than it was
        pending = {shard for shard in shards if not self._is_here(shard)}
        if pending:
            prepare_downloads()
        with self._changed:
            self._pending = pending
            self._changed.notify_all()
            while self._num_fetchers < min(_NUM_FETCHERS, len(pending)):
                self._num_fetchers += 1
                threading.Thread(
                    target=self._fetch_ahead, name="flexbert-fetch-ahead", daemon=True
                ).start()

    def _in_this_process(self) -> None:
        # A forked process has its parent's locks, perhaps held, and none of its threads.
        if self._pid != os.getpid():
            self._start_anew()

    def _fetch_ahead(self) -> None:
        """Fetch pending shards until there are none."""
        while True:
            state = _State.HERE
            with contextlib.ExitStack() as held:
                shard = None
                try:
                    # Chosen and reserved in one go: where room is short, the next shard gets it.
                    with self._changed:
                        shard = self._next_pending()
                        if shard is None:
                            return
                        state = self._reserve(shard, held, demanded=False)
                        if state is _State.NO_ROOM:
                            self._pending.add(shard)
                    if state is _State.RESERVED:
                        self._download(shard)
                except Exception as error:
                    # Kept before the shard is unlocked: who waits for the lock is to find it.
                    # It probably concerns every shard; those that are needed all the same raise
                    # it themselves then.
                    with self._changed:
                        if shard is not None:
                            self._errors[shard] = error
                        self._pending.clear()
            if state is _State.NO_ROOM:
                with self._changed:
                    self._changed.wait(_POLL_SECONDS)

    def _next_pending(self) -> int | None:
        for shard in self._expected:
            if shard in self._pending:
                self._pending.remove(shard)
                return shard
        self._num_fetchers -= 1
        if not self._num_fetchers:
            # It may be long until the next block of shards: servers drop idle connections.
            self._folder.disconnect()
        return None

    def _reserve(self, shard: int, held: contextlib.ExitStack, *, demanded: bool) -> _State:
        """Make room for a shard that is not here, and lock it."""
        file, name = self._files[shard], self._names[shard]
        with self._cache_lock():
            # Asked first: a download that ends meanwhile is then here, and not lost between both.
            is_being_fetched = self._folder.is_being_fetched(name)
            if self._is_here(shard):
                self._errors.pop(shard, None)
                if demanded:
                    os.utime(file.path)
                return _State.HERE
            if is_being_fetched:
                return _State.FETCHED_ELSEWHERE
            if demanded and (earlier := self._errors.pop(shard, None)):
                raise earlier
            file.path.unlink(missing_ok=True)  # of a wrong size
            if not self._make_room({shard}, demanded=demanded):
                return _State.NO_ROOM
            # Last: who finds a shard locked takes it for being fetched.
            held.enter_context(self._folder.lock(name))
            return _State.RESERVED

    def _download(self, shard: int) -> None:
        file = self._files[shard]
        self._folder.download(self._names[shard], num_bytes=file.num_bytes, xxh3_64=file.xxh3_64)

    def _is_here(self, shard: int) -> bool:
        file = self._files[shard]
        return is_there(file.path, file.num_bytes)

    @contextlib.contextmanager
    def _cache_lock(self) -> Iterator[None]:
        try:
            self._work.mkdir(parents=True, exist_ok=True)
            with file_lock(self._work / "cache.lock"):
                yield
        except OSError as error:
            raise self._folder.local_error("its record of shards", error) from error

    def _make_room(self, wanted: set[int], *, demanded: bool) -> bool:
        """Keep the limit, also with these shards; the cache lock is held.

        Shards that are being fetched count whole.

        Returns:
            whether it is kept; nothing is deleted where it cannot be.
        """
        if self._limit is None:
            return True
        # In this order: a download that ends meanwhile counts in both, and not in neither.
        being_fetched = self._being_fetched()
        opened_at = self._opened_at()
        taken = opened_at.keys() | being_fetched | wanted
        excess = self._total_bytes(taken) - self._limit
        victims = []
        for shard in self._dispensable(opened_at, demanded=demanded) if excess > 0 else ():
            victims.append(shard)
            if self._total_bytes(victims) >= excess:
                break
        else:
            return excess <= 0
        for shard in victims:
            self._files[shard].path.unlink(missing_ok=True)
        return True

    def _dispensable(self, opened_at: dict[int, float], *, demanded: bool) -> Iterator[int]:
        """Shards that may be deleted, those first that will be missed least."""
        oldest_first = sorted(opened_at, key=opened_at.__getitem__)
        of_others = self._claims.of_others()
        own = {*self._expected, self._opened}
        yield from (shard for shard in oldest_first if shard not in own | of_others)
        if not demanded:
            return
        # Another process may be between being told a path and opening it.
        just_now = time.time() - _JUST_OPENED_SECONDS
        yield from (
            shard
            for shard in oldest_first
            if shard in of_others - own and opened_at[shard] < just_now
        )
        if self._opened is not None:  # a shard beyond those expected, which may fill the limit
            yield from (
                shard
                for shard in reversed(self._expected)
                if shard in opened_at and (shard not in of_others or opened_at[shard] < just_now)
            )

    def _opened_at(self) -> dict[int, float]:
        """When each of the shards that are here was opened last, or fetched; seconds."""
        found = {}
        with os.scandir(self._work.parent) as entries:
            for entry in entries:
                if (shard := self._numbers.get(entry.name)) is not None:
                    found[shard] = entry.stat().st_mtime
        return found

    def _being_fetched(self) -> set[int]:
        marked = (self._numbers.get(lock.stem) for lock in self._work.glob("*.lock"))
        return {
            shard
            for shard in marked
            if shard is not None and self._folder.is_being_fetched(self._names[shard])
        }

    def _total_bytes(self, shards: Iterable[int]) -> int:
        return sum(self._files[shard].num_bytes for shard in shards)

    def _limit_error(self, what: str, needed: int) -> CorpusError:
        megabytes = -(-needed // (1 << 20))
        return CorpusError(
            f"{self._folder}: {what} of {needed} bytes must be on disk together, and "
            f"data.cache_limit is {self._limit} bytes; set it to at least {megabytes}mb, better to "
            "twice that, or make the corpus with smaller shards"
        )


class _Claims:
    """Which shards the processes of the node expect; used under the cache's lock.

    A process's claim is a file that it holds locked; the lock dies with the process, so that one
    which is not locked counts no more.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"reader-{uuid.uuid4().hex}"
        self._descriptor: int | None = None

    def claim(self, shards: Iterable[int]) -> None:
        """Claim these in place of those before."""
        if self._descriptor is None:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
            weakref.finalize(self, os.close, self._descriptor)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(list(shards)).encode(), 0)

    def of_others(self) -> set[int]:
        claimed: set[int] = set()
        for file in self._file.parent.glob("reader-*"):
            if file == self._file:
                continue
            with file_lock(file, wait=False) as is_dead:
                if is_dead:
                    file.unlink()
                else:
                    claimed.update(json.loads(file.read_text()))
        return claimed
