"""Inputs with options of their own: ``data.tsv:field=body:label=news``, or a list in YAML.

A path that exists is taken as it stands, whatever it looks like. Otherwise options begin at the
first colon that a known form ``:key=`` follows, so that ``C:\\data``, ``hf:NAME:CONFIG`` and
``https://host?a=b`` stay whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data_prep.formats import FORMATS
from data_prep.rows import Fields
from data_prep.template import template_fields
from data_prep.values import unescaped
from flexbert.config.yaml_text import read_yaml
from flexbert.errors import UserError, did_you_mean, first_line
from flexbert.files.regular import read_regular

FORMAT = "format"
# Options of an input by their key, and the attribute of Fields that each sets.
ATTRIBUTES = {
    "text_field": "text",
    "template": "template",
    "label_field": "label",
    "label": "constant_label",
    "delimiter": "delimiter",
    "quotes": "quotes",
    "html": "html",
}
OPTIONS = (FORMAT, *ATTRIBUTES)
SHORT = {"field": "text_field"}
SWITCHES = {"true": True, "false": False}
EXCLUSIVE = (("text_field", "template"), ("label_field", "label"))
DELIMITER_NAMES = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|"}
OPTION = re.compile(r":([a-z_]+)=")
NO_WEIGHTS = (
    "weight: a corpus has no weights, each of its documents is in it once; give the input a label "
    "and weigh labels in the recipe (data.sources.NAME.upsample.labels), or make it a corpus of "
    "its own and weigh that (data.sources.NAME.weight)"
)


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input as it was given.

    Attributes:
        options: its own, by key, checked.
        place: where it was given, for messages; by default its path.
    """

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    def __str__(self) -> str:
        return self.place or self.path


def parse_input(text: str) -> Input:
    """An input of the command line.

    Raises:
        UserError: for an option that there is not, or a value that it cannot have.
    """
    first = OPTION.search(text)
    if first is None or first.start() == 0 or os.path.exists(text):
        return Input(path=text)
    path, rest = text[: first.start()], text[first.start() :]
    found = list(OPTION.finditer(rest))
    ends = [match.start() for match in found[1:]] + [len(rest)]
    options: dict[str, Any] = {}
    for match, end in zip(found, ends, strict=True):
        key, value = SHORT.get(match[1], match[1]), rest[match.end() : end]
        if key in options:
            raise UserError(f"{text}: {key} is given twice")
        switch = key in ("quotes", "html")
        options[key] = SWITCHES.get(value, value) if switch else unescaped(value)
    return Input(path=path, options=_checked(options, text, (*SHORT, *OPTIONS)), place=text)


def read_inputs_file(file: Path) -> list[Input]:
    """The inputs that a YAML file lists; relative paths begin at its folder.

    Raises:
        UserError: if the file cannot be read, or an entry is no input.
    """
    try:
        listed = read_yaml(read_regular(file).decode())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, ValueError, UserError) as error:
        raise UserError(f"{file}: not a list of inputs in YAML ({first_line(error)})") from None
    if not isinstance(listed, list) or not listed:
        raise UserError(
            f"{file}: expected a list of inputs, each a path or {{path, {', '.join(OPTIONS)}}}"
        )
    return [_entry(entry, file, f"{file}: input {n}") for n, entry in enumerate(listed, 1)]


def _entry(entry: Any, file: Path, place: str) -> Input:
    options = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(options, dict):
        raise UserError(f"{place}: expected a path or a mapping, got {entry!r}")
    path = options.pop("path", None)
    if not isinstance(path, str) or not path:
        raise UserError(f"{place}: path: expected a file, a folder or hf:NAME, got {path!r}")
    place = f"{place} ({path})"
    is_dataset = path.startswith("hf:")
    return Input(
        path=path if is_dataset else str(file.parent / Path(path).expanduser()),
        options=_checked(options, place),
        place=place,
    )


def _checked(
    options: Mapping[str, Any], place: str, known: Sequence[str] = OPTIONS
) -> dict[str, Any]:
    """The options in the form that ``Fields`` has them in; null is as if not given."""
    checked: dict[str, Any] = {}
    for key, value in options.items():
        if key == "weight":
            raise UserError(f"{place}: {NO_WEIGHTS}")
        if key not in known:
            raise UserError(f"{place}: {key}: no such option; {did_you_mean(str(key), known)}")
        if value is not None:
            checked[key] = _value(key, value, place)
    for one, other in EXCLUSIVE:
        if one in checked and other in checked:
            raise UserError(f"{place}: {one} and {other} exclude each other; give one of them")
    return checked


def _value(key: str, value: Any, place: str) -> Any:
    if key in ("quotes", "html"):
        if not isinstance(value, bool):
            raise UserError(f"{place}: {key}: expected true or false, got {value!r}")
        return value
    if not isinstance(value, str) or not value:
        raise UserError(f"{place}: {key}: expected a text, got {value!r}")
    if key == FORMAT and value not in FORMATS:
        raise UserError(f"{place}: format {value}: {did_you_mean(value, FORMATS)}")
    try:
        if key == "delimiter":
            return delimiter(value)
        if key == "template":
            template_fields(value)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return value


def delimiter(text: str) -> str:
    """What separates the fields of a CSV file: one character, or its name.

    Raises:
        UserError: if it is neither.
    """
    character = DELIMITER_NAMES.get(text, text)
    if len(character) != 1 or character in '"\r\n\0':
        names = ", ".join(name for name in DELIMITER_NAMES if name.isalpha())
        raise UserError(f"delimiter {text!r}: expected one character, or {names}")
    return character


def fields_of(given: Input, defaults: Fields) -> Fields:
    """What to take of the rows of an input; what it says itself goes before the command's own."""
    own = {name: given.options[key] for key, name in ATTRIBUTES.items() if key in given.options}
    for one, other in EXCLUSIVE:
        for key, excluded in ((one, other), (other, one)):
            if key in given.options and excluded != "text_field":
                own[ATTRIBUTES[excluded]] = None
    return replace(defaults, **own)
