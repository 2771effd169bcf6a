"""The pages of the repository and the blocks of code on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
)
_BLOCK = re.compile(
    r"(?:<!-- (?P<comment>[^>]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block.

    Attributes:
        comment: the HTML comment on the line before it; empty where there is none.
        number: its place among the page's blocks.
    """

    page: Path
    number: int
    language: str
    text: str
    comment: str

    @property
    def name(self) -> str:
        return f"{self.page.stem}-{self.number}"

    def reason(self, label: str) -> str | None:
        """What stands behind ``label:`` in the comment; None without such a comment."""
        start, colon, reason = self.comment.partition(":")
        return reason.strip() if colon and start == label else None


def code_blocks(*languages: str) -> list[CodeBlock]:
    """The blocks of these languages, in the order of the pages."""
    blocks = []
    for page in PAGES:
        for number, found in enumerate(_BLOCK.finditer(page.read_text())):
            if found["language"] in languages:
                blocks.append(
                    CodeBlock(
                        page, number, found["language"], found["text"], found["comment"] or ""
                    )
                )
    return blocks
