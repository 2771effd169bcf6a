"""What a corpus is made from: kept in its folder, so that a restart is sure to be the same."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flexbert.errors import UserError

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that the bytes of a corpus depend on.

    Attributes:
        files: ``InputFile.fingerprint`` of every input, in order.
    """

    tokenizer_sha256: str
    text_field: str
    validation: float
    shard_bytes: int
    part_bytes: int
    files: list[dict[str, Any]]

    def claim(self, corpus: Path) -> None:
        """Write this manifest into a new folder, or check that the folder was begun with it.

        Raises:
            UserError: naming the first difference, or if the folder holds something else.
        """
        file = corpus / MANIFEST_FILE
        if file.is_file():
            difference = _difference(json.loads(file.read_text()), asdict(self))
            if difference:
                raise UserError(
                    f"{corpus} was made from something else: {difference}; "
                    "choose another --out, or delete the folder to make it anew"
                )
            return
        if any(not path.name.startswith(".") for path in corpus.iterdir()):
            raise UserError(f"{corpus} is neither empty nor a corpus; choose another --out")
        temporary = corpus / f".{MANIFEST_FILE}.tmp"
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(file)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first difference of two manifests in words; empty if there is none."""
    for key, value in now.items():
        if key != "files" and before.get(key) != value:
            return f"{key} was {before.get(key)!r}, now {value!r}"
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
        for key, value in file_now.items():
            if file_before[key] != value:
                return (
                    f"input {file_now['name']} has changed "
                    f"({key} was {file_before[key]}, now {value})"
                )
    return ""
