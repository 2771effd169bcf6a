"""How all pictures look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, RED, GREY = "#4878a8", "#c8553d", "#8a8f98"

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "axes.edgecolor": "#b0b4ba",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    # A name may have a dollar in it, which begins no formula.
    "text.parse_math": False,
}


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure to draw on, which is saved as ``path`` afterwards.

    Args:
        width, height: in inches.

    Raises:
        UserError: if the file's suffix names no format of pictures, or it cannot be written.
    """
    # Imported late, as most commands draw nothing; without a screen, and without pyplot's state.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        formats = FigureCanvasAgg(figure).get_supported_filetypes()
        if path.suffix.removeprefix(".") not in formats:
            raise UserError(f"{path}: not a kind of picture; give .png, .svg or .pdf")
        yield figure
        make_folder(path.parent)
        with write_durably(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix("."), dpi=130)


def as_count(value: float, position: float = 0) -> str:
    """A tick's label: 1.5k, 20M, 3B."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"
