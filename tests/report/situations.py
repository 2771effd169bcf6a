"""Folders of runs as training leaves them, of the kinds that a picture has to serve.

To look at them: ``python -m tests.report.situations FOLDER`` writes every picture and page there.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flexbert.manifest_file import CorpusRecord, Launch, Manifest, StageRecord
from flexbert.mask_examples_file import (
    MASK_EXAMPLES,
    EvaluationExamples,
    MaskedPlace,
    MaskExample,
    Prediction,
)
from flexbert.report.reports import draw_runs, write_page
from flexbert.task_metrics_file import TASKS

ENTROPY = 6.9


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A run to be written.

    Attributes:
        stages: updates of each, by name.
        tokens_per_update: real tokens.
        bad: updates whose loss is not finite.
        begin: updates and tokens of the run that this one goes on from.
        floor: what the loss comes down to.
        tasks: what each task's metric comes up to, as ``TASK.METRIC``.
    """

    stages: Mapping[str, int]
    tokens_per_update: int = 4_700_000
    interval: int = 10
    evaluations: int = 8
    sources: tuple[str, ...] = ("web",)
    bad: range = range(0)
    begin: tuple[int, int] = (0, 0)
    floor: float = 1.6
    recipe: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the run's folder as training would have left it."""
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(7)
        lines: list[dict[str, Any]] = []
        step, tokens = self.begin
        skipped = 0
        for stage, updates in self.stages.items():
            every = max(1, updates // self.evaluations)
            for update in range(1, updates + 1):
                step, tokens = step + 1, tokens + self.tokens_per_update
                is_bad = step in self.bad
                skipped += is_bad
                header = {
                    "stage": stage,
                    "step": step,
                    "tokens": tokens,
                    "stage_tokens": update * self.tokens_per_update,
                    "seconds": step * 1.7,
                }
                loss = self.floor + 8.0 * (1 + step / 40) ** -0.6
                if update % self.interval == 0 or update == updates:
                    noise = float(random.normal(0, 0.04))
                    lines.append(
                        {
                            "event": "train",
                            **header,
                            "loss": None if is_bad else loss + noise,
                            "skipped_updates": skipped,
                            "lr": 8e-4 * min(1.0, update / max(1, updates // 10)),
                            "mask_rate": 0.3,
                            "batch_size": 768 if step < 0.2 * updates else 4608,
                            "grad_norm": None if is_bad else 0.4 * math.exp(noise * 8),
                            "update_rms": 3e-6 * math.exp(noise * 4),
                            "tokens_per_second": 181_000 + 4_000 * noise,
                            "mfu": 0.41 + noise / 20,
                        }
                    )
                if update % every == 0 or update == updates:
                    losses = {name: loss - 0.3 + 0.4 * i for i, name in enumerate(self.sources)}
                    lines.append(
                        {
                            "event": "eval",
                            **header,
                            "eval_loss": sum(losses.values()) / len(losses),
                            "eval_accuracy": 0.7 * math.exp(-loss / 6),
                            **({"eval_losses": losses} if len(losses) > 1 else {}),
                        }
                    )
        write_lines(folder / "metrics.jsonl", lines)
        corpus = CorpusRecord(path="corpora/web", tokenizer_sha256="ab", splits={"train": "cd"})
        launch = Launch(
            command=("main.py", "yamls/base.yaml", "run_name=x"),
            time="2026-01-01T00:00:00+00:00",
            after_step=self.begin[0],
            processes=8,
            device="NVIDIA H100",
            platform="Linux",
            python="3.11",
            flexbert="0.1.0",
            packages={"torch": "2.11.0", "wandb": None},
        )
        Manifest(
            run_name=folder.name,
            parameters=149_000_000,
            stages={
                name: StageRecord(corpora=dict.fromkeys(self.sources, corpus))
                for name in self.stages
            },
            unigram_entropy=ENTROPY,
            launches=(launch,),
        ).write(folder)
        recipe = {"run_name": folder.name, "evaluation": {"mask_rate": 0.15}, **self.recipe}
        (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
        evaluated = [line for line in lines if line["event"] == "eval"]
        write_lines(folder / MASK_EXAMPLES, [_examples(line, self.sources) for line in evaluated])
        if self.tasks:
            write_lines(folder / TASKS, _task_lines(evaluated, self.tasks))
        health = [
            {"event": "skipped", "stage": next(iter(self.stages)), "step": bad, "rows": [1, 2]}
            for bad in self.bad
        ]
        if health:
            write_lines(folder / "health.jsonl", health)
        return folder


def _task_lines(
    evaluated: Sequence[Mapping[str, Any]], tasks: Mapping[str, float]
) -> list[dict[str, Any]]:
    return [
        {
            "event": "task",
            **{key: line[key] for key in ("stage", "step", "tokens")},
            "checkpoint": f"step-{line['step']:08d}.pt",
            "suite": "glue",
            "task": name.split(".")[0],
            "mode": "frozen",
            "fingerprint": "0123456789abcdef",
            "seeds": [17],
            "metrics": {name.split(".")[1]: best - 0.35 * (line["eval_loss"] / 6), "f1_macro": 0.1},
            "seconds": 30.0,
        }
        for line in evaluated
        for name, best in tasks.items()
    ]


def _examples(line: Mapping[str, Any], sources: tuple[str, ...]) -> dict[str, Any]:
    sure = min(0.95, 0.1 + line["eval_accuracy"])
    place = MaskedPlace(
        before="The capital of ",
        token=" France",
        predictions=(
            Prediction(token=" France" if sure > 0.4 else " the", probability=sure),
            Prediction(token=" Spain", probability=(1 - sure) / 2),
        ),
        token_probability=sure,
    )
    return EvaluationExamples(
        stage=line["stage"],
        step=line["step"],
        tokens=line["tokens"],
        examples=tuple(
            MaskExample(source=source, masked=(place, place), after=" is Paris.")
            for source in sources
        ),
    ).plain()


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    """Write a file of one object a line."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


SITUATIONS: dict[str, Situation] = {
    "one-stage": Situation(stages={"pretrain": 1000}),
    "three-stages": Situation(
        stages={"pretrain": 3000, "extend": 700, "decay": 150},
        recipe={"stages": {"decay": {"evaluation": {"mask_rate": 0.1}}}},
    ),
    "mixture": Situation(stages={"pretrain": 1000}, sources=("web", "books", "code", "wiki-de")),
    "decay": Situation(
        stages={"decay": 400},
        begin=(1000, 1000 * 4_700_000),
        floor=1.3,
        recipe={"start_from": ["one-stage/checkpoints/step-00001000.pt"]},
    ),
    "domain": Situation(
        stages={"adapt": 300},
        floor=1.2,
        recipe={"init_from": {"checkpoint": "one-stage/checkpoints/step-00001000.pt"}},
    ),
    "moving-average": Situation(
        stages={"pretrain": 600}, recipe={"moving_average": {"decay": 0.999, "every": 1}}
    ),
    "skipped": Situation(stages={"pretrain": 600}, bad=range(300, 341)),
    "tasks": Situation(
        stages={"pretrain": 1000, "decay": 200},
        evaluations=12,
        tasks={
            **{"mnli.accuracy": 0.83, "cola.mcc": 0.3, "stsb.spearman": 0.86},
            **{"sst2.accuracy": 0.94, "squad.f1": 0.8},
        },
    ),
    "very-short": Situation(stages={"pretrain": 1}, interval=1, tokens_per_update=900),
    "very-long": Situation(stages={"pretrain": 250_000, "decay": 20_000}),
}


def write_situations(
    folder: Path, situations: Mapping[str, Situation] = SITUATIONS
) -> dict[str, Path]:
    """The folder of every situation's run, where their recipes name each other."""
    written = {}
    for name, situation in situations.items():
        text = json.dumps(situation.recipe).replace("one-stage/", f"{folder}/one-stage/")
        written[name] = replace(situation, recipe=json.loads(text)).write(folder / name)
    return written


def main(folder: Path) -> None:
    runs = write_situations(folder)
    for run in runs.values():
        print(draw_runs([run]), write_page([run]))
    compared = [runs["one-stage"], runs["moving-average"], runs["mixture"], runs["tasks"]]
    print(draw_runs(compared, path=folder / "comparison.png"))
    print(write_page(compared, path=folder / "comparison.html"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
