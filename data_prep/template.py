"""Several fields joined to one text: ``"{title}\\n\\n{body}"``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from string import Formatter

from flexbert.errors import UserError


def template_fields(template: str) -> tuple[str, ...]:
    """The fields that a template names, each once.

    Raises:
        UserError: if it names none, or holds a brace that is neither a field's nor doubled.
    """
    return tuple(dict.fromkeys(name for _, name in _parse(template) if name is not None))


def fill_template(template: str, texts: Sequence[str]) -> str:
    """The template with the texts of its fields, in the order of :func:`template_fields`."""
    by_name = dict(zip(template_fields(template), texts, strict=True))
    return "".join(
        literal + ("" if name is None else by_name[name]) for literal, name in _parse(template)
    )


@functools.lru_cache(maxsize=64)
def _parse(template: str) -> tuple[tuple[str, str | None], ...]:
    """Pairs of a literal and the name of the field after it, None at the end."""
    example = 'write one such as "{title}: {body}"; a brace of the text is doubled'
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"template {template!r}: {error}; {example}") from None
    if any(name is not None and (not name or spec or how) for _, name, spec, how in parsed):
        raise UserError(
            f"template {template!r}: braces hold the name of a field and nothing else; {example}"
        )
    if not any(name for _, name, _, _ in parsed):
        raise UserError(f"template {template!r}: names no field; {example}")
    return tuple((literal, name) for literal, name, _, _ in parsed)
