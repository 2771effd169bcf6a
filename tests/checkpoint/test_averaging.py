"""``flexbert average``: means are exact, the right checkpoints are taken, others are refused."""

from __future__ import annotations

import json
import math
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flexbert
from flexbert.checkpoint import averaging
from flexbert.checkpoint.checkpoint import Averaged, Checkpoint, TrainingState
from flexbert.checkpoint.checkpoint_file import read_checkpoint, write_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step
from flexbert.commands import main
from flexbert.config.encode import encode
from flexbert.config.model import ModelConfig
from flexbert.huggingface.export import export_checkpoint
from flexbert.nn.init import NormalConfig
from flexbert.nn.mlp import GLUConfig
from flexbert.nn.norm import RMSNormConfig
from flexbert.nn.padded import PaddedModel
from flexbert.nn.rope import RopeConfig
from tests.checkpoint.states import training_state
from tests.huggingface.cases import padded_batch, random_model
from tests.nn.cases import attention_config, small_model

Output = pytest.CaptureFixture[str]
State = dict[str, Tensor]
SMALL = small_model()
TOKENIZER = {"tokenizer.json": "{}"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def save(
    path: Path,
    config: ModelConfig = SMALL,
    dtype: torch.dtype = torch.float32,
    tokenizer: Mapping[str, str] = TOKENIZER,
    training: TrainingState | None = None,
) -> State:
    """A checkpoint with random weights, which are returned."""
    state = {name: value.to(dtype) for name, value in random_model(config).state_dict().items()}
    write_checkpoint(
        path,
        Checkpoint(
            recipe={"model": encode(config)}, tokenizer=tokenizer, model=state, training=training
        ),
    )
    return state


def weights_of(path: Path) -> State:
    return dict(read_checkpoint(path).model)


def mean_of(states: list[State], weights: list[float] | None = None) -> State:
    """The mean by numpy in float64, in the first one's dtypes."""
    return {
        name: torch.from_numpy(
            np.average([s[name].double().numpy() for s in states], axis=0, weights=weights)
        ).to(value.dtype)
        for name, value in states[0].items()
    }


def assert_same_bits(actual: State, expected: State) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        # Bits, because -0.0 equals 0.0.
        assert torch.equal(actual[name].view(torch.uint8), value.view(torch.uint8)), name


def average(*arguments: object) -> int:
    return main(["average", *(str(argument) for argument in arguments)])


def refusal(capsys: Output, *arguments: object) -> str:
    """The one line that a refused command prints."""
    assert average(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    return output.err


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("weights", [None, [1, 3, 0.5], [0, 2, 0], [1] * 20], ids=str)
def test_the_mean_is_that_of_float64(
    tmp_path: Path, dtype: torch.dtype, weights: list[float] | None
) -> None:
    paths = [tmp_path / f"{i}.pt" for i in range(len(weights or [0, 0]))]
    states = [save(path, dtype=dtype) for path in paths]
    given = [] if weights is None else ["--weights", *weights]
    assert average(*paths, "--out", tmp_path / "mean.pt", *given) == 0
    assert_same_bits(weights_of(tmp_path / "mean.pt"), mean_of(states, weights))


def test_one_checkpoint_averages_to_itself(tmp_path: Path) -> None:
    save(tmp_path / "a.pt")
    contents = read_checkpoint(tmp_path / "a.pt")
    for value in contents.model.values():
        value.view(-1)[0] = -0.0
    write_checkpoint(tmp_path / "zeros.pt", contents)
    assert average(tmp_path / "zeros.pt", "--out", tmp_path / "mean.pt") == 0
    assert_same_bits(weights_of(tmp_path / "mean.pt"), contents.model)


def test_the_mean_has_dtypes_and_recipe_of_the_last_and_says_what_it_is_of(
    tmp_path: Path, capsys: Output
) -> None:
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    states = [
        save(paths[0], small_model(name="first"), torch.bfloat16, training=training_state()),
        save(paths[1], small_model(name="last")),
    ]
    assert average(*paths, "--out", tmp_path / "mean.pt", "--weights", 1, 3) == 0
    contents = read_checkpoint(tmp_path / "mean.pt")
    assert_same_bits(contents.model, mean_of(states[::-1], [3, 1]))
    assert contents.training is None
    assert contents.recipe["model"]["name"] == "last"
    assert contents.averaged == Averaged(
        checkpoints=tuple(str(path) for path in paths), shares=(0.25, 0.75)
    )
    assert capsys.readouterr().out.splitlines() == [
        f"{paths[0]}: weight 0.25",
        f"{paths[1]}: weight 0.75",
        f"{tmp_path / 'mean.pt'}: the mean of 2",
    ]


def test_the_mean_loads_and_exports(tmp_path: Path, word_tokenizer: dict[str, str]) -> None:
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    states = [save(path, tokenizer=word_tokenizer) for path in paths]
    assert average(*paths, "--out", tmp_path / "mean.pt") == 0
    model = random_model(SMALL).eval()
    model.load_state_dict(mean_of(states))
    batch = padded_batch(SMALL)
    with torch.no_grad():
        expected = PaddedModel(model, SMALL)(**batch)  # type: ignore[arg-type]
        assert torch.equal(flexbert.load_model(tmp_path / "mean.pt")(**batch), expected)
    export_checkpoint(tmp_path / "mean.pt", tmp_path / "folder")


def test_a_run_folder_stands_for_its_newest(tmp_path: Path) -> None:
    save(tmp_path / "run" / "checkpoints" / checkpoint_name(5))
    newest = save(tmp_path / "run" / "checkpoints" / checkpoint_name(40))
    other = save(tmp_path / "b.pt")
    assert average(tmp_path / "run", tmp_path / "b.pt", "--out", tmp_path / "mean.pt") == 0
    assert_same_bits(weights_of(tmp_path / "mean.pt"), mean_of([newest, other]))


def test_one_checkpoint_at_a_time_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[weakref.ref[Tensor]] = []

    def watched(path: Path) -> Checkpoint:
        assert not any(tensor() is not None for tensor in read)
        contents = read_checkpoint(path)
        read.extend(weakref.ref(tensor) for tensor in contents.model.values())
        return contents

    monkeypatch.setattr(averaging, "read_checkpoint", watched)
    paths = [tmp_path / f"{i}.pt" for i in range(3)]
    for path in paths:
        save(path)
    assert average(*paths, "--out", tmp_path / "mean.pt") == 0
    assert read


@pytest.mark.parametrize(
    "config",
    [
        small_model(name="another"),
        small_model(init=NormalConfig(std=0.1)),
        small_model(attention=attention_config(backend="reference", dropout=0.1)),
        small_model(attention=attention_config(backend={"global": "sdpa", "local": "reference"})),
        small_model(mlp=GLUConfig(intermediate_size=48, output_dropout=0.1)),
    ],
    ids=["name", "init", "attention", "backend by kind", "mlp"],
)
def test_what_does_not_change_the_function_may_differ(tmp_path: Path, config: ModelConfig) -> None:
    save(tmp_path / "a.pt")
    save(tmp_path / "b.pt", config)
    assert average(tmp_path / "a.pt", tmp_path / "b.pt", "--out", tmp_path / "mean.pt") == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            small_model(
                attention=attention_config(rope=RopeConfig(theta={"global": 1e4, "local": 1e4}))
            ),
            "model.attention.rope.theta.global (160000.0 there, 10000.0 here)",
        ),
        (
            small_model(mlp=GLUConfig(intermediate_size=16)),
            "model.mlp.intermediate_size (48 there, 16 here)",
        ),
        (
            small_model(final_norm=RMSNormConfig()),
            "model.final_norm.eps (1e-05 there, 1e-06 here), "
            "model.final_norm.name (layernorm there, rmsnorm here)",
        ),
        (
            small_model(attention=attention_config(qk_norm=RMSNormConfig())),
            "model.attention.qk_norm.name (None there, rmsnorm here)",
        ),
    ],
    ids=["theta", "size", "norm", "absent"],
)
def test_another_model_is_refused_by_key_and_values(
    tmp_path: Path, capsys: Output, config: ModelConfig, words: str
) -> None:
    save(tmp_path / "a.pt")
    save(tmp_path / "b.pt", config)
    line = refusal(capsys, tmp_path / "a.pt", tmp_path / "b.pt", "--out", tmp_path / "mean.pt")
    assert f"{tmp_path / 'b.pt'}: not the model of {tmp_path / 'a.pt'}: " in line
    assert words in line
    assert not (tmp_path / "mean.pt").exists()


def test_another_tokenizer_is_refused(tmp_path: Path, capsys: Output) -> None:
    save(tmp_path / "a.pt")
    save(tmp_path / "b.pt", tokenizer={"tokenizer.json": "[]"})
    line = refusal(capsys, tmp_path / "a.pt", tmp_path / "b.pt", "--out", tmp_path / "mean.pt")
    assert "b.pt: not the tokenizer of" in line


def test_weights_that_are_not_those_of_the_recipe_are_refused(
    tmp_path: Path, capsys: Output
) -> None:
    save(tmp_path / "a.pt")
    contents = read_checkpoint(tmp_path / "a.pt")
    weights = dict(contents.model)
    weights.popitem()
    write_checkpoint(tmp_path / "b.pt", replace(contents, model=weights))
    line = refusal(capsys, tmp_path / "a.pt", tmp_path / "b.pt", "--out", tmp_path / "mean.pt")
    assert "b.pt: weights and recipe do not fit together" in line
    assert not (tmp_path / "mean.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.pt"], "--out"),
        (["a.pt", "--out", "a.pt"], "a.pt: is there already"),
        (["a.pt", "b.pt", "--out", "mean.pt"], "b.pt: no such checkpoint"),
        (["a.pt", ".", "--out", "mean.pt"], "no checkpoint in it"),
        (["a.pt", "--out", "mean.pt", "--weights", "1", "2"], "--weights: 2 for 1 checkpoints"),
        (["a.pt", "a.pt", "--out", "mean.pt", "--weights", "2", "-1"], "from 0 on, not all 0"),
        (["a.pt", "a.pt", "--out", "mean.pt", "--weights", "0", "0"], "got 0 0"),
        (["a.pt", "a.pt", "--out", "mean.pt", "--weights", "1", "nan"], "got 1 nan"),
        (["a.pt", "a.pt", "--out", "mean.pt", "--weights", "1", "inf"], "got 1 inf"),
        (["a.pt", "--out", "mean.pt", "--weights", "1", "--ema"], "not allowed with"),
        (["a.pt", "--out", "mean.pt", "--metric", "eval_loss"], "go with --best"),
        (["a.pt", "--out", "mean.pt", "--stage", "decay", "--ema"], "go with --best"),
        (["a.pt", "a.pt", "--out", "mean.pt", "--ema"], "--ema takes one"),
        (["a.pt", "a.pt", "--out", "mean.pt", "--best", "1"], "--best takes one"),
        (["a.pt", "--out", "mean.pt", "--best", "1"], "give the folder of a run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.pt"))
    assert words in refusal(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


# By step: stage, eval_loss, eval_accuracy, and the losses of two sources.
EVALUATIONS: dict[int, tuple[str, float, float, float, float]] = {
    100: ("pretrain", 1.0, 0.9, 1.0, 1.0),
    150: ("pretrain", 1.1, 0.8, 1.0, 1.0),
    200: ("decay", 2.5, 0.5, 1.0, 3.0),
    300: ("decay", 2.1, 0.9, 0.0, 0.0),
    400: ("decay", 2.2, 0.1, 2.0, 1.0),
    500: ("decay", 2.4, 0.4, 3.0, 2.0),
    600: ("decay", 2.3, 0.6, 2.0, 2.0),
}
# Of the best, 300, nothing is left; 550 was not evaluated.
SAVED_STEPS = (100, 150, 200, 400, 500, 550, 600)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of two stages."""
    folder = tmp_path / "run"
    for step in SAVED_STEPS:
        save(folder / "checkpoints" / checkpoint_name(step))
    write_records(folder, EVALUATIONS)
    return folder


def write_records(
    run: Path, evaluations: Mapping[int, tuple[str, float, float, float, float]]
) -> None:
    lines = []
    for step, (stage, loss, accuracy, web, books) in evaluations.items():
        header = {"stage": stage, "step": step, "tokens": 100 * step, "stage_tokens": 100 * step}
        # A source may be called as it likes.
        sources = {"web": web, "accuracy": books}
        result = {"eval_loss": loss, "eval_accuracy": accuracy, "eval_losses": sources}
        lines.append(json.dumps({"event": "train", **header, "loss": 9.0}))
        lines.append(json.dumps({"event": "eval", **header, **result}))
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def steps_averaged(run: Path, *arguments: object) -> list[int]:
    out = run / "mean.pt"
    assert average(run, "--out", out, *arguments) == 0
    contents = read_checkpoint(out)
    paths = [Path(path) for path in contents.averaged.checkpoints]
    assert_same_bits(contents.model, mean_of([weights_of(path) for path in paths]))
    return [checkpoint_step(path) for path in paths]


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ([1], [400, 600]),
        ([2], [400, 500, 600]),
        ([3], [200, 400, 500, 600]),
        ([2, "--metric", "eval_loss"], [400, 500, 600]),
        ([2, "--metric", "eval_accuracy"], [200, 500, 600]),
        ([2, "--metric", "eval_losses.web"], [200, 400, 600]),
        ([2, "--metric", "eval_losses.accuracy"], [400, 500, 600]),
        ([1, "--stage", "pretrain"], [100, 150]),
    ],
    ids=str,
)
def test_the_best_of_a_stage_and_its_last_are_taken(
    run: Path, arguments: list[Any], steps: list[int]
) -> None:
    assert steps_averaged(run, "--best", *arguments) == steps


def test_what_is_not_a_number_is_the_worst(run: Path) -> None:
    write_records(run, EVALUATIONS | {400: ("decay", math.nan, math.nan, 0.0, 0.0)})
    assert steps_averaged(run, "--best", 2) == [200, 500, 600]


def test_the_chosen_are_told_with_their_values(run: Path, capsys: Output) -> None:
    steps_averaged(run, "--best", 1)
    folder = run / "checkpoints"
    assert capsys.readouterr().out.splitlines() == [
        f"{folder / checkpoint_name(400)}: eval_loss 2.2000, among the best",
        f"{folder / checkpoint_name(600)}: eval_loss 2.3000, the last",
        f"passed over, eval_loss is not known of them: {checkpoint_name(550)}",
        f"{run / 'mean.pt'}: the mean of 2",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([0], "--best: expected at least 1, got 0"),
        (
            [4],
            "at the step of 3 of stage decay's checkpoints before its last (not of "
            "step-00000550.pt); --best 4 needs 4",
        ),
        ([2, "--stage", "pretrain"], "at the step of 1 of stage pretrain's"),
        ([1, "--stage", "decai"], "unknown stage 'decai'; did you mean 'decay'? (known: decay, pr"),
        (
            [1, "--metric", "loss"],
            "unknown metric 'loss'; did you mean 'eval_loss'? "
            "(known: eval_accuracy, eval_loss, eval_losses.accuracy, eval_losses.web)",
        ),
    ],
    ids=str,
)
def test_a_choice_that_cannot_be_made_is_refused(
    run: Path, capsys: Output, arguments: list[Any], words: str
) -> None:
    assert words in refusal(capsys, run, "--out", run / "mean.pt", "--best", *arguments)
    assert not (run / "mean.pt").exists()


def test_a_newest_checkpoint_of_unknown_stage_is_refused(run: Path, capsys: Output) -> None:
    save(run / "checkpoints" / checkpoint_name(610))
    line = refusal(capsys, run, "--out", run / "mean.pt", "--best", 1)
    assert f"{checkpoint_name(610)}: nothing is recorded at its step or later" in line
    assert "give --stage (recorded: pretrain, decay)" in line
    assert steps_averaged(run, "--best", 1, "--stage", "decay") == [400, 600]


def test_a_run_without_checkpoints_has_no_best(run: Path, capsys: Output) -> None:
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint in it" in refusal(capsys, run, "--out", run / "mean.pt", "--best", 1)


def test_a_moving_average_becomes_a_checkpoint(tmp_path: Path, capsys: Output) -> None:
    moving = random_model(SMALL).state_dict()
    path = tmp_path / "run" / "checkpoints" / checkpoint_name(7)
    save(path, training=training_state(moving))
    assert average(tmp_path / "run", "--ema", "--out", tmp_path / "ema.pt") == 0
    out = tmp_path / "ema.pt"
    assert capsys.readouterr().out == f"{out}: the moving average in {path}\n"
    contents = read_checkpoint(out)
    assert_same_bits(contents.model, moving)
    assert contents.averaged == Averaged(checkpoints=(str(path),))
    loaded = flexbert.load_model(out).model.state_dict()
    assert_same_bits(loaded, moving)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (None, "holds no moving average; to train with one: moving_average in the recipe"),
        (training_state(), "holds no moving average"),
        (training_state({}), "do not fit together"),
    ],
    ids=["weights alone", "none", "empty"],
)
def test_a_checkpoint_without_a_moving_average_is_refused(
    tmp_path: Path, capsys: Output, training: TrainingState | None, words: str
) -> None:
    save(tmp_path / "a.pt", training=training)
    assert words in refusal(capsys, tmp_path / "a.pt", "--ema", "--out", tmp_path / "ema.pt")
    assert not (tmp_path / "ema.pt").exists()
