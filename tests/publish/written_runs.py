"""The folder of a run that never was, with checkpoints of a tiny model, for publishing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flexbert.checkpoint.checkpoint import Checkpoint, RunClock
from flexbert.checkpoint.checkpoint_file import write_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name
from flexbert.config.encode import encode
from flexbert.config.stage_overrides import encode_stages
from flexbert.manifest_file import CorpusRecord, Launch, Manifest, StageRecord
from flexbert.recipes import load_recipe
from tests.checkpoint.states import training_state
from tests.conftest import TINY_RECIPE
from tests.huggingface.cases import random_model
from tests.nn.cases import VOCAB_SIZE

# Where the run lies, and on whose account: none of it is anybody else's.
SECRETS = ("/home/somebody", "our-entity", "hunter2")
TOKENS_PER_UPDATE = 1_000_000
STAGES = {"pretrain": 9, "decay": 6}
STEPS = (3, 6, 9, 12, 15)
_RECIPE = (
    "run_name=tiny",
    f"model.vocab_size={VOCAB_SIZE}",
    "data.path=/home/somebody/corpora/web",
    "runs_folder=/home/somebody/runs",
    "data.cache=/home/somebody/cache",
    "logging.wandb={project: ours, entity: our-entity}",
    "data.max_length=48",
    "data.row_length=96",
    "schedule={name: trapezoidal, warmup: 1ba, decay: 0ba, final_fraction: 0.0}",
    "stages={pretrain: {duration: 9ba}, decay: {duration: 6ba, optimizer.lr: 0.005}}",
)


@dataclass(frozen=True, kw_only=True)
class WrittenRun:
    """
    Attributes:
        weights: of each checkpoint, by step.
    """

    folder: Path
    weights: Mapping[int, Mapping[str, Tensor]]

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / checkpoint_name(step)


def write_run(
    folder: Path,
    tokenizer: Mapping[str, str],
    steps: Sequence[int] = STEPS,
    recipe: Sequence[str] = (),
) -> WrittenRun:
    """Write checkpoints with random weights, the manifest, and evaluations at each checkpoint."""
    loaded = load_recipe(TINY_RECIPE, [*_RECIPE, *recipe])
    weights = {}
    for step in steps:
        stage, updates = place(step)
        own = loaded.stages[stage]
        torch.manual_seed(step)
        weights[step] = random_model(own.model).state_dict()
        state = training_state()
        tokens = updates * TOKENS_PER_UPDATE
        position = replace(state.data.position, update=updates, tokens=tokens)
        checkpoint = Checkpoint(
            recipe=encode(own),
            tokenizer=tokenizer,
            model=weights[step],
            training=replace(
                state,
                run=encode_stages(loaded.stages),
                clock=RunClock(updates=step, rows=step, tokens=step * TOKENS_PER_UPDATE),
                data=replace(state.data, stage=stage, position=position),
                due_step=step,
            ),
        )
        write_checkpoint(folder / "checkpoints" / checkpoint_name(step), checkpoint)
    corpus = CorpusRecord(
        path="/home/somebody/corpora/web",
        tokenizer_sha256="0" * 64,
        splits={"train": "abcdef0123456789" * 4, "validation": "9" * 64},
    )
    launch = Launch(
        command=("main.py", "--token", "hunter2"),
        time="2025-01-01T00:00:00+00:00",
        after_step=0,
        processes=2,
        device="cpu",
        platform="Linux",
        python="3.11.7",
        flexbert="0.1.0",
        packages={"torch": "2.11.0", "flash-attn": None},
    )
    Manifest(
        run_name="tiny",
        parameters=1,
        stages={stage: StageRecord(corpora={"web": corpus}) for stage in STAGES},
        launches=(launch,),
    ).write(folder)
    lines = [json.dumps(_evaluation(step)) + "\n" for step in steps]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return WrittenRun(folder=folder, weights=weights)


def place(step: int) -> tuple[str, int]:
    """The stage of a run's update, and which one of the stage it is."""
    first = STAGES["pretrain"]
    return ("pretrain", step) if step <= first else ("decay", step - first)


def revision(step: int) -> str:
    """The name that its checkpoint is published under, written out by hand."""
    tokens = {3: "3.0M", 6: "6.0M", 9: "9.0M", 12: "12M", 15: "15M"}[step]
    return f"{place(step)[0]}-step-{step:08d}-{tokens}-tokens"


def _evaluation(step: int) -> dict[str, Any]:
    stage, updates = place(step)
    return {
        "event": "eval",
        "stage": stage,
        "step": step,
        "tokens": step * TOKENS_PER_UPDATE,
        "stage_tokens": updates * TOKENS_PER_UPDATE,
        "eval_loss": 5 - step / 10,
        "eval_accuracy": step / 100,
    }
