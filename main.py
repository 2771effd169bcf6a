"""Train: ``composer main.py RECIPE [key=value ...]``, or ``python main.py`` for one process."""

from __future__ import annotations

import os
import sys

# OpenMP reads it once, when torch is imported. By default its threads wait for each other in a long
# loop, which on cores that other jobs use too takes most of the time that there is. To sleep at
# once would cost a run alone a tenth of its speed or more (benchmarks/shared_cores.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from flexbert.commands.command import add_recipe, add_version
from flexbert.errors import OneLineParser
from flexbert.recipes import load_recipe
from flexbert.train.processes.stop_request import ignore_signals
from flexbert.train.processes.together import run_together


def main() -> int:
    parser = OneLineParser(description=__doc__, allow_abbrev=False)
    add_recipe(parser)
    add_version(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="print errors, warnings and the end alone"
    )

    def command() -> int:
        arguments = parser.parse_args()
        loaded = load_recipe(arguments.recipe, arguments.overrides)
        # Composer takes seconds to import, so a wrong recipe is refused before it is.
        from flexbert.train.run import train

        return train(loaded, command=sys.argv, quiet=arguments.quiet)

    return run_together(command)


if __name__ == "__main__":
    code = main()
    ignore_signals()
    sys.exit(code)
