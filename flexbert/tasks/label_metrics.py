"""Metrics of classes and of numbers, over arrays.

Where a metric is not defined it is 0: F1 without a positive, a correlation with a constant. A model
that predicts one thing says nothing about the labels, and 0 is what chance gives. Of no examples,
and of predictions that are not finite, it is nan.
"""

from __future__ import annotations

import math

import numpy as np


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float((predictions == labels).mean()) if len(labels) else math.nan


def f1_from_counts(both: float, predicted: float, labelled: float) -> float:
    """F1 of how many are right, predicted and labelled; 0 where none is."""
    return 2 * both / (predicted + labelled) if predicted + labelled else 0.0


def confusion(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts by label and prediction, ``[classes, classes]``."""
    size = 1 + int(max(predictions.max(initial=0), labels.max(initial=0)))
    pairs = labels.astype(np.int64) * size + predictions
    return np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.float64)


def macro_f1(counts: np.ndarray) -> float:
    """The mean F1 of those classes that are labelled or predicted, of a confusion matrix."""
    sums = counts.sum(0) + counts.sum(1)
    there = sums > 0
    return float((2 * counts.diagonal()[there] / sums[there]).mean()) if there.any() else math.nan


def matthews(counts: np.ndarray) -> float:
    """Matthews correlation for any number of classes, R_K of Gorodkin (2004)."""
    total = counts.sum()
    if not total:
        return math.nan
    predicted, labelled = counts.sum(0), counts.sum(1)
    across = total * counts.trace() - predicted @ labelled
    spread = (total**2 - predicted @ predicted) * (total**2 - labelled @ labelled)
    return float(across / math.sqrt(spread)) if spread > 0 else 0.0


def mean_squared_error(predictions: np.ndarray, labels: np.ndarray) -> float:
    if not _is_measurable(predictions):
        return math.nan
    with np.errstate(over="ignore"):
        return float(((predictions - labels) ** 2).mean())


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    if not _is_measurable(predictions):
        return math.nan
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0
    x, y = _direction(predictions), _direction(labels)
    return float(np.clip(x @ y, -1, 1))


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The correlation of ranks; those of equal values are their mean."""
    from scipy.stats import rankdata

    if not _is_measurable(predictions):
        return math.nan
    return pearson(rankdata(predictions), rankdata(labels))


def _is_measurable(predictions: np.ndarray) -> bool:
    return len(predictions) > 0 and bool(np.isfinite(predictions).all())


def _direction(values: np.ndarray) -> np.ndarray:
    """Centred, of length 1; scaled first, so that nothing overflows."""
    scaled = values / np.abs(values).max()
    centred: np.ndarray = scaled - scaled.mean()
    length = np.linalg.norm(centred)
    return centred / length if length else centred


def _is_constant(values: np.ndarray) -> bool:
    return bool(values.min() == values.max())
