"""``python -m data_prep corpus``: text to a corpus folder, restartable at any moment.

While it is made, the folder holds ``manifest.json`` (inputs and settings), ``parts/`` (one folder
a finished part) and, later, the splits. A restart checks the manifest, makes the parts and shards
that are missing and counts again. ``corpus.json`` comes last: with it, the corpus is complete.

One machine of several makes only the parts of its task, and ``task.json`` is its last word; see
``merge``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_prep.corpus_manifest import MANIFEST_FILE, WHOLE, CorpusManifest
from data_prep.corpus_pictures import draw_report
from data_prep.corpus_report import format_report, make_report, write_report
from data_prep.duplicates import find_repeats
from data_prep.encoding import CorpusTokenizer
from data_prep.input_checks import check_inputs
from data_prep.parts import Part
from data_prep.printing import print_text
from data_prep.rows import Fields
from data_prep.selection import Selection
from data_prep.shards import ShardFormat
from data_prep.sources import Inputs, cut_pieces, group_parts
from data_prep.splits import write_split
from data_prep.survey import Survey, survey
from data_prep.tokenization import tokenize_parts
from data_prep.tokenizer_folder import (
    fingerprint,
    read_whole_tokenizer,
    require_own_ids,
    tokenizer_files,
    write_files,
)
from flexbert.data.format.corpus_format import (
    MAX_LABELS,
    META_FILE,
    TOKENIZER_FOLDER,
    CorpusMeta,
    SplitMeta,
)
from flexbert.errors import UserError, first_line
from flexbert.files.durable import write_text
from flexbert.files.file_lock import file_lock
from flexbert.files.regular import load_json

PARTS_FOLDER = "parts"
WORK_FOLDER = ".work"
LOCK_FILE = ".lock"
TASK_FILE = "task.json"


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """``task.json``: what one machine's finished task must tell the merging one.

    Attributes:
        parts: number of parts of all machines together.
        skipped: files that lie next to the inputs, by suffix or reason.
        inputs: number of files of each input; empty where an earlier version wrote the record.
    """

    parts: int
    skipped: dict[str, int]
    inputs: dict[str, int] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        write_text(folder / TASK_FILE, json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> TaskRecord:
        file = folder / TASK_FILE
        try:
            record = cls(**load_json(file))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{file}: not readable ({first_line(error)}); copy it again") from None
        counts = (record.skipped, record.inputs)
        if not isinstance(record.parts, int) or not all(isinstance(of, dict) for of in counts):
            raise UserError(f"{file}: not what data_prep wrote; copy it again")
        return record


def make_corpus(
    inputs: Inputs,
    corpus: Path,
    *,
    tokenizer_folder: Path,
    fields: Fields,
    validation: float,
    deduplicate: bool,
    shard_bytes: int,
    part_bytes: int,
    task: str,
    workers: int,
    quiet: bool,
) -> None:
    """Make, or finish, a corpus and print what it holds.

    Args:
        validation: share of the documents that are held out, by a hash of their text.
        deduplicate: keep only the first of the documents with the same text.
        part_bytes: input bytes a part: what one worker does at a time and a kill may cost.
        task: "i/n": make only the parts i, i + n, ... (i from 0), for a merge.

    Raises:
        UserError: if inputs, tokenizer or settings cannot be used or differ from those of the
            corpus that is already there.
    """
    texts = read_whole_tokenizer(tokenizer_folder)
    with tempfile.TemporaryDirectory() as temporary:
        write_files(texts, Path(temporary) / TOKENIZER_FOLDER)
        CorpusTokenizer(Path(temporary) / TOKENIZER_FOLDER, named=tokenizer_folder)
    manifest = CorpusManifest(
        tokenizer_sha256=fingerprint(texts),
        fields=fields.fingerprint(),
        validation=validation,
        deduplicate=deduplicate,
        shard_bytes=shard_bytes,
        part_bytes=part_bytes,
        task=task,
        files=[file.fingerprint() for file in inputs.files],
    )
    if not (corpus / MANIFEST_FILE).is_file():
        check_inputs(inputs, fields)
        require_own_ids(texts, tokenizer_folder, inputs, fields)
    corpus.mkdir(parents=True, exist_ok=True)
    with only_writer(corpus):
        manifest.claim(corpus)
        if is_complete(corpus):
            return
        write_files(texts, corpus / TOKENIZER_FOLDER)
        tokenizer = CorpusTokenizer(corpus / TOKENIZER_FOLDER)
        parts_folder = corpus / PARTS_FOLDER
        parts_folder.mkdir(exist_ok=True)
        pieces = (piece for file in inputs.files for piece in cut_pieces(file, part_bytes))
        numbered = dict(enumerate(group_parts(pieces, part_bytes)))
        index, count = map(int, task.split("/"))
        parts = tokenize_parts(
            {number: part for number, part in numbered.items() if number % count == index},
            parts_folder,
            tokenizer=tokenizer,
            fields=fields,
            labelled=any((file.fields or fields).labelled for file in inputs.files),
            workers=workers,
            quiet=quiet,
        )
        if task != WHOLE:
            TaskRecord(
                parts=len(numbered),
                skipped=dict(sorted(inputs.skipped.items())),
                inputs=inputs.counts,
            ).write(corpus)
            print(
                f"{corpus}: task {task} is finished, {len(parts):,} of {len(numbered):,} parts; "
                f"once all {count} are finished: python -m data_prep merge --out CORPUS FOLDER..."
            )
            return
        write_corpus(
            corpus,
            parts,
            manifest=manifest,
            tokenizer=tokenizer,
            skipped=inputs.skipped,
            input_files=inputs.counts,
            workers=workers,
            quiet=quiet,
        )


def is_complete(corpus: Path) -> bool:
    """Whether there is nothing left to do, which is then said and tidied up."""
    if (corpus / META_FILE).is_file():
        for folder in (PARTS_FOLDER, WORK_FOLDER):
            shutil.rmtree(corpus / folder, ignore_errors=True)
    elif not (corpus / TASK_FILE).is_file():
        return False
    print(f"{corpus} is complete; nothing to do")
    return True


@contextmanager
def only_writer(corpus: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it whatever ends this process.

    Raises:
        UserError: if another process holds it.
    """
    with file_lock(corpus / LOCK_FILE, wait=False) as held:
        if not held:
            raise UserError(f"{corpus} is being written by another process; wait for it")
        yield


def write_corpus(
    corpus: Path,
    parts: Sequence[Part],
    *,
    manifest: CorpusManifest,
    tokenizer: CorpusTokenizer,
    skipped: Mapping[str, int],
    input_files: Mapping[str, int],
    workers: int,
    quiet: bool,
) -> None:
    """Write all of a corpus from its parts and print what it holds; then remove its own parts.

    The parts may lie anywhere, and nothing but their content and order matters.

    Args:
        input_files: number of files of each input.

    Raises:
        UserError: if the parts hold too few documents, or too many labels.
    """
    if not any(part.documents for part in parts):
        rejects = sum((Counter(part.rejects) for part in parts), Counter())
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejects.most_common())
        _begin_again(corpus)
        raise UserError(
            f"the inputs hold no usable document; rejected rows: {reasons or 'none'} (which field "
            "holds the text is said by --text-field)"
        )
    if all(part.unknown == part.tokens for part in parts):
        _begin_again(corpus)
        raise UserError(
            f"every token of the inputs is the unknown one, id {tokenizer.special_ids.unk}, and "
            "there is nothing to predict: the tokenizer knows nothing of this text; train one on it"
        )
    work = corpus / WORK_FOLDER
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    repeats = find_repeats(parts, work)
    selections = Selection.splits(
        parts,
        validation=manifest.validation,
        repeats=repeats if manifest.deduplicate else None,
    )
    surveys = {name: survey(selection.all_blocks()) for name, selection in selections.items()}
    for name, found in surveys.items():
        if not found.documents:
            raise UserError(
                f"no document is left for {name}; give more documents or lower --validation"
            )
    labels = _all_labels(surveys.values())
    for name, selection in selections.items():
        form = ShardFormat(
            tokenizer.dtype, shard_bytes=manifest.shard_bytes, longest=surveys[name].longest
        )
        write_split(
            corpus / name, selection, form, labels=labels or None, workers=workers, quiet=quiet
        )
    report = make_report(
        parts,
        selections,
        surveys,
        repeats=repeats,
        deduplicated=manifest.deduplicate,
        skipped=skipped,
        input_files=input_files,
        vocab_size=tokenizer.vocab_size,
        dtype=tokenizer.dtype,
        workers=workers,
    )
    write_report(corpus, report)
    draw_report(report, corpus)
    CorpusMeta(
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        special_ids=tokenizer.special_ids,
        reserved_ids=tokenizer.reserved_ids,
        splits={
            name: SplitMeta(documents=found.documents, tokens=found.tokens)
            for name, found in surveys.items()
        },
        tokenizer_files=tokenizer_files(corpus / TOKENIZER_FOLDER),
        labels=labels,
    ).write(corpus)
    for folder in (PARTS_FOLDER, WORK_FOLDER):
        shutil.rmtree(corpus / folder, ignore_errors=True)
    print_text(format_report(report))


def _begin_again(corpus: Path) -> None:
    """What made nothing is not to stand in the way of the corrected command."""
    for folder in (PARTS_FOLDER, TOKENIZER_FOLDER):
        shutil.rmtree(corpus / folder, ignore_errors=True)
    (corpus / MANIFEST_FILE).unlink(missing_ok=True)


def _all_labels(surveys: Iterable[Survey]) -> tuple[str, ...]:
    """The labels of both splits, sorted: what the numbers in ``labels.u8`` stand for."""
    labels = tuple(sorted({label for found in surveys for label in found.labels or ()}))
    if len(labels) > MAX_LABELS:
        raise UserError(
            f"--label-field: the documents have {len(labels)} different labels, {MAX_LABELS} at "
            "most are possible; name a field with few values"
        )
    return labels
