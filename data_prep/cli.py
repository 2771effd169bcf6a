"""The command line: ``python -m data_prep COMMAND``; see ``command_parser`` for the commands."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.compression import SUFFIXES
from data_prep.corpus_manifest import begun_with
from data_prep.formats import FORMATS
from data_prep.hub_datasets import SYNTAX
from data_prep.input_options import ATTRIBUTES, Input, delimiter, parse_input, read_inputs_file
from data_prep.printing import print_text
from data_prep.rows import MAX_CHARACTERS, Fields
from data_prep.sources import Inputs, default_part_bytes, find_inputs
from data_prep.template import template_fields
from data_prep.values import num_cores, share, size, task, unescaped, whole_number
from flexbert.errors import OneLineParser, UserError, positive, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""

    def command() -> int:
        arguments = command_parser().parse_args(argv)
        try:
            arguments.run(arguments)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"{error.filename}: {error.strerror}") from error
        return 0

    return run_command(command)


def command_parser() -> OneLineParser:
    """Every command with its arguments."""
    parser = OneLineParser(
        prog="python -m data_prep", description="From text to a corpus.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, summary, add_arguments, run in (
        ("tokenizer", "train or adapt a tokenizer", _tokenizer_arguments, _run_tokenizer),
        ("corpus", "tokenize text into a corpus", _corpus_arguments, _run_corpus),
        ("merge", "make one corpus of several machines' tasks", _merge_arguments, _run_merge),
        ("inspect", "look at a corpus, or verify it", _inspect_arguments, _run_inspect),
        ("baseline", "what counting neighbours reaches", _baseline_arguments, _run_baseline),
        ("demo", "text of this Python installation", _demo_arguments, _run_demo),
    ):
        command = commands.add_parser(
            name, help=summary, description=summary.capitalize() + ".", allow_abbrev=False
        )
        add_arguments(command)
        command.set_defaults(run=run)
    return parser


def _input_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="file or folder: text or HTML (a document a file), JSON lines, CSV or TSV (also as "
        f"{' '.join(SUFFIXES)}), Parquet or Arrow; or a Hugging Face dataset, {SYNTAX}. Options of "
        f"its own follow a colon, as INPUT:field=body:label=news ({', '.join(ATTRIBUTES)}, format)",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        dest="inputs_file",
        metavar="YAML",
        help="file that lists inputs, each a path or a mapping of path and its own options",
    )
    text = parser.add_mutually_exclusive_group()
    text.add_argument(
        "--text-field",
        default="text",
        metavar="NAME",
        help="field or column that holds the text, a.b being the field b of a (default: "
        "%(default)s)",
    )
    text.add_argument(
        "--template",
        type=unescaped,
        metavar="TEXT",
        help=r"text of several fields, as '{title}\n\n{body}'",
    )
    parser.add_argument(
        "--label-field",
        metavar="NAME",
        help="field or column that holds a label of each document, for example its quality",
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="what separates the columns of CSV and TSV files: a character, or tab, comma, "
        "semicolon or bar (default: as the suffix says)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="read all files as this, whatever their suffix"
    )
    parser.add_argument(
        "--all-files",
        action="store_true",
        help="read the hidden files, licences and dataset cards of folders too",
    )
    parser.add_argument(
        "--max-characters",
        type=positive,
        default=MAX_CHARACTERS,
        metavar="N",
        help="reject a longer text (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-truncated",
        action="store_true",
        help="take a compressed file that is cut off for what is left of it, instead of stopping",
    )


def _given_inputs(arguments: argparse.Namespace) -> list[Input]:
    given = [parse_input(text) for text in arguments.inputs]
    if arguments.inputs_file is not None:
        given += read_inputs_file(arguments.inputs_file)
    return given


def _find_inputs(
    arguments: argparse.Namespace, given: Sequence[Input], *, corpus: Path | None = None
) -> Inputs:
    """The files of a command's inputs; of a corpus that was begun those that it began with.

    Raises:
        UserError: if there are none, or one cannot be used.
    """
    if not given:
        raise UserError("give INPUT, files or folders of text, or --inputs YAML")
    return find_inputs(
        given,
        format_override=arguments.format,
        fields=_fields(arguments),
        all_files=arguments.all_files,
        begun=None if corpus is None else begun_with(corpus),
    )


def _fields(arguments: argparse.Namespace) -> Fields:
    if arguments.template is not None:
        template_fields(arguments.template)
    return Fields(
        text=arguments.text_field,
        template=arguments.template,
        label=arguments.label_field,
        delimiter=None if arguments.delimiter is None else delimiter(arguments.delimiter),
        max_characters=arguments.max_characters,
        keep_truncated=arguments.keep_truncated,
    )


def _tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to save")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument(
        "--vocab-size",
        type=int,
        default=50_368,
        metavar="N",
        help="ids in all, a multiple of 64 (default: %(default)s)",
    )
    origin.add_argument(
        "--adapt",
        metavar="NAME_OR_FOLDER",
        help="take this Hugging Face tokenizer, or tokenizer.json, and its ids instead of training "
        "one",
    )
    parser.add_argument(
        "--unused",
        type=whole_number,
        metavar="N",
        help="reserved ids for later use (default: 83; with --adapt no id is added unless asked "
        "for, so that a published model's embedding fits)",
    )
    parser.add_argument(
        "--model",
        choices=("bpe", "wordpiece", "unigram"),
        help="what to train: BPE on bytes (the default), BERT's WordPiece (with case), or "
        "SentencePiece's Unigram",
    )
    parser.add_argument(
        "--split-digits", action="store_true", help="make every digit a token of its own"
    )
    parser.add_argument(
        "--code",
        action="store_true",
        help="give runs of 2 to 24 blanks, 2 to 8 tabs and 2 to 4 newlines a token each, for text "
        "with code; without it, bpe learns those that are frequent",
    )
    parser.add_argument(
        "--sample",
        type=size,
        metavar="SIZE",
        help="train on about this much of the text, for example 2gb, the same share of each input",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    _input_arguments(parser)


def _run_tokenizer(arguments: argparse.Namespace) -> None:
    given = arguments.inputs or arguments.inputs_file is not None
    if arguments.adapt and given:
        raise UserError("--adapt takes no INPUT: the tokenizer is not trained")
    if not arguments.adapt and not given:
        raise UserError("give INPUT to train on, or --adapt NAME_OR_FOLDER")
    if arguments.adapt:
        for name in ("model", "split_digits", "code", "sample"):
            if getattr(arguments, name):
                raise UserError(f"--{name.replace('_', '-')} is for a tokenizer that is trained")
    from data_prep import tokenizer_adapting, tokenizer_report, tokenizer_training
    from data_prep.input_checks import check_inputs
    from data_prep.tokenizer_kinds import TokenizerKind
    from data_prep.training_text import TrainingText

    tokenizer_training.check_free(arguments.out)
    report = None
    if arguments.adapt:
        made = tokenizer_adapting.adapt_tokenizer(arguments.adapt, unused=arguments.unused)
    else:
        kind = TokenizerKind(
            model=arguments.model or "bpe", split_digits=arguments.split_digits, code=arguments.code
        )
        inputs = _find_inputs(arguments, _given_inputs(arguments))
        fields = _fields(arguments)
        check_inputs(inputs, fields)
        text = TrainingText(inputs, fields, sample=arguments.sample, quiet=arguments.quiet)
        made = tokenizer_training.train_tokenizer(
            text,
            vocab_size=arguments.vocab_size,
            unused=83 if arguments.unused is None else arguments.unused,
            kind=kind,
        )
        report = tokenizer_report.describe_tokenizer(made, kind, text)
        print(tokenizer_report.format_tokenizer_report(report))
    tokenizer_training.save_tokenizer(made, arguments.out, report)
    print(f"{arguments.out}: {len(made):,} ids, mask {made.mask_token} {made.mask_token_id}")


def _corpus_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer", type=Path, required=True, metavar="FOLDER", help="tokenizer to use"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="CORPUS",
        help="folder to make; the same command continues a corpus that was interrupted",
    )
    parser.add_argument(
        "--validation",
        type=share,
        default=0.01,
        metavar="SHARE",
        help="share of the documents to hold out (default: %(default)s)",
    )
    parser.add_argument(
        "--deduplicate",
        action="store_true",
        help="keep only the first of the documents with the same text; without it they are counted",
    )
    parser.add_argument(
        "--task",
        type=task,
        default="0/1",
        metavar="I/N",
        help="be machine I of N (I from 0 to N-1, as a rank): make the parts I, I+N, ... into a "
        "folder for the merge command",
    )
    parser.add_argument(
        "--shard-size",
        type=size,
        default=size("64mb"),
        metavar="SIZE",
        help="bytes a shard, for example 64mb (the default)",
    )
    parser.add_argument(
        "--part-size",
        type=size,
        metavar="SIZE",
        help="input bytes a worker takes at a time and a restart may repeat (default: 8mb, or less "
        "where that makes fewer than 256 parts)",
    )
    _work_arguments(parser)
    _input_arguments(parser)


def _work_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=positive,
        default=num_cores(),
        metavar="N",
        help="processes to tokenize with, threads to write with (default: one a core)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")


def _run_corpus(arguments: argparse.Namespace) -> None:
    from data_prep.build_corpus import make_corpus
    from data_prep.shards import MAX_SHARD_BYTES

    if arguments.shard_size > MAX_SHARD_BYTES:
        raise UserError("--shard-size: a shard is smaller than 4gb; 64mb to 256mb serve well")
    given = _given_inputs(arguments)
    for each in given:
        if arguments.out.resolve().is_relative_to(Path(each.path).resolve()):
            raise UserError(f"--out {arguments.out} lies inside the input {each.path}")
    inputs = _find_inputs(arguments, given, corpus=arguments.out)
    make_corpus(
        inputs,
        arguments.out,
        tokenizer_folder=arguments.tokenizer,
        fields=_fields(arguments),
        validation=arguments.validation,
        deduplicate=arguments.deduplicate,
        shard_bytes=arguments.shard_size,
        part_bytes=arguments.part_size or default_part_bytes(inputs),
        task=arguments.task,
        workers=arguments.workers,
        quiet=arguments.quiet,
    )


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="what corpus --task made, in any order; all N are needed, and only read",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="CORPUS",
        help="folder to make; the same command continues a merge that was interrupted",
    )
    _work_arguments(parser)


def _run_merge(arguments: argparse.Namespace) -> None:
    from data_prep.merge import merge_tasks

    merge_tasks(arguments.folders, arguments.out, workers=arguments.workers, quiet=arguments.quiet)


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="folder of a corpus")
    parser.add_argument("--split", default="train", help="split to show (default: %(default)s)")
    parser.add_argument(
        "--documents",
        type=whole_number,
        default=3,
        metavar="N",
        help="documents to show (default: %(default)s)",
    )
    parser.add_argument(
        "--characters",
        type=positive,
        metavar="N",
        help="characters of a document to show (default: the beginning, a few lines); --json shows "
        "all",
    )
    parser.add_argument(
        "--verify", action="store_true", help="first check every shard's hash, lengths and ids"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run_inspect(arguments: argparse.Namespace) -> None:
    from data_prep import inspection

    if arguments.verify:
        inspection.verify_corpus(arguments.corpus)
    description = inspection.describe_corpus(
        arguments.corpus, split=arguments.split, num_samples=arguments.documents
    )
    text = inspection.format_description(
        description, characters=arguments.characters or inspection.SHOWN_CHARACTERS
    )
    if arguments.verify:
        description = {"verified": True, **description}
        text = f"verified: hashes, lengths, labels, ids and tokenizer are as recorded\n\n{text}"
    _print(description, text, arguments.json)


def _baseline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="folder of a corpus")
    parser.add_argument(
        "--mask-rate",
        type=share,
        default=0.15,
        metavar="SHARE",
        help="share of the validation tokens to predict (default: %(default)s)",
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of the masked positions")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run_baseline(arguments: argparse.Namespace) -> None:
    from data_prep import baseline

    result = baseline.evaluate_baseline(
        arguments.corpus, mask_rate=arguments.mask_rate, seed=arguments.seed
    )
    _print(result, baseline.format_baseline(result), arguments.json)


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write")


def _run_demo(arguments: argparse.Namespace) -> None:
    from data_prep.demo import write_demo

    write_demo(arguments.out)


def _print(result: dict[str, Any], text: str, as_json: bool) -> None:
    print_text(json.dumps(result, indent=2) if as_json else text)
