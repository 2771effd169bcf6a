"""What a corpus is made from: kept in its folder, so that a restart is sure to be the same."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flexbert.errors import UserError, first_line
from flexbert.files.durable import write_text
from flexbert.files.regular import load_json

MANIFEST_FILE = "manifest.json"
# Of the folders of parts. A corpus that another version began is begun again.
PARTS_FORMAT = 4
WHOLE = "0/1"


@dataclass(frozen=True, kw_only=True)
class CorpusManifest:
    """Everything that the bytes of a corpus depend on.

    Attributes:
        fields: ``Fields`` of the rows, by name.
        task: which parts the folder holds: "i/n", i from 0, holds every n-th; all of them: "0/1".
        files: ``InputFile.fingerprint`` of every input, in order.
    """

    parts_format: int = PARTS_FORMAT
    tokenizer_sha256: str
    fields: dict[str, Any]
    validation: float
    deduplicate: bool
    shard_bytes: int
    part_bytes: int
    task: str = WHOLE
    files: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> CorpusManifest:
        """Raises UserError if the folder has no manifest that this version can read."""
        file = folder / MANIFEST_FILE
        try:
            manifest = cls(**_recorded(file))
        except TypeError as error:
            raise UserError(f"{file}: not a manifest of this version ({error})") from None
        if manifest.parts_format != PARTS_FORMAT:
            raise UserError(f"{file}: made by another version of data_prep; make the folder again")
        if not re.fullmatch(r"[0-9]{1,6}/[1-9][0-9]{0,5}", str(manifest.task)):
            raise UserError(f"{file}: not a manifest of this version (its task)")
        return manifest

    def claim(self, corpus: Path) -> None:
        """Write this manifest into a new folder, or check that the folder was begun with it.

        Raises:
            UserError: naming the first difference, or if the folder holds something else.
        """
        file = corpus / MANIFEST_FILE
        if file.is_file():
            difference = describe_difference(_recorded(file), asdict(self))
            if difference:
                raise UserError(
                    f"{corpus} was made from something else: {difference}; "
                    "choose another --out, or delete the folder to make it again"
                )
            return
        if any(not path.name.startswith(".") for path in corpus.iterdir()):
            raise UserError(f"{corpus} is neither empty nor a corpus; choose another --out")
        write_text(file, json.dumps(asdict(self), indent=1) + "\n")


def begun_with(corpus: Path) -> dict[str, str] | None:
    """The format by name of the files that a corpus was begun with; None where none was begun.

    Raises:
        UserError: if its manifest cannot be read.
    """
    file = corpus / MANIFEST_FILE
    if not file.is_file():
        return None
    return {entry["name"]: str(entry.get("format")) for entry in _recorded(file)["files"]}


def _recorded(file: Path) -> dict[str, Any]:
    """What a manifest's file holds; raises UserError if it is none."""
    try:
        record: dict[str, Any] = load_json(file)
        record["fields"].items()
        [entry["name"].strip() for entry in record["files"]]
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: not a manifest of this version ({first_line(error)})") from None
    return record


def describe_difference(
    before: dict[str, Any], now: dict[str, Any], *, ignored: Collection[str] = ()
) -> str:
    """The first difference of two manifests in words; empty if there is none.

    Args:
        ignored: what of an input file may differ.
    """
    was, is_now = _flat(before), _flat(now)
    for key in {**is_now, **was}:
        if was.get(key) != is_now.get(key):
            return f"{key} was {was.get(key)!r}, now {is_now.get(key)!r}"
    # Two inputs may bear one name (a/x.txt and b/x.txt), so names are counted and not looked up.
    names_before = [file["name"] for file in before["files"]]
    names_now = [file["name"] for file in now["files"]]
    for name in Counter(names_now) - Counter(names_before):
        return f"input {name} is new"
    for name in Counter(names_before) - Counter(names_now):
        return f"input {name} is missing"
    if names_before != names_now:
        return "the inputs come in another order"
    for file_before, file_now in zip(before["files"], now["files"], strict=True):
        for key in {**file_now, **file_before}:
            if key not in ignored and file_before.get(key) != file_now.get(key):
                return (
                    f"input {file_now['name']} has changed "
                    f"({key} was {file_before.get(key)}, now {file_now.get(key)})"
                )
    return ""


def _flat(manifest: dict[str, Any]) -> dict[str, Any]:
    """The settings of a manifest, those of ``fields`` as ``fields.NAME``."""
    settings = {key: value for key, value in manifest.items() if key not in ("fields", "files")}
    fields = manifest.get("fields", {})
    return {**settings, **{f"fields.{key}": value for key, value in fields.items()}}
