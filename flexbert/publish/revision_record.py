"""``flexbert.json`` of a revision: what it was made of, by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flexbert import __version__
from flexbert.config.encode import encode
from flexbert.config.plain_values import as_dict, count, dict_of, text, value_of
from flexbert.huggingface.families import transformers_version

RECORD = "flexbert.json"
CARD = "README.md"
RECIPE = "recipe.yaml"
# Written anew where what they say has changed, without another upload of the weights.
TEXTS = (CARD, RECIPE)


@dataclass(frozen=True, kw_only=True)
class RevisionRecord:
    """
    Attributes:
        run: its name.
        checkpoint: the hash that the checkpoint's file carries.
        stage, step, tokens: as of ``RunCheckpoint``; None for an average.
        files: SHA-256 by name of every file of the revision but this one.
        flexbert, transformers: versions that the weights were exported with.
    """

    run: str
    checkpoint: str
    stage: str | None
    step: int | None
    tokens: int | None
    files: Mapping[str, str]
    flexbert: str = __version__
    transformers: str = field(default_factory=transformers_version)

    def text(self) -> str:
        return json.dumps(encode(self), indent=2) + "\n"

    @classmethod
    def parse(cls, content: bytes) -> RevisionRecord:
        """Read a file's content; keys that this version does not know are passed over.

        Raises:
            KeyError, TypeError, ValueError: if it is none.
        """
        plain = as_dict(json.loads(content))
        stage, step, tokens = (plain.get(key) for key in ("stage", "step", "tokens"))
        return cls(
            run=value_of(plain, "run", text),
            checkpoint=value_of(plain, "checkpoint", text),
            stage=None if stage is None else text(stage),
            step=None if step is None else count(step),
            tokens=None if tokens is None else count(tokens),
            files=dict_of(plain, "files", text),
            flexbert=value_of(plain, "flexbert", text),
            transformers=value_of(plain, "transformers", text),
        )


def hashed_folder(folder: Path) -> dict[str, str]:
    """SHA-256 by name of every file in a folder, those in folders of it too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def text_digest(content: str | bytes) -> str:
    """SHA-256 of a text in UTF-8, as :func:`hashed_folder` gives it."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
