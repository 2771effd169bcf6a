"""Texts of a recipe that are from the environment: used by value, shown and stored by reference.

A recipe says ``${oc.env:NAME}``. What keeps the reference is a text of role ``operational`` (where
a corpus lies, whose account is used): a secret stands in such a key if anywhere. Every other key
keeps its value, because a checkpoint has to be the same recipe on every machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from flexbert.errors import UserError

RESOLVER = "oc.env"
REFERENCE = re.compile(r"\$\{oc\.env:([^${}]+)\}")
HIDDEN = "***"  # stands for what cannot be stored
_NO_DEFAULT = object()


class EnvironmentText(str):
    """A text that values of the environment stand in.

    Attributes:
        reference: the text with ``${oc.env:NAME}`` in their places, or ``***`` where it is more
            than these places.
    """

    reference: str

    def __new__(cls, value: str, reference: str) -> EnvironmentText:
        text = super().__new__(cls, value)
        text.reference = reference
        return text

    def plain(self) -> str:
        """What is stored."""
        return self.reference

    def __repr__(self) -> str:  # what messages quote
        return repr(self.reference)

    def __reduce__(self) -> tuple[type[EnvironmentText], tuple[str, str]]:
        return EnvironmentText, (str(self), self.reference)


def expanded(text: str) -> str:
    """A text with the values of the environment that it refers to.

    Raises:
        UserError: naming a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        if (found := os.environ.get(match[1])) is None:
            raise UserError(f"{match[0]}: the environment has no variable {match[1]}; set it")
        return found

    return REFERENCE.sub(value, text)


def referred_values(text: str) -> dict[str, str]:
    """Reference to value of everything in a text that the environment has."""
    found = {match[0]: os.environ.get(match[1], "") for match in REFERENCE.finditer(text)}
    return {reference: value for reference, value in found.items() if value}


@contextmanager
def environment_by_reference() -> Iterator[None]:
    """While this lasts, omegaconf resolves ``${oc.env:NAME}`` to itself.

    A default that is used is no value of the environment, and is taken.
    """

    def reference(name: str, default: Any = _NO_DEFAULT) -> Any:
        if default is not _NO_DEFAULT and name not in os.environ:
            return oc.env(name, default)
        return f"${{{RESOLVER}:{name}}}"

    with _resolver(reference):
        yield


@contextmanager
def environment_noted(taken: dict[str, str]) -> Iterator[None]:
    """While this lasts, omegaconf notes which values it takes of the environment, by reference."""

    def value(name: str, default: Any = _NO_DEFAULT) -> Any:
        if name in os.environ:
            taken[f"${{{RESOLVER}:{name}}}"] = os.environ[name]
        return oc.env(name) if default is _NO_DEFAULT else oc.env(name, default)

    with _resolver(value):
        yield


@contextmanager
def _resolver(resolve: Any) -> Iterator[None]:
    OmegaConf.register_resolver(RESOLVER, resolve, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_resolver(RESOLVER, oc.env, replace=True)


def with_references(values: Any, references: Any) -> Any:
    """A resolved tree whose texts know their references.

    Args:
        references: the same tree, resolved by :func:`environment_by_reference`.
    """
    if isinstance(values, Mapping):
        other = references if isinstance(references, Mapping) else {}
        return {key: with_references(item, other.get(key)) for key, item in values.items()}
    if isinstance(values, list):
        others = references if isinstance(references, list) else []
        others = others if len(others) == len(values) else [None] * len(values)
        return [with_references(*pair) for pair in zip(values, others, strict=True)]
    if isinstance(values, str) and values != references:
        reference = references if isinstance(references, str) else HIDDEN
        return EnvironmentText(values, reference)
    return values


def kept(text: EnvironmentText) -> str:
    """The reference that a key is stored by.

    Raises:
        ValueError: if there is none.
    """
    if text.reference == HIDDEN:
        raise ValueError(
            "is one of several values out of one variable of the environment, and is stored by "
            "reference: give it a ${oc.env:NAME} of its own"
        )
    return text.reference


def by_reference(text: str) -> str:
    """The text of a key that is stored by reference, as a typed config holds it.

    Raises:
        ValueError: if it cannot be stored so.
        UserError: if a variable is not set.
    """
    if isinstance(text, EnvironmentText):
        kept(text)
        return text
    value = expanded(text)
    return text if value == text else EnvironmentText(value, text)


def without_values(text: str, taken: Mapping[str, str]) -> str:
    """A message with references in place of the values that it quotes, the longest first."""
    for reference, value in sorted(taken.items(), key=lambda pair: -len(pair[1])):
        if value:
            text = text.replace(value, reference)
    return text
