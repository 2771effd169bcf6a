"""The page of all commands, ``docs/reference/commands.md``: ``python -m
flexbert.commands.command_reference`` prints it from what the commands declare.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from data_prep.cli import command_parser as data_prep_parser
from flexbert.commands import command_parser
from flexbert.commands.command import add_recipe

WIDTH = 88


def page() -> str:
    """The page in Markdown."""
    train = argparse.ArgumentParser(prog="composer main.py", add_help=False)
    add_recipe(train)
    sections = [
        "# Commands",
        "What every command takes. `make reference` writes this page from the code.",
        _section("composer main.py", "train; `python main.py` trains in one process", train),
    ]
    for parser in (command_parser(), data_prep_parser()):
        sections += [_section(own.prog, what, own) for what, own in _commands(parser)]
    return "\n\n".join(sections) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """What each command does, and its parser."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for choice in commands._choices_actions:
        yield str(choice.help), commands.choices[choice.dest]


def _section(name: str, what: str, parser: argparse.ArgumentParser) -> str:
    # Otherwise argparse wraps for the terminal it is in.
    parser.formatter_class = partial(argparse.HelpFormatter, width=WIDTH)  # type: ignore[assignment]
    return f"## {name}\n\n{what[:1].upper()}{what[1:]}.\n\n```text\n{parser.format_help()}```"


if __name__ == "__main__":
    print(page(), end="")
