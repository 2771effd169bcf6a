"""``flexbert evaluate-lm``: masked loss of a model on corpora."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command, add_json, add_plugins, print_found
from flexbert.errors import UserError, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        help="a checkpoint, an average, a run's folder for its newest checkpoint, a Hugging Face "
        "folder, or a name on the Hub",
    )
    parser.add_argument(
        "--corpus",
        dest="corpora",
        action="append",
        default=[],
        metavar="[NAME=]FOLDER",
        help="made with the model's tokenizer; may be repeated (default: what the run trained on)",
    )
    parser.add_argument(
        "--split", default="validation", help="of each corpus (default: %(default)s)"
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        metavar="TOKENS",
        help="cut longer documents (default: as the model was trained)",
    )
    parser.add_argument(
        "--mask-rate",
        type=_share,
        metavar="SHARE",
        help="of the tokens to predict (default: as the run evaluates, or 0.15)",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        metavar="N",
        help="packed rows of each corpus at most, or 'all' (default: as the run evaluates, or all)",
    )
    parser.add_argument(
        "--precision",
        choices=("amp_bf16", "fp32"),
        help="default: as the run trained, or fp32",
    )
    parser.add_argument(
        "--floors",
        action="store_true",
        help="also what counting tokens and neighbours in the training split predicts",
    )
    parser.add_argument(
        "--pseudo-perplexity",
        type=positive,
        default=0,
        metavar="N",
        help="also mask every token of N sequences of each corpus alone",
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU where there is one)"
    )
    add_json(parser, "the evaluation")
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.evaluation.evaluate_lm import evaluate_lm
    from flexbert.evaluation.settings import LmRequest
    from flexbert.evaluation.text import evaluation_text

    request = LmRequest(
        corpora=_named(arguments.corpora),
        split=arguments.split,
        max_length=arguments.max_length,
        mask_rate=arguments.mask_rate,
        rows=arguments.rows,
        precision=arguments.precision,
        floors=arguments.floors,
        pseudo_perplexity=arguments.pseudo_perplexity,
        device=arguments.device,
    )
    return print_found(arguments, evaluate_lm(arguments.model, request), evaluation_text)


def _named(given: list[str]) -> dict[str, Path]:
    """Folders by name: ``NAME=FOLDER``, or the folder's own name."""
    found: dict[str, Path] = {}
    for text in given:
        name, is_named, folder = text.partition("=")
        if not is_named or "/" in name:
            name, folder = Path(text).resolve().name, text
        if name in found:
            raise UserError(f"--corpus {text}: {name} is there already; give NAME=FOLDER")
        found[name] = Path(folder)
    return found


def _rows(text: str) -> int | str:
    return text if text == "all" else positive(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and up to 1")
    return value


COMMAND = Command(
    name="evaluate-lm",
    help="masked loss, accuracy and pseudo-perplexity of a model on corpora",
    add_arguments=add_arguments,
    run=run,
)
