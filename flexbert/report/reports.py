"""Pictures and pages of one run or several: what commands and the end of a run call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_text
from flexbert.report.axes import AxisName
from flexbert.report.compared_panels import compared_panels
from flexbert.report.drawing import draw_panels
from flexbert.report.html_page import comparison_page, run_page
from flexbert.report.recorded_run import read_run
from flexbert.report.run_panels import run_panels

PICTURE = "report.png"
PAGE = "report.html"


def draw_runs(
    folders: Sequence[Path], *, axis: AxisName = "tokens", path: Path | None = None
) -> Path:
    """A picture of one run, or of several in one.

    Args:
        path: where to; its suffix decides the format. None: ``report.png`` in the folder of the
            one run, ``comparison.png`` here for several.

    Raises:
        UserError: if a folder holds no run, or a run that has recorded nothing yet, or nothing of
            the axis.
    """
    if len(folders) == 1:
        panels = run_panels(read_run(folders[0]), axis)
        return draw_panels(panels, path or folders[0] / PICTURE)
    runs = [read_run(folder) for folder in folders]
    return draw_panels(compared_panels(runs, axis), path or Path("comparison.png"))


def write_page(
    folders: Sequence[Path], *, axis: AxisName = "tokens", path: Path | None = None
) -> Path:
    """A page of one run, or of several in one: one file, to be opened by any browser.

    Args:
        path: where to. None: ``report.html`` in the folder of the one run, ``comparison.html`` here
            for several.

    Raises:
        UserError: as :func:`draw_runs`.
    """
    if path is not None and path.suffix not in (".html", ".htm"):
        raise UserError(f"{path}: not a page; give NAME.html, or draw a picture: flexbert plot")
    if len(folders) == 1:
        run = read_run(folders[0])
        path = path or folders[0] / PAGE
        page = run_page(run, run_panels(run, axis))
    else:
        runs = [read_run(folder) for folder in folders]
        path = path or Path("comparison.html")
        page = comparison_page(runs, compared_panels(runs, axis))
    make_folder(path.parent)
    write_text(path, page)
    return path
