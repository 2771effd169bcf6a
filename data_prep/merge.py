"""``python -m data_prep merge``: the parts that several machines made become one corpus.

The result is the same, byte for byte, as that of one machine that made all parts. The folders are
only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from data_prep.build_corpus import (
    PARTS_FOLDER,
    SHARD_FILE,
    ShardRecord,
    is_complete,
    only_writer,
    write_corpus,
)
from data_prep.corpus_manifest import MANIFEST_FILE, WHOLE, Manifest, describe_difference
from data_prep.encoding import CorpusTokenizer
from data_prep.parts import Part
from data_prep.tokenization import part_folder
from flexbert.data.format.corpus_format import TOKENIZER_FOLDER
from flexbert.errors import UserError

# Copies of one file on several machines may well have different times.
MAY_DIFFER = ("modified",)


def merge_shards(folders: Sequence[Path], corpus: Path, *, workers: int, quiet: bool) -> None:
    """Make, or finish, the corpus of which ``folders`` hold the parts; print what it holds.

    Raises:
        UserError: if a shard is missing, unfinished, damaged, given twice or made from something
            else than the others.
    """
    if corpus.resolve() in (folder.resolve() for folder in folders):
        raise UserError(f"--out {corpus} is one of the shards; give a folder of its own")
    shards = _in_order(folders)
    manifest = replace(Manifest.read(shards[0]), shard=WHOLE)
    tokenizer = CorpusTokenizer(shards[0] / TOKENIZER_FOLDER)
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise UserError(f"{tokenizer.folder}: not the tokenizer of its shard; copy it again")
    record = ShardRecord.read(shards[0])
    corpus.mkdir(parents=True, exist_ok=True)
    with only_writer(corpus):
        manifest.claim(corpus)
        if is_complete(corpus):
            return
        parts = []
        for number in range(record.parts):
            path = part_folder(shards[number % len(shards)] / PARTS_FOLDER, number)
            try:
                part = Part.read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: missing or damaged; copy the folder again") from error
            if not part.is_whole(tokenizer.dtype):
                raise UserError(f"{path}: a file is missing or cut off; copy the folder again")
            parts.append(part)
        write_corpus(
            corpus,
            parts,
            manifest=manifest,
            tokenizer=tokenizer,
            skipped=record.skipped,
            workers=workers,
            quiet=quiet,
        )


def _in_order(folders: Sequence[Path]) -> list[Path]:
    """The folders by the number of their shard, found to belong together."""
    by_number: dict[int, Path] = {}
    first: Path | None = None
    for folder in folders:
        if not (folder / MANIFEST_FILE).is_file():
            raise UserError(
                f"{folder} is not a shard of a corpus (no {MANIFEST_FILE}); make one with: "
                "python -m data_prep corpus --shard i/n --out FOLDER ..."
            )
        manifest = Manifest.read(folder)
        if manifest.shard == WHOLE:
            raise UserError(f"{folder} is a whole corpus, not a shard; it was made without --shard")
        if not (folder / SHARD_FILE).is_file():
            raise UserError(
                f"{folder}: shard {manifest.shard} is not finished; run its command again"
            )
        first = first or folder
        reference = replace(Manifest.read(first), shard=manifest.shard)
        difference = describe_difference(asdict(reference), asdict(manifest), ignored=MAY_DIFFER)
        number, count = map(int, manifest.shard.split("/"))
        if not difference and count != (of := int(Manifest.read(first).shard.split("/")[1])):
            difference = f"one of {of} shards, now one of {count}"
        if difference:
            raise UserError(
                f"{folder} was made from something else than {first}: {difference}; "
                "merge shards of one corpus"
            )
        if number in by_number:
            raise UserError(f"{folder} and {by_number[number]} are both shard {manifest.shard}")
        by_number[number] = folder
    missing = [f"{number}/{count}" for number in range(count) if number not in by_number]
    if missing:
        raise UserError(
            f"of {count} shards, {', '.join(missing[:5])}{' ...' * (len(missing) > 5)} "
            f"{'is' if len(missing) == 1 else 'are'} not among the folders"
        )
    return [by_number[number] for number in range(count)]
