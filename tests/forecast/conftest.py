"""Folders of runs that were never trained, with the losses of a known law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from flexbert.files.line_file import json_line
from flexbert.forecast import rungs as rungs_module
from flexbert.manifest_file import CorpusRecord, Manifest, StageRecord
from flexbert.nn.build import parameter_counts
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE

MakeRun = Callable[..., Path]
# In tokens, what the tiny recipe has in updates.
IN_TOKENS = (
    "schedule.warmup=0.05dur",
    "schedule.decay=0.4dur",
    "evaluation.interval=0.5dur",
    "checkpoints.interval=0.5dur",
)


def law_of(parameters: float, tokens: float) -> float:
    return float(1.5 + 20 * parameters**-0.3 + 40 * tokens**-0.25)


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Makes the folder of a run; ``unfinished`` in its name says that it is not finished."""
    monkeypatch.setattr(
        rungs_module, "run_is_finished", lambda folder: "unfinished" not in folder.name
    )

    def make(
        name: str,
        width: int,
        tokens: int,
        overrides: Sequence[str] = (),
        *,
        factor: float = 1.0,
        corpus: str = "a" * 64,
    ) -> Path:
        given = [
            f"model.hidden_size={width}",
            f"model.mlp.intermediate_size={width}",
            f"duration={tokens}tok",
            "data.path=/some/corpus",
            *IN_TOKENS,
            *overrides,
        ]
        loaded = load_recipe(TINY_RECIPE, given)
        counts = parameter_counts(loaded.first.model)
        folder = tmp_path / "sweep" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(loaded.resolved))
        (stage,) = loaded.stages
        record = CorpusRecord(
            path="/some/corpus", tokenizer_sha256="b" * 64, splits={"train": corpus}
        )
        Manifest(
            run_name=name,
            parameters=counts.total,
            stages={stage: StageRecord(corpora={"corpus": record})},
        ).write(folder)
        header = {"event": "eval", "stage": stage, "step": 10, "tokens": tokens}
        loss = factor * law_of(counts.encoder, tokens)
        line = {**header, "stage_tokens": tokens, "eval_loss": loss}
        (folder / "metrics.jsonl").write_bytes(json_line(line))
        return folder

    return make


@pytest.fixture
def ladder(make_run: MakeRun) -> Path:
    """The folder of a sweep of nine runs, 0.1 percent and less from the law."""
    for index, (width, tokens) in enumerate(
        (width, tokens) for width in (32, 48, 64) for tokens in (100_000, 200_000, 400_000)
    ):
        make_run(f"rung-{index}", width, tokens, factor=1 + 0.001 * (-1) ** index)
    return make_run("unfinished", 32, 50_000).parent.parent
