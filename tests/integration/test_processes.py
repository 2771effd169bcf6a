"""Two processes against one: the same global batches, the same losses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.mask_examples_file import read_mask_examples
from tests.conftest import REPOSITORY, Overrides, read_records

pytestmark = pytest.mark.slow

DRIVER = "tests/integration/recorded_runs.py"
COMPOSER = Path(sys.executable).with_name("composer")
Row = tuple[torch.Tensor, torch.Tensor]

# Rows in a batch: 3 do not divide by two processes, 1 leaves a process without any.
ROWS = {"three": 3, "one": 1}
# Without dropout, which draws other numbers where rows stand elsewhere, results must agree too.
LONG = "fifty"  # updates of three rows
SETTINGS = ("duration=4ba", "schedule={name: constant}", "model.attention.output_dropout=0")


@pytest.fixture(scope="module")
def recorded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs on one process and on two; FOLDER/NAME-WORLD-RANK.pt and FOLDER/runs-WORLD/NAME."""
    folder = tmp_path_factory.mktemp("recorded")
    for world in (1, 2):
        runs = [
            [
                f"data.path={corpus}",
                f"runs_folder={folder / f'runs-{world}'}",
                f"run_name={name}",
                f"batch.size={2 * rows}",
                *SETTINGS,
            ]
            for name, rows in ROWS.items()
        ]
        runs.append([*runs[0], f"run_name={LONG}", "duration=50ba", "optimizer.lr=1e-3"])
        launcher = [sys.executable] if world == 1 else [str(COMPOSER), "-n", str(world)]
        done = subprocess.run(
            [*launcher, DRIVER, str(folder), json.dumps(runs)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def load(recorded: Path, name: str, world: int, rank: int) -> list[list[Row]]:
    updates: list[list[Row]] = torch.load(recorded / f"{name}-{world}-{rank}.pt")
    return updates


def is_null(row: Row) -> bool:
    ids, labels = row
    return bool((labels == -100).all()) and ids.unique().numel() == 1


@pytest.mark.parametrize("name", ROWS)
def test_two_processes_see_the_global_batches_of_one(recorded: Path, name: str) -> None:
    alone = load(recorded, name, world=1, rank=0)
    ranks = [load(recorded, name, world=2, rank=rank) for rank in range(2)]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) == 4
    for update, rows in enumerate(alone):
        shares = [rank[update] for rank in ranks]
        assert len(shares[0]) == len(shares[1])  # a process with fewer would hang the others
        for number in range(ROWS[name]):
            assert not is_null(rows[number])
            for one, other in zip(rows[number], shares[number % 2][number // 2], strict=True):
                assert torch.equal(one, other)
        for padded in (rows, shares[0] + shares[1]):
            assert sum(is_null(row) for row in padded) == len(padded) - ROWS[name]


@pytest.mark.parametrize("name", ROWS)
def test_two_processes_compute_the_losses_and_counts_of_one(recorded: Path, name: str) -> None:
    one, two = (read_records(recorded / f"runs-{world}" / name) for world in (1, 2))
    assert len(one) == len(two) > 0
    for alone, together in zip(one, two, strict=True):
        assert alone["tokens"] == together["tokens"]
        for key in ("loss", "eval_loss", "eval_accuracy"):
            if key in alone:
                # float32 sums in another order
                assert together[key] == pytest.approx(alone[key], abs=2e-4)
    one_shown, two_shown = (
        read_mask_examples(recorded / f"runs-{world}" / name) for world in (1, 2)
    )
    assert len(one_shown) == len(two_shown) > 0
    for by_one, by_two in zip(one_shown, two_shown, strict=True):
        for alone_shown, shown in zip(by_one.examples, by_two.examples, strict=True):
            assert shown.text == alone_shown.text
            for place, other in zip(shown.masked, alone_shown.masked, strict=True):
                assert place.token_probability == pytest.approx(other.token_probability, abs=3e-4)


@pytest.mark.parametrize("name", ROWS)
def test_waiting_for_the_gradients_of_others_is_told(recorded: Path, name: str) -> None:
    alone, together = (
        [
            record["time_shares"]
            for record in read_records(recorded / f"runs-{world}" / name, "train")
        ]
        for world in (1, 2)
    )
    assert {shares["communication"] for shares in alone} == {0}
    assert all(shares["communication"] > 0 for shares in together)
    assert all(shares["backward"] > 0 for shares in together)


@pytest.mark.parametrize("name", ROWS)
def test_two_processes_arrive_at_the_weights_of_one(recorded: Path, name: str) -> None:
    one, two = (
        read_checkpoint(list_checkpoints(recorded / f"runs-{world}" / name / "checkpoints")[-1])
        for world in (1, 2)
    )
    for key, weight in one.model.items():
        torch.testing.assert_close(two.model[key], weight, rtol=0, atol=2e-3, msg=key)


def test_after_fifty_updates_with_uneven_masks_the_weights_are_those_of_one_process(
    recorded: Path,
) -> None:
    # The processes' parts of an update have different numbers of masked tokens to be a mean over.
    parts = [load(recorded, LONG, world=2, rank=rank) for rank in range(2)]
    counts = [[sum(int((labels != -100).sum()) for _, labels in rows) for rows in p] for p in parts]
    assert len(counts[0]) == 50
    assert sum(one != other for one, other in zip(*counts, strict=True)) > 40
    one, two = (
        read_checkpoint(list_checkpoints(recorded / f"runs-{world}" / LONG / "checkpoints")[-1])
        for world in (1, 2)
    )
    difference, size = (
        sum(float(value.double().square().sum()) for value in values) ** 0.5
        for values in (
            [two.model[key] - weight for key, weight in one.model.items()],
            list(one.model.values()),
        )
    )
    assert 0 < difference < 1e-6 * size


def test_the_launcher_trains_main_on_two_processes(tiny: Overrides, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(str(COMPOSER), "-n", "2", "main.py", "tests/integration/tiny.yaml"),
            *tiny("duration=4ba", "schedule={name: constant}"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = read_records(tmp_path / "runs" / "tiny")
    assert [record["step"] for record in records if record["event"] == "train"] == [1, 2, 3, 4]
