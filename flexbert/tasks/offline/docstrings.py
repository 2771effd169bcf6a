"""The parts of a docstring: its summary, paragraphs of prose, and what it says to see also."""

from __future__ import annotations

import inspect
import re

# A line of names, and perhaps what they do: ``ifft, :func:`rfft` : the inverse``.
_ENTRY = re.compile(r"(?::\w+:)?`{0,2}~?([A-Za-z_][\w.]*)`{0,2}")
_UNDERLINE = re.compile(r"^[-=~]{3,}\s*$")
_SEE_ALSO = re.compile(r"^see also:?$", re.IGNORECASE)
# Sphinx's roles, double backticks and links: what they hold is text.
_ROLE = re.compile(r":[\w:+-]+:`~?\.?([^`<]*?)(?:\s*<[^`>]*>)?`_{0,2}")
_MARKED = re.compile(r"[`*]{1,2}([^`*<]+?)(?:\s*<[^`>]*>)?[`*]{1,2}_{0,2}")
_NO_LETTER = re.compile(r"[\d_]|[^\w ]")
# A share of characters that are no letters or spaces; formulas, tables and examples have more.
MOST_OTHERS = 0.15


def clean(docstring: str) -> str:
    """A docstring without its indentation and surrounding blank lines."""
    return inspect.cleandoc(docstring)


def summary_of(docstring: str) -> str:
    """The first paragraph in one line without markup; empty if it is no prose.

    Args:
        docstring: cleaned, as everywhere in this module.
    """
    return "".join(prose_paragraphs(docstring.partition("\n\n")[0]))


def prose_paragraphs(docstring: str) -> list[str]:
    """Paragraphs that are sentences, each in one line without markup.

    Examples, tables, lists of parameters and section titles are left out: they name what they are
    about, or say nothing.
    """
    found = []
    for paragraph in docstring.split("\n\n"):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        if not lines or any(_is_no_prose(line) for line in lines):
            continue
        # Hanging indents are lists of parameters.
        if len({len(line) - len(line.lstrip()) for line in lines}) > 1:
            continue
        text = plain_prose(" ".join(line.strip() for line in lines))
        others = len(_NO_LETTER.findall(text))
        if text and text[0].isupper() and others <= MOST_OTHERS * len(text):
            found.append(text)
    return found


def plain_prose(text: str) -> str:
    """A text in one line, its markup removed."""
    text = _ROLE.sub(r"\1", text)
    text = _MARKED.sub(r"\1", text)
    return " ".join(text.split())


def _is_no_prose(line: str) -> bool:
    text = line.strip()
    return (
        text.startswith((">>>", "...", "..", "@", ":", "|", "+", "-", "*", "#", "{", "<"))
        or text.endswith("::")
        or bool(_UNDERLINE.match(text))
    )


def see_also(docstring: str) -> list[str]:
    """Names in the "See Also" section of numpy's docstring format, as they are written there."""
    lines = docstring.split("\n")
    names: list[str] = []
    for number, line in enumerate(lines[:-1]):
        if _SEE_ALSO.match(line.strip()) and _UNDERLINE.match(lines[number + 1].strip()):
            for entry in lines[number + 2 :]:
                if _UNDERLINE.match(entry.strip()):
                    # The line before it was the next section's title.
                    return names[:-1]
                if entry and not entry[0].isspace():
                    names += _names_of(entry)
    return names


def _names_of(entry: str) -> list[str]:
    listed = re.split(r"\s:\s|:\s|\s-\s", entry, maxsplit=1)[0]
    found = []
    for name in listed.split(","):
        match = _ENTRY.fullmatch(name.strip())
        if match:
            found.append(match.group(1))
    return found
