"""What a run tells about its cost."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composer import Callback, Logger, State

from flexbert.config.recipe import Recipe
from flexbert.data.reading.corpus import Corpus
from flexbert.nn.build import build_model
from flexbert.nn.flops import model_cost
from flexbert.nn.masked_lm import MaskedLM
from flexbert.pictures import as_count
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, Overrides, read_records

pytestmark = pytest.mark.slow

PEAK = 1e9
INTERVAL, UPDATES = 2, 6


class Lengths(Callback):
    """The documents of every update, from the rows that the process trained on."""

    def __init__(self, cls: int) -> None:
        self.cls = cls
        self.updates: list[np.ndarray] = []
        self.rows: list[int] = []

    def batch_end(self, state: State, logger: Logger) -> None:
        found, rows = [], 0
        for part in state.batch["microbatches"]:
            positions = part["position_ids"].numpy()
            begins = part["cu_seqlens"].numpy()[:-1]
            lengths = part["cu_seqlens"].diff().numpy()
            # Padding has sequences of its own.
            is_real = (lengths > 0) & (
                part["input_ids"].numpy()[begins % len(positions)] == self.cls
            )
            found.append(lengths[is_real])
            rows += len(positions) // 128
        self.updates.append(np.concatenate(found))
        self.rows.append(rows)


def trained(overrides: list[str], *callbacks: Callback) -> Recipe:
    """The tiny recipe, after a run of it."""
    loaded = load_recipe(TINY_RECIPE, overrides)
    assert train(loaded, command=["test"], callbacks=callbacks) == DONE
    return loaded.first


def test_work_is_counted_from_the_documents_as_they_are(
    tiny: Overrides, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (
        f"duration={UPDATES}ba",
        "schedule={name: constant}",
        f"logging={{interval: {INTERVAL}ba, peak_tflops: {PEAK / 1e12}}}",
    )
    seen = Lengths(Corpus.open(corpus).split("train").meta.special_ids.cls)
    recipe = trained(tiny(*settings), seen)
    model = build_model(recipe.model, device="meta")
    assert isinstance(model, MaskedLM)
    cost = model_cost(model, recipe.model)
    records = read_records(recipe.run_folder, "train")
    assert len(records) == UPDATES // INTERVAL
    for i, record in enumerate(records):
        updates = seen.updates[INTERVAL * i : INTERVAL * (i + 1)]
        lengths = np.concatenate(updates)
        tokens = record["tokens"] - (records[i - 1]["tokens"] if i else 0)
        assert lengths.sum() == tokens
        flops = cost.flops_per_token(lengths, recipe.data.mask_rate)
        # mfu is rounded to the fourth digit.
        expected = record["tokens_per_second"] * flops / PEAK
        assert record["mfu"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
        assert record["tflops"] == pytest.approx(expected * PEAK / 1e12, rel=1e-3)
        rows = sum(seen.rows[INTERVAL * i : INTERVAL * (i + 1)])
        assert record["padding"] == pytest.approx(1 - tokens / (128 * rows), abs=1e-4)
    *_, line = (text for text in capsys.readouterr().out.splitlines() if " tok/s " in text)
    last = records[-1]
    assert f"{as_count(last['tokens_per_second'])} tok/s  mfu {last['mfu']:.0%}  " in line


def test_too_low_a_peak_and_a_profiler_that_records_nothing_are_told(
    tiny: Overrides, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (
        "duration=3ba",
        "schedule={name: constant}",
        "logging={interval: 1ba, peak_tflops: 1.0e-6, profiler: {skip: 3}}",
    )
    recipe = trained(tiny(*settings))
    assert all(r["mfu"] > 1 for r in read_records(recipe.run_folder, "train"))
    told = capsys.readouterr().out
    assert told.count("state logging.peak_tflops") == 1
    assert "4 updates come before the first that it records, and the stage has about 3" in told


def test_shares_of_the_time_are_all_of_it(tiny: Overrides) -> None:
    recipe = trained(tiny("duration=4ba", "schedule={name: constant}"))
    for record in read_records(recipe.run_folder, "train"):
        shares = record["time_shares"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert shares["communication"] == 0
        assert min(shares["forward"], shares["backward"], shares["optimizer"]) > 0
        assert record["peak_memory"] > 1 << 27


def trace(file: Path) -> list[dict[str, Any]]:
    content = json.loads(file.read_text())
    events: list[dict[str, Any]] = content["traceEvents"] if isinstance(content, dict) else content
    return events


def test_traces_of_some_updates_are_switched_on_by_the_recipe(tiny: Overrides) -> None:
    settings = (
        "duration=6ba",
        "schedule={name: constant}",
        "logging.profiler={skip: 1, warmup: 1, record: 2}",
    )
    recipe = trained(tiny(*settings))
    traces = recipe.run_folder / "traces" / "pretrain"
    (of_torch,) = (traces / "torch").iterdir()
    names = Counter(event.get("name") for event in trace(of_torch))
    # Two updates of three rows, two at a time.
    recorded = 2 * 2
    layers = recipe.model.num_layers
    assert names["_SummedCrossEntropy"] == recorded
    assert names["flexbert::sdpa_attention"] == recorded * layers
    assert list((traces / "composer").iterdir())
