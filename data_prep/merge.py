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
    TASK_FILE,
    TaskRecord,
    is_complete,
    only_writer,
    write_corpus,
)
from data_prep.corpus_manifest import MANIFEST_FILE, WHOLE, CorpusManifest, describe_difference
from data_prep.encoding import CorpusTokenizer
from data_prep.parts import Part
from data_prep.tokenization import part_folder
from data_prep.tokenizer_folder import tokenizer_files, write_files
from flexbert.data.format.corpus_format import TOKENIZER_FOLDER
from flexbert.errors import UserError

# Copies of one file on several machines may well have different times.
MAY_DIFFER = ("modified",)


def merge_tasks(folders: Sequence[Path], corpus: Path, *, workers: int, quiet: bool) -> None:
    """Make, or finish, the corpus of which ``folders`` hold the parts; print what it holds.

    Raises:
        UserError: if a task is missing, unfinished, damaged, given twice or made from something
            else than the others.
    """
    if corpus.resolve() in (folder.resolve() for folder in folders):
        raise UserError(f"--out {corpus} is one of the tasks; give a folder of its own")
    tasks = _in_order(folders)
    manifest = replace(CorpusManifest.read(tasks[0]), task=WHOLE)
    tokenizer = CorpusTokenizer(tasks[0] / TOKENIZER_FOLDER)
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise UserError(f"{tokenizer.folder}: not the tokenizer of its task; copy it again")
    record = TaskRecord.read(tasks[0])
    corpus.mkdir(parents=True, exist_ok=True)
    with only_writer(corpus):
        manifest.claim(corpus)
        if is_complete(corpus):
            return
        files = tokenizer_files(tokenizer.folder)
        write_files(
            {name: (tokenizer.folder / name).read_bytes().decode() for name in files},
            corpus / TOKENIZER_FOLDER,
        )
        parts = []
        for number in range(record.parts):
            path = part_folder(tasks[number % len(tasks)] / PARTS_FOLDER, number)
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
            input_files=record.inputs,
            workers=workers,
            quiet=quiet,
        )


def _in_order(folders: Sequence[Path]) -> list[Path]:
    """The folders by the number of their task, found to belong together."""
    by_number: dict[int, Path] = {}
    first: Path | None = None
    for folder in folders:
        if not (folder / MANIFEST_FILE).is_file():
            raise UserError(
                f"{folder} is no task of a corpus (no {MANIFEST_FILE}); make one with: "
                "python -m data_prep corpus --task i/n --out FOLDER ..."
            )
        manifest = CorpusManifest.read(folder)
        if manifest.task == WHOLE:
            raise UserError(f"{folder} is a whole corpus, not a task; it was made without --task")
        if not (folder / TASK_FILE).is_file():
            raise UserError(
                f"{folder}: task {manifest.task} is not finished; run its command again"
            )
        first = first or folder
        reference = replace(CorpusManifest.read(first), task=manifest.task)
        difference = describe_difference(asdict(reference), asdict(manifest), ignored=MAY_DIFFER)
        number, count = map(int, manifest.task.split("/"))
        if not difference and count != (of := int(CorpusManifest.read(first).task.split("/")[1])):
            difference = f"one of {of} tasks, now one of {count}"
        if difference:
            raise UserError(
                f"{folder} was made from something else than {first}: {difference}; "
                "merge tasks of one corpus"
            )
        if number in by_number:
            raise UserError(f"{folder} and {by_number[number]} are both task {manifest.task}")
        by_number[number] = folder
    missing = [f"{number}/{count}" for number in range(count) if number not in by_number]
    if missing:
        raise UserError(
            f"of {count} tasks, {', '.join(missing[:5])}{' ...' * (len(missing) > 5)} "
            f"{'is' if len(missing) == 1 else 'are'} not among the folders"
        )
    return [by_number[number] for number in range(count)]
