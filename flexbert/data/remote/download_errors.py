"""What an error of a download means: whether to try again, and what to tell the user."""

from __future__ import annotations

from typing import Any

from flexbert.files.regular import IrregularFileError

# By name: comparing classes would mean importing seven SDKs, most of which nobody here uses.
_REFUSALS = {
    "AuthenticationException",
    "BadHostKeyException",
    "ClientAuthenticationError",
    "ConfigFileNotFound",
    "DefaultCredentialsError",
    "InvalidConfig",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
}
# What paramiko says in a plain SSHException, which elsewhere means a broken connection.
_REFUSAL_TEXTS = (
    "not found in known_hosts",
    "No authentication methods available",
    "private key file",
)


def advice_on(error: Exception, url: str) -> str | None:
    """What to do about an error that retrying does not mend; None where it may."""
    # SDKs keep an HTTP status in one of these; botocore has a dictionary for a response.
    response = getattr(error, "response", None)
    places = [error, response]
    if isinstance(response, dict):
        places.append(response.get("ResponseMetadata", {}))
    status = next(
        (
            int(value)
            for place in places
            for key in ("status_code", "status", "code", "HTTPStatusCode")
            if isinstance(value := _look_up(place, key), int)
        ),
        None,
    )
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if (isinstance(error, FileNotFoundError) and error.filename in (None, url)) or status == 404:
        return "check data.remote, and that the whole corpus was uploaded"
    if (
        isinstance(error, PermissionError)
        or status in (401, 403)
        # paramiko also calls it so when the connection drops meanwhile.
        or (names & _REFUSALS and "EOF" not in text)
        or any(known in text for known in _REFUSAL_TEXTS)
    ):
        return "access is refused: docs/remote.md says which credentials each scheme reads"
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return "check data.remote and the files that its credentials lie in"
    if isinstance(error, IrregularFileError):
        return "check data.remote: a corpus is made of plain files"
    if isinstance(error, ImportError):
        return "install the package that it names"
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return "the remote refuses such a request; check data.remote"
    if type(error).__module__ == "builtins" and not isinstance(error, OSError | EOFError):
        return "check data.remote; docs/remote.md says what it may be"
    return None


def text_of(error: Exception) -> str:
    """What an error says, in one line that is not empty."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and not error.filename:
        text = error.strerror  # without the number, which some of paramiko's lack
    elif isinstance(error, EOFError):
        text = "connection dropped"
    return " ".join(text.split()).rstrip(" .:") or type(error).__name__


def _look_up(place: Any, key: str) -> Any:
    return place.get(key) if isinstance(place, dict) else getattr(place, key, None)
