"""Finished fits for tests, made by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from flexbert.tasks.results import FitData, FitEvaluation, FitRecord

FULL = FitRecord(
    fit="0123456789abcdef",
    suite="glue",
    task="rte",
    model="base",
    model_path="runs/base",
    model_fingerprint="f00d",
    mode="fine_tune",
    seed=17,
    point={"optimizer.lr": 1e-5, "epochs": 2},
    settings={"kind": {"name": "classification"}, "metrics": ["accuracy", "f1"]},
    start="fedcba9876543210",
    metric="accuracy",
    value=0.75,
    metrics={"accuracy": 0.75, "f1": 0.5},
    tests={"mismatched": {"accuracy": 0.7, "f1": 0.4}},
    examples={"train": 100, "validation": 40},
    updates=12,
    epochs_run=1.5,
    train_tokens=4000,
    cut={"train": 3},
    evaluations=(FitEvaluation(update=6, epoch=0.75, loss=0.5, metrics={"accuracy": 0.7}),),
    data={"train": FitData(source="hf:glue", fingerprint="abc")},
    versions={"torch": "2.11.0", "flash_attn": None},
    device="cpu",
    seconds=4.5,
    predictions="predictions/0123456789abcdef.npz",
)


def fit(value: float, metric: str = "accuracy", **changes: Any) -> FitRecord:
    """A fit of that value, with a name made of all that tells it from others."""
    changes = {
        "value": value,
        "metric": metric,
        "metrics": {metric: value},
        "tests": {},
        "predictions": None,
        "start": None,
        **changes,
    }
    record = dataclasses.replace(FULL, **changes)
    parts = (record.suite, record.task, record.model, record.mode, record.seed, record.budget)
    text = json.dumps([*parts, record.model_fingerprint, record.point])
    return dataclasses.replace(record, fit=hashlib.sha256(text.encode()).hexdigest()[:16])
