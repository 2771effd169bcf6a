"""Pictures and pages of one run or several: what commands and the end of a run call."""

from __future__ import annotations

from pathlib import Path

from flexbert.report.axes import AxisName
from flexbert.report.drawing import draw_panels
from flexbert.report.recorded_run import read_run
from flexbert.report.run_panels import run_panels

PICTURE = "report.png"


def plot(run_folder: Path, *, axis: AxisName = "tokens", path: Path | None = None) -> Path:
    """Draw a run as ``report.png`` in its folder, or as ``path``.

    Raises:
        UserError: if the folder holds no run, or a run that has recorded nothing yet.
    """
    return draw_panels(run_panels(read_run(run_folder), axis), path or run_folder / PICTURE)


PAGE = "report.html"
