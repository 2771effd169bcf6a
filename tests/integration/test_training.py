"""Whole runs in this process: what they leave behind, and how they continue."""

from __future__ import annotations

import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from composer import Callback, Logger, State

from benchmarks.verify_run import examples, model_loss
from flexbert import load_model
from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.data.reading.corpora import Corpora
from flexbert.errors import UserError
from flexbert.mask_examples_file import read_mask_examples
from flexbert.nn import cross_entropy
from flexbert.recipes import load_recipe
from flexbert.train import step_times
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, Overrides, read_records

pytestmark = pytest.mark.slow

# How fast a machine is does not belong to what a run computes.
TIMINGS = (
    "time",
    "seconds",
    "tokens_per_second",
    "tflops",
    "mfu",
    "time_shares",
    "peak_memory",
)


def run(overrides: list[str]) -> Path:
    loaded = load_recipe(TINY_RECIPE, overrides)
    assert train(loaded, command=["test"]) == DONE
    return loaded.first.run_folder


def final_weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(list_checkpoints(run_folder / "checkpoints")[-1]).model)


def computed(run_folder: Path) -> list[dict[str, Any]]:
    """The records of a run without its timings."""
    return [
        {key: value for key, value in record.items() if key not in TIMINGS}
        for record in read_records(run_folder)
    ]


def test_a_run_leaves_what_the_contract_names(tiny: Overrides) -> None:
    folder = run(tiny())
    assert [path.name for path in list_checkpoints(folder / "checkpoints")] == [
        "step-00000004.pt",
        "step-00000008.pt",
        "step-00000012.pt",
    ]
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert all(f"<h2>{title}</h2>" in page for title in ("Health", "Launches", "Data", "Recipe"))
    assert [found.step for found in read_mask_examples(folder)] == [6, 12]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["final_norm"] == config["model"]["head"]["norm"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["launches"][0]["command"] == ["test"]
    assert re.fullmatch(r"cpu, \d+ threads?", manifest["launches"][0]["device"])
    assert manifest["launches"][0]["packages"]["torch"] == torch.__version__.split("+")[0]

    training = read_records(folder, "train")
    assert [record["step"] for record in training] == list(range(1, 13))
    assert set(training[0]) >= {
        "event",
        "stage",
        "step",
        "tokens",
        "stage_tokens",
        "loss",
        "lr",
        "batch_size",
        "tokens_per_second",
        "tflops",
        "mfu",
    }
    evaluations = read_records(folder, "eval")
    assert [record["step"] for record in evaluations] == [6, 12]
    assert all(0 <= record["eval_accuracy"] <= 1 for record in evaluations)
    # The clock on the wall, and the training alone.
    records = read_records(folder)
    times = [datetime.datetime.fromisoformat(record["time"]) for record in records]
    assert times == sorted(times)
    assert {time.utcoffset() for time in times} == {datetime.timedelta(0)}
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] <= (times[-1] - times[0]).total_seconds() + seconds[0]
    assert evaluations[-1]["eval_loss"] < training[0]["loss"]


def test_every_update_runs_at_the_schedules_value(tiny: Overrides) -> None:
    folder = run(tiny("schedule.decay_shape=linear"))
    expected = [0, 1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 0.775, 0.55, 0.325]
    recorded = [record["lr"] / 1e-2 for record in read_records(folder, "train")]
    assert recorded == pytest.approx(expected)


def test_a_finished_run_says_so_and_changes_nothing(
    tiny: Overrides, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tiny())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    run(tiny())
    assert "is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_changed_recipe_is_refused_by_its_keys_and_operational_ones_are_not(
    tiny: Overrides,
) -> None:
    run(tiny())
    with pytest.raises(UserError, match=r"optimizer\.lr \(0\.01 -> 0\.02\)"):
        run(tiny("optimizer.lr=0.02"))
    run(tiny("logging.interval=5ba", "batch.microbatch_rows=1", "data.num_workers=1"))


@pytest.mark.parametrize("lost", ["killed", "corrupt"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tiny: Overrides, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tiny())
    weights, records = final_weights(folder), computed(folder)
    examples = (folder / "mask_examples.jsonl").read_bytes()
    *_, middle, last = list_checkpoints(folder / "checkpoints")
    last.unlink()
    expected_step = 8
    if lost == "corrupt":
        middle.write_bytes(middle.read_bytes()[:-1000])
        expected_step = 4
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"event": "train", "st')  # a kill in the middle of a line
    capsys.readouterr()

    run(tiny())
    output = capsys.readouterr().out
    assert f"after update {expected_step}" in output
    assert ("not a readable checkpoint" in output) == (lost == "corrupt")
    resumed = final_weights(folder)
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    assert computed(folder) == records
    assert (folder / "mask_examples.jsonl").read_bytes() == examples
    launches = json.loads((folder / "manifest.json").read_text())["launches"]
    assert [launch["after_step"] for launch in launches] == [0, expected_step]


def test_microbatches_change_memory_and_not_the_result(
    tiny: Overrides, capsys: pytest.CaptureFixture[str]
) -> None:
    # One pass over three rows against three of one row; sums differ by float32 rounding alone.
    settings = ("model.attention.output_dropout=0", "duration=4ba", "schedule.warmup=0ba")
    left_open = ("batch.microbatch_rows=null", "evaluation.microbatch_rows=null")
    whole = run(tiny(*settings, "run_name=whole", *left_open))
    assert "micro-batches of at most 3 rows" in capsys.readouterr().out
    split = run(tiny(*settings, "run_name=split", "batch.microbatch_rows=1"))
    for one, other in zip(read_records(whole), read_records(split), strict=True):
        for loss in one.keys() & {"loss", "eval_loss"}:
            assert one[loss] == pytest.approx(other[loss], abs=1e-5)


def test_load_model_needs_the_checkpoint_alone_and_gives_the_evaluated_model(
    tiny: Overrides,
) -> None:
    loaded = load_recipe(TINY_RECIPE, tiny())
    folder = run(tiny())
    corpus = Corpora.open(loaded.first.data).first
    chosen = list(examples(corpus, loaded.first.data, loaded.first.evaluation))
    checkpoint = list_checkpoints(folder / "checkpoints")[-1]
    loss = model_loss(checkpoint, chosen, corpus.meta.special_ids.pad, bf16=False)
    assert loss == pytest.approx(read_records(folder, "eval")[-1]["eval_loss"], abs=1e-5)

    model = load_model(checkpoint)
    assert not model.training
    # What is recorded of the first text is what the model says of it, padded, in dense logits.
    shown, example = read_mask_examples(folder)[-1].examples[0], chosen[0]
    ids = torch.from_numpy(example.input_ids)[None]
    probabilities = model(ids, torch.ones_like(ids))[0].softmax(-1)[example.positions]
    own = zip(probabilities.tolist(), example.labels.tolist(), shown.masked, strict=False)
    for of_place, label, place in own:
        assert place.token_probability == pytest.approx(of_place[label], abs=1e-4)
        assert place.predictions[0].probability == pytest.approx(max(of_place), abs=1e-4)
    assert shown.masked

    ids = torch.randint(20, 500, (2, 7))
    assert model(ids, torch.ones_like(ids)).shape == (2, 7, 512)


def test_recording_examples_changes_nothing_of_the_training(tiny: Overrides) -> None:
    """Dropout is on, so a single random number drawn between updates would show."""
    more = ("evaluation.interval=3ba",)
    with_examples = run(tiny("run_name=with", *more))
    without = run(tiny("run_name=without", "evaluation.examples=0", *more))
    assert not (without / "mask_examples.jsonl").exists()
    assert computed(with_examples) == computed(without)
    weights = final_weights(without)
    assert all(torch.equal(w, weights[name]) for name, w in final_weights(with_examples).items())


def test_only_the_newest_checkpoints_are_kept_when_asked(tiny: Overrides) -> None:
    folder = run(tiny("checkpoints.keep=2", "checkpoints.interval=3ba"))
    kept = [path.name for path in list_checkpoints(folder / "checkpoints")]
    assert kept == ["step-00000009.pt", "step-00000012.pt"]


def test_bfloat16_trains_on_a_cpu_in_float32_weights(tiny: Overrides) -> None:
    folder = run(tiny("precision=amp_bf16"))
    assert {weight.dtype for weight in final_weights(folder).values()} == {torch.float32}
    losses = [record["eval_loss"] for record in read_records(folder, "eval")]
    exact = [record["eval_loss"] for record in read_records(run(tiny("run_name=fp32")), "eval")]
    assert losses != exact
    assert losses == pytest.approx(exact, abs=0.05)


def test_a_compiled_run_says_so_and_continues_bit_for_bit(
    tiny: Overrides, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("compile=always", "model.num_layers=2", "model.attention.dropout=0.1")
    compiled, calls = cross_entropy._compiled_gradients(), []
    monkeypatch.setattr(
        cross_entropy,
        "_compiled_gradients",
        lambda: lambda *given: calls.append(1) or compiled(*given),
    )
    folder = run(tiny(*settings, "duration=8ba"))
    assert "torch.compile  on\n" in capsys.readouterr().out
    assert len(calls) == 1 + 16  # on trial, and for each micro-batch
    weights = final_weights(folder)
    list_checkpoints(folder / "checkpoints")[-1].unlink()
    run(tiny(*settings, "duration=8ba"))
    resumed = final_weights(folder)
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    losses = [record["loss"] for record in read_records(folder, "train")]
    assert all(math.isfinite(loss) for loss in losses)


def test_what_cannot_be_compiled_is_refused_or_announced(
    tiny: Overrides, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexbert.nn.compilation.cxx_compiler", lambda: None)
    with pytest.raises(UserError, match=r"compile: always cannot be done here: .*C\+\+ compiler"):
        run(tiny("compile=always"))
    run(tiny("duration=1ba", "schedule={name: constant}"))
    assert "torch.compile  off (compile: auto, device: cpu)\n" in capsys.readouterr().out


def test_a_deterministic_run_asks_torch_for_it(tiny: Overrides) -> None:
    run(tiny("deterministic=true", "duration=1ba", "schedule={name: constant}"))
    assert torch.are_deterministic_algorithms_enabled()
    run(tiny("run_name=other", "duration=1ba", "schedule={name: constant}"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_label_smoothing_and_z_loss_are_trained_on_and_not_evaluated(tiny: Overrides) -> None:
    short = ("duration=1ba", "schedule={name: constant}", "model.attention.output_dropout=0")
    plain = run(tiny(*short))
    other = run(tiny(*short, "run_name=other", "loss={name: cross_entropy, z_loss: 0.01}"))
    (before,), (after,) = read_records(plain, "train"), read_records(other, "train")
    # At random weights the denominator is the vocabulary: 0.01 ln(512)^2.
    assert after["loss"] - before["loss"] == pytest.approx(0.01 * math.log(512) ** 2, rel=0.05)
    (plain_eval,), (other_eval,) = read_records(plain, "eval"), read_records(other, "eval")
    assert other_eval["eval_loss"] == pytest.approx(plain_eval["eval_loss"], abs=0.1)


def test_a_corpus_elsewhere_trains_as_the_local_one(
    tiny: Overrides, corpus: Path, tmp_path: Path
) -> None:
    order = "data.sampler={name: shard_blocks, block_shards: 1}"
    local = run(tiny("run_name=local", order))
    copy = f"data.path={tmp_path / 'copy'}"
    fetched = run(
        tiny("run_name=fetched", order, f"data.remote={corpus}", copy, "data.cache_limit=1mb")
    )
    assert computed(fetched) == computed(local)
    for name, weight in final_weights(local).items():
        assert torch.equal(final_weights(fetched)[name], weight)


class Clock:
    """A clock of its own: a millisecond goes by whenever it is read, and what a test adds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        self.seconds += 1e-3
        return self.seconds


def test_waiting_for_data_is_told_and_warned_of(
    tiny: Overrides, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(step_times, "time", clock)

    class SlowLoader(Callback):
        def before_dataloader(self, state: State, logger: Logger) -> None:
            clock.seconds += 1.0

    settings = ("duration=3ba", "schedule={name: constant}")
    loaded = load_recipe(TINY_RECIPE, tiny(*settings))
    assert train(loaded, command=["test"], callbacks=[SlowLoader()]) == DONE
    waits = [
        record["time_shares"]["data"] for record in read_records(loaded.first.run_folder, "train")
    ]
    assert waits[0] < 0.5  # a loader's start is no waiting
    assert min(waits[1:]) > 0.9
    warning = "of the time went by waiting for data; it may need more data.num_workers than 0"
    told = capsys.readouterr().out
    assert told.count("warning: 9") == 2
    assert told.count(warning) >= 2
