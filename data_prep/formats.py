"""The formats of input files, and what a file's name says of its own."""

from __future__ import annotations

from pathlib import Path

from data_prep.compression import is_compressed_text

TEXT, JSONL, PARQUET, CSV, ARROW = "text", "jsonl", "parquet", "csv", "arrow"
TSV, HTML, LINES = "tsv", "html", "lines"
FORMATS = (TEXT, JSONL, PARQUET, CSV, ARROW, TSV, HTML, LINES)
# Those that are cut into ranges of bytes, since rows are lines.
LINE_FORMATS = (JSONL, LINES)
DATASET = "dataset"
# One document a file. fmt: off
TEXT_SUFFIXES = (
    ".txt",
    ".text",
    ".md",
    ".rst",
    ".org",
    ".tex",
    ".xml",
    ".yaml",
    ".yml",
    ".toml",
    ".py",
    ".pyi",
    ".c",
    ".h",
    ".cc",
    ".cpp",
    ".hpp",
    ".cu",
    ".go",
    ".java",
    ".js",
    ".ts",
    ".rs",
    ".rb",
    ".jl",
    ".r",
    ".sql",
    ".sh",
    ".css",
)
# fmt: on
FORMAT_OF_SUFFIX = {
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".json": JSONL,
    ".parquet": PARQUET,
    ".csv": CSV,
    ".tsv": TSV,
    ".arrow": ARROW,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    **dict.fromkeys(TEXT_SUFFIXES, TEXT),
}
FIELD_FORMATS = frozenset({JSONL, PARQUET, CSV, ARROW, TSV, DATASET})
# The formats that have a use for an option of an input.
OPTION_FORMATS = {
    "text_field": FIELD_FORMATS,
    "template": FIELD_FORMATS,
    "label_field": FIELD_FORMATS,
    "delimiter": frozenset({CSV, TSV}),
    "quotes": frozenset({CSV, TSV}),
}
# Suffixes that came later than the first corpora.
RECENT_SUFFIXES = frozenset({".tsv", ".htm", ".xhtml", ".bz2", ".xz"})


def format_of(path: Path) -> str | None:
    """The format that a file's name says, if any."""
    if not is_compressed_text(path):
        return FORMAT_OF_SUFFIX.get(path.suffix.lower())
    format_ = FORMAT_OF_SUFFIX.get(path.with_suffix("").suffix.lower())
    return None if format_ in (PARQUET, ARROW) else format_


def suffix_of(path: Path) -> str:
    """What a file's name ends with; of a compressed one, both suffixes."""
    return "".join(path.suffixes[-2:]) if is_compressed_text(path) else path.suffix


def is_recent(path: Path) -> bool:
    return any(suffix.lower() in RECENT_SUFFIXES for suffix in path.suffixes[-2:])
