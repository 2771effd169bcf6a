"""What Weights & Biases and TensorBoard hold of a run of two stages that was started twice."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from composer import Callback, Logger, State
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record as WandbRecord
from wandb.sdk.internal.datastore import DataStore

from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.errors import ConfigError
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, Overrides, read_records

pytestmark = pytest.mark.slow

STAGES = "stages={one: {duration: 4ba}, two: {duration: 2ba, optimizer.lr: 5.0e-3}}"
# Those of a line of metrics.jsonl that are no curve.
NO_CURVES = {"event", "stage", "time"}


class Probe(Callback):
    """Logs a metric of its own, as a recipe's callback may."""

    def batch_end(self, state: State, logger: Logger) -> None:
        logger.log_metrics({"probe/steps": int(state.timestamp.batch.value)})


@pytest.fixture
def folder(
    tiny: Overrides, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "from-the-environment")
    loaded = load_recipe(
        TINY_RECIPE,
        tiny(
            STAGES,
            "schedule={name: constant}",
            "evaluation.interval=2ba",
            "checkpoints.interval=2ba",
            "logging={interval: 1ba, tensorboard: true, wandb: {}}",
        ),
    )
    run_folder = loaded.first.run_folder
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"(flexbert|wandb|torch\.utils\.tensorboard)")
        assert train(loaded, command=["test"], callbacks=[Probe()]) == DONE
        for lost in list_checkpoints(run_folder / "checkpoints")[1:]:
            lost.unlink()
        for stage in ("one", "two"):
            (run_folder / "checkpoints" / f"{stage}.pt").unlink()
        assert train(loaded, command=["test"], callbacks=[Probe()]) == DONE
    said = capsys.readouterr()
    assert not re.search("(?i)warning|wandb:", said.out + said.err)
    assert said.out.count("W&B ") == said.out.count("TensorBoard ") == 2  # once a launch
    return run_folder


def wandb_records(file: Path) -> list[WandbRecord]:
    store = DataStore()
    store.open_for_scan(str(file))
    found = []
    while (data := store.scan_data()) is not None:
        record = WandbRecord()
        record.ParseFromString(data)
        found.append(record)
    return found


def history(records: list[WandbRecord]) -> list[dict[str, Any]]:
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def curves_of(record: dict[str, Any]) -> dict[str, float]:
    """The plain numbers of a line of metrics.jsonl."""
    return {key: value for key, value in record.items() if isinstance(value, int | float)}


def test_both_hold_each_record_once_under_its_own_name(folder: Path) -> None:
    check_wandb(folder)
    check_tensorboard(folder)


def check_wandb(folder: Path) -> None:
    # A file for each launch; both are one run there.
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{(folder / 'wandb_id').read_text()}"}
    expected = read_records(folder)
    for file, begins_after in zip(files, (0, 2), strict=True):
        records = wandb_records(file)
        (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
        assert (run.project, run.display_name) == ("from-the-environment", "tiny")
        lines = [line for line in history(records) if "tokens" in line]
        ours = [record for record in expected if record["step"] > begins_after]
        assert len(lines) == len(ours)
        for line, record in zip(lines, ours, strict=True):
            for key, value in curves_of(record).items():
                # Restarts compute the same and take another time.
                if begins_after or key in ("step", "loss", "eval_loss", "lr", "tokens"):
                    assert line[key] == pytest.approx(value), key
            names = {name.split("/")[0] for name in line if not name.startswith("_")}
            assert names <= record.keys() - NO_CURVES
        probed = [line["probe/steps"] for line in history(records) if "probe/steps" in line]
        assert probed == list(range(begins_after + 1, 7))
        config = {
            update.key: json.loads(update.value_json)
            for record in records
            if record.WhichOneof("record_type") == "config"
            for update in record.config.update
        }
        assert config["optimizer"]["lr"] == 1e-2
        assert config["stages"]["two"]["optimizer"]["lr"] == 5e-3


def check_tensorboard(folder: Path) -> None:
    assert [path for path in (folder / "tensorboard").rglob("*") if path.is_dir()] == []
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    for event, key in (("train", "loss"), ("train", "lr"), ("eval", "eval_loss")):
        expected = [(record["step"], record[key]) for record in read_records(folder, event)]
        found = [(scalar.step, scalar.value) for scalar in board.Scalars(key)]
        assert found == [(step, pytest.approx(value)) for step, value in expected]
    names = Counter(name.split("/")[0] for name in board.Tags()["scalars"])
    recorded = {key for record in read_records(folder) for key in record}
    assert set(names) <= (recorded - NO_CURVES) | {"probe"}
    assert "groups/0/lr" not in board.Tags()["scalars"]  # it is lr
    text = board.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "lr: 0.01" in text
    content = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"optimizer.lr" in content
    assert b"schedule.name" in content


def test_no_key_and_no_network_are_a_line_and_a_run_goes_on_offline_where_asked(
    tiny: Overrides,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    short = ("duration=1ba", "schedule={name: constant}")
    with pytest.raises(ConfigError, match=r"logging\.wandb: no API key for .*: run wandb login"):
        train(load_recipe(TINY_RECIPE, tiny(*short, "logging.wandb={}")), command=["test"])
    # Nothing listens there.
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    wanted = "logging.wandb={mode: online_or_offline, project: mine}"
    loaded = load_recipe(TINY_RECIPE, tiny(*short, wanted))
    assert train(loaded, command=["test"]) == DONE
    (warning,) = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: logging")
    )
    assert warning.endswith("it writes offline")
    (file,) = loaded.first.run_folder.glob("wandb/offline-run-*/*.wandb")
    losses = [line["loss"] for line in history(wandb_records(file)) if "loss" in line]
    assert len(losses) == 1
    assert math.isfinite(losses[0])
