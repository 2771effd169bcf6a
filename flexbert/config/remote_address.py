"""Addresses of remote corpora: secrets in them are used, and neither shown nor stored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from flexbert.config.environment import (
    HIDDEN,
    REFERENCE,
    EnvironmentText,
    expanded,
    kept,
    referred_values,
)
from flexbert.errors import UserError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Of a presigned address and the like; any parameter whose name says so.
_SECRET_PARAMETER = re.compile(
    r"(?P<name>[?&;#][^=&;#]*(?:sig|token|passw|pwd|secret|key|credential|auth)[^=&;#]*=)"
    r"(?P<secret>[^&;#]*)",
    re.IGNORECASE,
)
# A shorter value of the environment is no secret, and would be found in half of all words.
_SHORTEST_VALUE = 4


@dataclass(frozen=True, repr=False)
class RemoteAddress:
    """Where a corpus lies: a folder, or ``s3://...``, ``sftp://...`` and what else is downloaded.

    ``str`` of it is for people and files: it has ``${oc.env:NAME}`` where the recipe has it, and
    ``***`` in place of a password or a token that the recipe spells out.

    Attributes:
        text: as the recipe has it, references not replaced.
    """

    text: str

    @classmethod
    def parse(cls, node: Any) -> RemoteAddress:
        """Read an address from its YAML spelling.

        Raises:
            ValueError: if it is not a text.
        """
        if isinstance(node, RemoteAddress):
            return node
        if not isinstance(node, str) or not node:
            shown = "a text that is empty" if node == "" else f"a {type(node).__name__}"
            raise ValueError(f"expected a folder or an address such as s3://..., got {shown}")
        return cls(kept(node) if isinstance(node, EnvironmentText) else node)

    @property
    def address(self) -> str:
        """The address itself, for the downloader alone.

        Raises:
            UserError: if a variable of the environment is not set, or this was stored without its
                password.
        """
        if any(secret == HIDDEN for _, secret in _secrets(self.text)):
            raise UserError(
                f"{self}: what the recipe spelled out as {HIDDEN} was a secret and is not stored; "
                "put it in the environment and write ${oc.env:NAME} in its place"
            )
        return expanded(self.text)

    def plain(self) -> str:
        """What is stored, and what :meth:`parse` reads back."""
        return redacted(self.text)

    def __str__(self) -> str:
        return self.plain()

    def __repr__(self) -> str:
        return f"RemoteAddress({self.plain()!r})"

    def redact(self, message: str) -> str:
        """Another library's message without the address's secrets, however it writes them."""
        values = referred_values(self.text)
        address = REFERENCE.sub(lambda match: values.get(match[0], match[0]), self.text)
        instead = {v: ref for ref, v in values.items() if len(v) >= _SHORTEST_VALUE}
        for _, secret in (*_secrets(self.text), *_secrets(address)):
            if REFERENCE.sub("", secret):
                # Whole, and as what takes an address apart at these makes of it.
                split = [text for text in re.split(r"[/?#@]", secret) if len(text) > 1]
                instead = {**dict.fromkeys((secret, *split), HIDDEN), **instead}
        spelled = {
            spelling: replacement
            for secret, replacement in instead.items()
            for spelling in (secret, unquote(secret), quote(secret, safe=""), repr(secret)[1:-1])
        }
        for secret in sorted(spelled, key=len, reverse=True):
            message = message.replace(secret, spelled[secret])
        return message


def redacted(text: str) -> str:
    """A text with ``***`` in place of the passwords and tokens of an address in it."""
    # From the end, so that places stay what they are.
    for begin, secret in sorted(_secrets(text), reverse=True):
        if secret and REFERENCE.sub("", secret):
            text = f"{text[:begin]}{HIDDEN}{text[begin + len(secret) :]}"
    return text


def _secrets(text: str) -> list[tuple[int, str]]:
    """Where a password or a token stands in an address, and what it is."""
    found = [(match.start("secret"), match["secret"]) for match in _SECRET_PARAMETER.finditer(text)]
    if scheme := _SCHEME.search(text):
        begin = scheme.end()
        host = re.split(r"[/?#]", text[begin:])[0]
        # A password's own slash ends no host: what is no host with its port is not believed.
        user = (text[begin:] if _is_no_host(host) else host).rpartition("@")[0]
        plain = REFERENCE.sub(lambda match: "x" * len(match[0]), user)
        if (colon := plain.find(":")) >= 0:
            found.append((begin + colon + 1, user[colon + 1 :]))
    return found


def _is_no_host(text: str) -> bool:
    """Whether a password with a slash in it was cut: ``user:pass`` of ``user:pass/word@host``."""
    plain = REFERENCE.sub("x", text)
    _, colon, port = plain.partition(":")
    return bool(colon) and "@" not in plain and not port.isdecimal()
