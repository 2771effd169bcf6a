"""The ``flexbert`` command: one file a command, named for what it does.

``command``             what all share: declaring one, plugins, JSON
``plan_recipe``         ``flexbert plan``
``check_installation``  ``flexbert doctor``
``export_model``, ``import_model``   ``flexbert export`` and ``flexbert import``
``evaluate_suite``, ``evaluate_model``   ``flexbert evaluate`` and ``flexbert evaluate-lm``
``watch_run``           ``flexbert watch``
``compare_results``     ``flexbert compare``
``publish_run``         ``flexbert publish``
``average_models``      ``flexbert average``
``seen_document``, ``rows_of_update``   ``flexbert seen`` and ``flexbert rows``
``plot_runs``, ``report_runs``   ``flexbert plot`` and ``flexbert report``
``launch_processes``    ``flexbert launch``
``run_sweep``, ``forecast_loss``   ``flexbert sweep`` and ``flexbert forecast``
``command_reference``   writes ``docs/reference/commands.md``

A command declares its arguments and calls one function of another room. A new one is a file with a
``COMMAND`` and an entry in ``COMMANDS`` below. Training is no command: ``main.py`` is what a
launcher starts.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from flexbert.commands import (
    average_models,
    check_installation,
    compare_results,
    evaluate_model,
    evaluate_suite,
    export_model,
    forecast_loss,
    import_model,
    launch_processes,
    plan_recipe,
    plot_runs,
    publish_run,
    report_runs,
    rows_of_update,
    run_sweep,
    seen_document,
    watch_run,
)
from flexbert.commands.command import add_version
from flexbert.errors import OneLineParser, run_command

# In the order in which --help lists them.
COMMANDS = (
    plan_recipe.COMMAND,
    check_installation.COMMAND,
    export_model.COMMAND,
    import_model.COMMAND,
    publish_run.COMMAND,
    evaluate_suite.COMMAND,
    evaluate_model.COMMAND,
    watch_run.COMMAND,
    compare_results.COMMAND,
    average_models.COMMAND,
    seen_document.COMMAND,
    rows_of_update.COMMAND,
    plot_runs.COMMAND,
    report_runs.COMMAND,
    launch_processes.COMMAND,
    run_sweep.COMMAND,
    forecast_loss.COMMAND,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""

    def command() -> int:
        arguments = command_parser().parse_args(argv)
        if getattr(arguments, "plugins", None):
            from flexbert.components import register_all
            from flexbert.config.plugins import import_plugins

            register_all()
            import_plugins(arguments.plugins)
        code: int = arguments.run(arguments)
        return code

    try:
        return run_command(command)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        return 128 + signal.SIGINT


def command_parser() -> OneLineParser:
    """Every command with its arguments."""
    parser = OneLineParser(prog="flexbert", allow_abbrev=False)
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, allow_abbrev=False, help=command.help)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser
