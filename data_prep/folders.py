"""The files of a folder, and which of them are none of a corpus."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.hub_datasets import SAVED_DICT, SAVED_FILES
from flexbert.errors import UserError

# Why a file of a folder is left out, as the report says it.
HIDDEN = "(hidden)"
NOTEBOOK = "(notebook checkpoint)"
CARD = "(dataset card)"
LICENCE = "(licence)"

NOTEBOOK_FOLDER = ".ipynb_checkpoints"
LICENCES = re.compile(r"(licen[cs]e|copying|notice)([-_.].*)?", re.IGNORECASE)
# A licence's text has no suffix or one of these; license.py is code.
LICENCE_SUFFIXES = ("", ".txt", ".md", ".rst", ".html")
CARDS = re.compile(r"readme\.(md|rst|txt)", re.IGNORECASE)
FRONT_MATTER = b"---\n"
# A folder that holds such a file, or lies above one, holds data: its README describes them. (.json
# is not among them: repositories of code have it everywhere.)
DATA_FILE = re.compile(
    r".*\.(jsonl|ndjson|parquet|csv|tsv|arrow)(\.(gz|zst|bz2|xz))?", re.IGNORECASE
)
WILDCARD = re.compile(r"[*?[]")
URL = re.compile(r"[a-z][a-z0-9+.-]+://?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file of an input, pipes and the like included.

    Attributes:
        name: the input's last component and the path below it.
        in_folder: whether it was found in a folder rather than given itself.
        left_out: why a folder leaves it out, if it does.
    """

    path: Path
    name: str
    in_folder: bool
    left_out: str | None = None


def walk(given: str) -> tuple[str, list[Found]]:
    """The name of an input, and its files: one, those of a folder, or those that a pattern fits.

    Raises:
        UserError: if there is no such file or folder.
    """
    path = Path(given)
    if path.is_file():
        return path.name, [Found(path=path, name=path.name, in_folder=False)]
    if path.is_dir():
        root = Path(os.path.abspath(path)).name
        return root, list(_in_folder(path, root))
    matching = [] if path.exists() else sorted(glob.glob(given, recursive=True))
    if matching:
        return _pattern_name(given), [one for match in matching for one in walk(match)[1]]
    if URL.match(given) and not path.exists():
        raise UserError(
            f"{given}: inputs are files and folders of this machine, or datasets of the hub "
            "(hf:NAME); copy it here first"
        )
    what = "neither a file nor a folder" if path.exists() else "no such file or folder"
    raise UserError(f"{given}: {what}")


def _pattern_name(pattern: str) -> str:
    """A pattern from the folder on that its first wildcard is in, wherever that lies."""
    parts = Path(os.path.abspath(pattern)).parts
    first = next(number for number, part in enumerate(parts) if WILDCARD.search(part))
    return "/".join(parts[max(first - 1, 1) :])


def _in_folder(folder: Path, root: str) -> Iterator[Found]:
    """The files of a folder in sorted order."""
    inside = [path for path in folder.rglob("*") if path.exists() and not path.is_dir()]
    saved = {path.parent for path in inside if path.suffix == ".arrow"}
    with_data = {
        parent for path in inside if DATA_FILE.fullmatch(path.name) for parent in path.parents
    }
    for path in sorted(inside, key=lambda path: path.relative_to(folder).as_posix()):
        if path.name == SAVED_DICT:
            _check_one_split(path.parent)
        elif not (path.name in SAVED_FILES and path.parent in saved):
            below = path.relative_to(folder)
            yield Found(
                path=path,
                name=f"{root}/{below.as_posix()}",
                in_folder=True,
                left_out=_left_out(path, below.parts, path.parent in with_data),
            )


def _left_out(path: Path, below: tuple[str, ...], beside_data: bool) -> str | None:
    if NOTEBOOK_FOLDER in below:
        return NOTEBOOK
    if any(name.startswith(".") for name in below):
        return HIDDEN
    if path.suffix.lower() in LICENCE_SUFFIXES and LICENCES.fullmatch(path.name):
        return LICENCE
    if CARDS.fullmatch(path.name) and path.is_file() and (beside_data or _is_card(path)):
        return CARD
    return None


def _is_card(path: Path) -> bool:
    """Whether a README begins as the hub's cards do, with YAML between lines of dashes."""
    with path.open("rb") as file:
        return file.read(len(FRONT_MATTER)) == FRONT_MATTER


def _check_one_split(folder: Path) -> None:
    """Raises UserError if the saved dataset has several splits: all would become one corpus."""
    splits = [path.name for path in sorted(folder.iterdir()) if (path / "state.json").is_file()]
    if len(splits) > 1:
        raise UserError(
            f"{folder} is a saved dataset of the splits {', '.join(splits)}; name those to read, "
            f"for example {folder / splits[0]}"
        )
