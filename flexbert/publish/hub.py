"""A repository of models on the Hugging Face Hub, whose failures are one line each.

``huggingface_hub`` repeats some requests where the Hub fails for a moment, not those that make a
repository, a branch or a commit. Here each is repeated. All of them may be: what was done, though
its answer was lost, is found to be done.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from flexbert import __version__
from flexbert.errors import UserError, first_line

T = TypeVar("T")
# Seconds before each further attempt.
WAITS = (1.0, 3.0, 9.0)
_TOO_MANY, _TIMED_OUT, _CONFLICT, _NOT_FOUND = 429, 408, 409, 404
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_ADDRESS = re.compile(r"https?://\S+")
MAIN = "main"


class HubError(UserError):
    """The Hub cannot be reached, or refuses what was asked."""


class HubRepository:
    """
    Args:
        name: ``OWNER/NAME``.
        repeat: whether a request is made again where the Hub fails or cannot be reached.

    Raises:
        UserError: if no repository can have that name.
    """

    def __init__(self, name: str, repeat: bool = True) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import logging, validate_repo_id

        if not _NAME.fullmatch(name):
            raise UserError(f"{name!r}: no repository's name; give OWNER/NAME, as my-team/my-model")
        try:
            validate_repo_id(name)
        except ValueError as error:
            raise UserError(f"{name!r}: no repository's name ({first_line(error)})") from None
        # What it says of requests that it repeats has addresses with signatures in it.
        logging.set_verbosity_error()
        self.name = name
        self._waits = WAITS if repeat else ()
        self._api = HfApi(library_name="flexbert", library_version=__version__)

    @property
    def address(self) -> str:
        return f"{self._api.endpoint}/{self.name}"

    def require_token(self) -> None:
        """Raises: UserError if there is no token to write with."""
        from huggingface_hub import get_token

        if not get_token():
            raise UserError(
                f"{self._api.endpoint}: no token to write with; log in with hf auth login, or set "
                "HF_TOKEN"
            )

    def branches(self) -> dict[str, str] | None:
        """Name to head commit of every branch; None where there is no such repository, or none
        that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def call() -> dict[str, str] | None:
            try:
                refs = self._api.list_repo_refs(self.name)
            except RepositoryNotFoundError as error:
                if _is_bad_token(error):
                    raise
                return None
            return {branch.name: branch.target_commit for branch in refs.branches}

        return self._repeated("looked up", call)

    def create(self, *, private: bool) -> None:
        """Make the repository, unless it is there.

        Raises:
            UserError: if it is there and public, and is to be private.
        """

        def call() -> bool:
            # Left to the owner's settings unless asked for.
            self._api.create_repo(self.name, private=private or None, exist_ok=True)
            return bool(self._api.model_info(self.name).private)

        is_private = self._repeated("made", call)
        if private and not is_private:
            raise UserError(
                f"{self.address}: is public, and --private does not change that; make it private "
                "in its settings first, or give another name"
            )

    @cached_property
    def first_commit(self) -> str:
        """The commit that the repository began with, which holds no model."""

        def call() -> str:
            commits = self._api.list_repo_commits(self.name)
            return commits[-1].commit_id

        return self._repeated("looked up", call)

    def files(self, commit: str) -> set[str]:
        """Names of the files that a commit holds."""
        return self._repeated(
            "looked up", lambda: set(self._api.list_repo_files(self.name, revision=commit))
        )

    def read(self, commit: str, file: str) -> bytes:
        """The content of a small file of a commit."""

        def call() -> bytes:
            with tempfile.TemporaryDirectory() as cache:
                path = self._api.hf_hub_download(self.name, file, revision=commit, cache_dir=cache)
                return Path(path).read_bytes()

        return self._repeated("read", call)

    def create_branch(self, branch: str) -> None:
        """Make a branch at the repository's first commit, unless it is there."""
        start = self.first_commit
        self._repeated(
            f"given the branch {branch}",
            lambda: self._api.create_branch(
                self.name, branch=branch, revision=start, exist_ok=True
            ),
        )

    def commit(
        self,
        branch: str,
        files: Mapping[str, Path | bytes],
        message: str,
        deleted: Iterable[str] = (),
    ) -> str:
        """Add files to a branch, and delete others, in one commit.

        Args:
            files: by their names there.

        Returns:
            The branch's head commit.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()  # transformers has turned them on since

        def call() -> str:
            # An operation is good for one attempt.
            adds = [
                CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in files.items()
            ]
            deletes = [CommitOperationDelete(path_in_repo=name) for name in deleted]
            made = self._api.create_commit(
                self.name, [*adds, *deletes], commit_message=message, revision=branch
            )
            return str(made.oid)

        return self._repeated(f"given a commit on {branch}", call)

    def _repeated(self, done: str, call: Callable[[], T]) -> T:
        for wait in (*self._waits, None):
            try:
                return call()
            # The network and the libraries below raise all kinds of errors.
            except Exception as error:
                if wait is None or not _is_passing(error):
                    problem = _problem(error)
                    raise HubError(f"{self.address}: cannot be {done}: {problem}") from None
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def _status(error: BaseException | None) -> int | None:
    """The status that the Hub answered with; None where there was no answer."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None


def _is_passing(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    status = _status(error)
    if status is not None:
        return status in (_TOO_MANY, _TIMED_OUT, _CONFLICT) or status >= 500
    return _is_of_the_network(error)


def _is_of_the_network(error: BaseException | None) -> bool:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    while error is not None:
        if isinstance(error, HTTPError | ConnectionError | TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_bad_token(error: Exception) -> bool:
    message = str(getattr(getattr(error, "response", None), "headers", {}).get("x-error-message"))
    return "credentials" in message


def _problem(error: Exception) -> str:
    """What went wrong, without addresses: some carry signatures."""
    status = _status(error)
    said = getattr(error, "server_message", None)
    detail = f": {_ADDRESS.sub('...', ' '.join(str(said).split()))}" if said else ""
    if status == 401:
        return "the Hub does not know the token (401); log in with hf auth login, or set HF_TOKEN"
    if status == 403:
        return f"the token may not write there (403){detail}"
    if status == _NOT_FOUND:
        return f"the Hub knows no such thing, or the token may not see it (404){detail}"
    if status is not None:
        again = "; the same command goes on" if _is_passing(error) else ""
        return f"the Hub answered {status}{detail}{again}"
    reason = _ADDRESS.sub("...", first_line(error))
    if _is_of_the_network(error):
        return f"no connection to the Hub ({reason}); the same command goes on"
    return _ADDRESS.sub("...", " ".join(str(error).split())) or reason
