"""How all pictures look."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexbert.errors import UserError
from flexbert.files.durable import check_writable, write_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

BLUE, RED, GREY = "#4878a8", "#c8553d", "#8a8f98"
# Of curves in one picture, in this order.
COLORS = (BLUE, RED, "#3f8f5f", "#8d6cab", "#c79a2e", "#4aa5b5", "#a8577e", "#6b6b6b")

Labels = Callable[[Sequence[float]], list[str]]

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
    from matplotlib.figure import Figure

    check_picture(path)
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with write_durably(path) as file:
            # Without the version of matplotlib: the same picture is the same file.
            metadata = {"Software": None} if path.suffix == ".png" else None
            figure.savefig(file, format=path.suffix.removeprefix("."), dpi=130, metadata=metadata)


def check_picture(path: Path) -> None:
    """Raises UserError where :func:`picture` could not save as ``path``, before it is worth it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if path.suffix.removeprefix(".") not in FigureCanvasAgg.get_supported_filetypes():
        raise UserError(f"{path}: not a kind of picture; give .png, .svg or .pdf")
    check_writable(path)


def as_count(value: float, position: float = 0) -> str:
    """A count in short: 1.5k, 20M, 3B."""
    size, suffix = _unit(abs(value))
    return f"{value / size:.3g}{suffix}"


def count_ticks(values: Sequence[float]) -> list[str]:
    """An axis's labels in thousands, millions or more, with as many digits as tell them apart."""
    largest = max(map(abs, values), default=0.0)
    if largest < 1e4 and any(0 < abs(value) < 1e3 for value in values):
        largest = 1.0  # 500 and 1000, not 0.5k and 1.0k
    size, suffix = _unit(largest)
    digits = _decimals([value / size for value in values])
    return [f"{value / size:.{digits}f}{suffix}" if value else "0" for value in values]


def percent_ticks(values: Sequence[float]) -> list[str]:
    """An axis's labels for shares: 2.5% and 5.0%, never 2% and 5%."""
    digits = _decimals([100 * value for value in values])
    return [f"{100 * value:.{digits}f}%" for value in values]


def power_ticks(values: Sequence[float]) -> list[str]:
    """An axis's labels for small numbers: 8e-4, 2.5e-4."""
    return [_power(value) for value in values]


def number_ticks(values: Sequence[float]) -> list[str]:
    """An axis's labels for numbers near one; far smaller or larger ones as powers of ten."""
    largest = max(map(abs, values), default=0.0)
    if largest and not 1e-2 <= largest < 1e4:
        return power_ticks(values)
    digits = _decimals(values)
    return [f"{value:.{digits}f}" for value in values]


def tick_formatter(labels: Labels) -> Formatter:
    """What gives an axis all its labels together: alone, none knows how many digits it needs."""
    from matplotlib.ticker import Formatter

    class Together(Formatter):
        def format_ticks(self, values: Any) -> list[str]:
            return labels([float(value) for value in values])

        def __call__(self, x: float, pos: int | None = None) -> str:
            return labels([float(x)])[0]

    return Together()


def _unit(largest: float) -> tuple[float, str]:
    units = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
    return next(((size, suffix) for size, suffix in units if largest >= size), (1.0, ""))


def _decimals(values: Sequence[float], most: int = 6) -> int:
    """The fewest decimals that change no value by more than rounding of floats does."""
    slack = 1e-6 * max(map(abs, values), default=0.0)
    for decimals in range(most):
        if all(abs(round(value, decimals) - value) <= slack for value in values):
            return decimals
    return most


def _power(value: float) -> str:
    if not value or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.4e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
