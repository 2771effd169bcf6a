"""Three models of one run: its last, the mean of its best and its last, and its moving average."""

from __future__ import annotations

from pathlib import Path

from flexbert.checkpoint.averaging import average_best, write_moving_average
from flexbert.evaluation.evaluate_lm import evaluate_lm
from flexbert.evaluation.settings import LmRequest

BEST = 3


def losses_of_averages(run_folder: Path) -> dict[str, float]:
    """Validation loss of each, on the rows that the run evaluates on; averages stay in the run."""
    best, moving = run_folder / "best-and-last.pt", run_folder / "moving-average.pt"
    if not best.exists():
        average_best(run_folder, best, BEST)
    if not moving.exists():
        write_moving_average(run_folder, moving)
    models = {"last": run_folder, "best three and last": best, "moving average": moving}
    return {name: _loss(model) for name, model in models.items()}


def _loss(model: Path) -> float:
    loss = evaluate_lm(model, LmRequest()).score.loss
    if loss is None:
        raise ValueError(f"{model}: nothing was masked")
    return loss
