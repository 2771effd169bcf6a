"""A search: what starts from what, what is kept, and that kills and company change nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.commands import fit_processes, main
from flexbert.errors import UserError
from flexbert.tasks.designs import DESIGNS
from flexbert.tasks.fits import WEIGHTS, FitMaker, weights_path
from flexbert.tasks.models import find_models
from flexbert.tasks.results import RESULTS, FitRecord
from flexbert.tasks.search import Search, finished_fits, make_search, run_search
from flexbert.tasks.suite import load_suite
from tests.tasks.cases import rows_of, task_node, write_jsonl, write_suite, write_tiny

GRID = {"optimizer.lr": [1e-4, 1e-3, 3e-3], "epochs": [1, 2]}
SEEDS = [17, 18]
KILLS = 10


@dataclass(frozen=True)
class Made:
    """A suite of two tasks, of which one starts from the other, and a model; 24 fits."""

    suite: Path
    model: Path

    def search(self, folder: Path, *overrides: str, **changes: Any) -> Search:
        """
        Args:
            changes: of what a search is made of.
        """
        suite = load_suite(changes.pop("suite", self.suite), overrides, changes.pop("tasks", None))
        models = find_models(changes.pop("models", [str(self.model)]))
        design = DESIGNS[changes.pop("design", "full")]
        return make_search(suite, models, changes.pop("mode", "fine_tune"), design, folder)

    def run(self, folder: Path, *overrides: str, **changes: Any) -> dict[str, FitRecord]:
        search = self.search(folder, *overrides, **changes)
        run_search(search, FitMaker(folder, torch.device("cpu")), lambda *_: None)
        return finished_fits(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pair_tokenizer: dict[str, str]) -> Made:
    folder = tmp_path_factory.mktemp("made")
    nodes = {"mnli": task_node(folder, "pair", train=24, validation=16)}
    nodes["rte"] = {**task_node(folder, "classification", train=24, validation=16), "from": "mnli"}
    early = {"patience": 2, "evaluations_per_epoch": 1}
    suite = write_suite(folder, nodes, grid=GRID, seeds=SEEDS, early_stopping=early)
    return Made(suite, write_tiny(folder / "model.pt", pair_tokenizer))


@pytest.fixture(scope="module")
def finished(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A finished search's folder, and how many seconds it took."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    begun = time.perf_counter()
    made.run(folder)
    return folder, time.perf_counter() - begun


@pytest.fixture
def copied(finished: tuple[Path, float], tmp_path: Path) -> Path:
    return shutil.copytree(finished[0], tmp_path / "results")


def measured(records: dict[str, FitRecord]) -> dict[str, FitRecord]:
    """Records without how long they took."""
    return {fit: replace(record, seconds=0.0) for fit, record in records.items()}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of the results that are whole."""
    found = []
    for line in (folder / RESULTS).read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def best_by_hand(records: dict[str, FitRecord], task: str, seed: int) -> FitRecord:
    """The first of the best, in the order of the grid."""
    own = [each for each in records.values() if (each.task, each.seed) == (task, seed)]
    order = [(lr, epochs) for lr in GRID["optimizer.lr"] for epochs in GRID["epochs"]]
    own.sort(key=lambda each: order.index((each.point["optimizer.lr"], each.point["epochs"])))
    return max(own, key=lambda each: each.value)


def test_a_search_makes_every_point_with_every_seed_once(finished: tuple[Path, float]) -> None:
    lines = lines_of(finished[0])
    made = {(e["task"], *e["point"].values(), e["seed"]) for e in lines}
    assert len(lines) == len(made) == 2 * 3 * 2 * len(SEEDS) == 24


def test_a_task_starts_from_the_best_fit_of_the_same_seed(finished: tuple[Path, float]) -> None:
    records = finished_fits(finished[0])
    for record in records.values():
        expected = best_by_hand(records, "mnli", record.seed).fit if record.task == "rte" else None
        assert record.start == expected
    last = [each.fit for each in records.values() if each.task == "mnli"][-1]
    assert any(record.start != last for record in records.values() if record.task == "rte")


def test_weights_are_kept_of_what_others_start_from_alone(finished: tuple[Path, float]) -> None:
    records = finished_fits(finished[0])
    expected = {best_by_hand(records, "mnli", seed).fit for seed in SEEDS}
    assert {path.stem for path in (finished[0] / WEIGHTS).glob("*.pt")} == expected


def test_weights_that_are_gone_are_made_again(made: Made, copied: Path) -> None:
    before = finished_fits(copied)
    best = best_by_hand(before, "mnli", SEEDS[0]).fit
    weights = read_checkpoint(weights_path(copied, best)).model
    shutil.rmtree(copied / WEIGHTS)
    kept = [each for each in lines_of(copied) if each["task"] == "mnli"]
    (copied / RESULTS).write_text("".join(json.dumps(each) + "\n" for each in kept))
    assert measured(made.run(copied)) == measured(before)
    again = read_checkpoint(weights_path(copied, best)).model
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_search_whose_first_line_was_cut_by_a_kill_goes_on(made: Made, copied: Path) -> None:
    whole = (copied / RESULTS).read_bytes()
    (copied / RESULTS).write_bytes(whole[:100])
    assert finished_fits(copied) == {}
    assert len(made.run(copied, tasks=["mnli"])) == 12


def _run(made: Made, folder: Path) -> None:
    torch.set_num_threads(1)
    made.run(folder)


@pytest.mark.slow
def test_a_search_killed_ten_times_and_continued_by_two_equals_one_left_alone(
    made: Made, finished: tuple[Path, float], tmp_path: Path
) -> None:
    whole, seconds = finished
    folder = tmp_path / "killed"
    # Forked where everything is imported, so that kills fall into fits, and from a process that has
    # gone back through no graph: after that torch refuses to in a fork.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    moments = random.Random(0)
    counts = []
    for _ in range(KILLS):
        process = server.Process(target=_run, args=(made, folder))
        process.start()
        time.sleep(moments.uniform(0.02, 1.2) * seconds / KILLS)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        counts.append(len(finished_fits(folder)))
    assert counts[-1] < 24, "the last kill left something to do"
    pair = [server.Process(target=_run, args=(made, folder)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
        assert process.exitcode == 0
    assert measured(finished_fits(folder)) == measured(finished_fits(whole))
    fits = [each["fit"] for each in lines_of(folder)]
    assert len(fits) == len(set(fits)) == 24
    assert {p.name for p in (folder / WEIGHTS).glob("*.pt")} == {
        p.name for p in (whole / WEIGHTS).glob("*.pt")
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("defaults.batch_size=4", "with batch_size 8, not 4"),
        ("defaults.optimizer.weight_decay=0.5", "with optimizer.weight_decay 0.01, not 0.5"),
        ("tasks.mnli.metrics=[mcc]", "with metrics ['accuracy'], not ['mcc']"),
        ("tasks.rte.from=null", "with from mnli, not None"),
        ("suite=other", "for the suite test, not other"),
    ],
)
def test_a_folder_of_another_search_is_refused(
    made: Made, copied: Path, change: str, said: str
) -> None:
    with pytest.raises(UserError, match="holds fits of") as error:
        made.search(copied, change)
    assert said in str(error.value)
    assert "--out" in str(error.value)


def test_a_folder_of_other_rows_is_refused(made: Made, copied: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "other.jsonl", rows_of("classification", 24, seed=9))
    with pytest.raises(UserError, match="with other rows of train"):
        made.search(copied, f"tasks.rte.data.train={rows}")


def test_another_task_and_another_model_are_welcome(
    made: Made, copied: Path, tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    other = write_tiny(tmp_path / "other.pt", pair_tokenizer, seed=1)
    one_point = (
        "defaults.grid.optimizer.lr=[1e-3]",
        "defaults.grid.epochs=[1]",
        "defaults.seeds=[17]",
    )
    new = task_node(tmp_path, "regression", train=24, validation=16)
    suite = write_suite(tmp_path, {"sts": new}, grid=GRID, seeds=SEEDS)
    made.run(copied, *one_point, suite=suite, models=[f"other={other}", str(made.model)])
    records = finished_fits(copied)
    assert len(records) == 26
    assert {each.model for each in records.values() if each.task == "sts"} == {"other", "model"}


def test_more_of_a_grid_adds_to_what_is_there(made: Made, copied: Path) -> None:
    records = made.run(copied, "defaults.grid.epochs=[1,2,3]", tasks=["mnli"])
    assert len(records) == 24 + 3 * len(SEEDS)


def test_a_model_by_another_label_is_not_fitted_again(made: Made, copied: Path) -> None:
    before = (copied / RESULTS).read_bytes()
    made.run(copied, models=[f"again={made.model}"])
    assert (copied / RESULTS).read_bytes() == before


def test_a_design_makes_no_fit_that_it_does_not_want(made: Made, tmp_path: Path) -> None:
    records = made.run(tmp_path / "one-seed", design="one-seed", tasks=["mnli"])
    first = {f: r for f, r in records.items() if r.seed == SEEDS[0]}
    (other,) = [record for record in records.values() if record.seed != SEEDS[0]]
    assert len(first) == 6
    assert other.point == best_by_hand(first, "mnli", SEEDS[0]).point


def test_models_are_told_apart(made: Made, tmp_path: Path, pair_tokenizer: dict[str, str]) -> None:
    path = str(made.model)
    with pytest.raises(UserError, match="a is there already; write LABEL="):
        find_models([f"a={path}", f"a={write_tiny(tmp_path / 'b.pt', pair_tokenizer, seed=2)}"])
    with pytest.raises(UserError, match="is the same model as a"):
        find_models([f"a={path}", f"b={path}"])
    two = find_models([path, str(tmp_path / "b.pt")], untrained=True)
    assert [each.label for each in two] == ["model", "model (untrained)", "b"]


def test_how_many_fits_there_are_is_known_from_the_first_on(made: Made, tmp_path: Path) -> None:
    overrides = ["defaults.grid.epochs=[1]", "defaults.grid.optimizer.lr=[1e-3]"]
    search = made.search(tmp_path / "results", *overrides)
    maker = FitMaker(search.folder, torch.device("cpu"))
    told: list[tuple[int, int]] = []
    run_search(search, maker, lambda _, progress: told.append((progress.finished, progress.known)))
    # Of two tasks, of which one starts from the other, with two seeds.
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("mode", ["fine_tune", "frozen"])
def test_making_a_fit_leaves_the_global_random_state_as_it_is(
    made: Made, tmp_path: Path, mode: str
) -> None:
    rows = write_jsonl(tmp_path / "test.jsonl", rows_of("pair", 8))
    test = f"tasks.mnli.data.tests.other={rows}"
    state = torch.get_rng_state()
    overrides = ["defaults.grid.epochs=[1]", "defaults.grid.optimizer.lr=[1e-3]", test]
    records = made.run(tmp_path / "results", *overrides, mode=mode, tasks=["mnli"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(set(record.tests) == {"other"} for record in records.values())
    assert len(records) == len(SEEDS)


def test_processes_that_share_a_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []

    class Started:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            assert "--share" in command
            given.append(env)

        def poll(self) -> int:
            return 0

        def terminate(self) -> None:
            pass

        def wait(self) -> int:
            return 0

    monkeypatch.setattr("subprocess.Popen", Started)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(12)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    fit_processes.share_fits(["cpu"] * 3)
    assert [env["OMP_NUM_THREADS"] for env in given] == ["4", "4", "4"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fit_processes.share_fits(["cpu"] * 2)
    assert [env["OMP_NUM_THREADS"] for env in given[3:]] == ["1", "1"]


@pytest.mark.slow
def test_the_best_fits_are_exported_with_the_names_of_their_classes(
    made: Made, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished_fits(copied)
    command = ["evaluate", str(made.suite), f"again={made.model}", "--out", str(copied)]
    target = tmp_path / "exported"
    assert main([*command, "--device", "cpu", "--export", str(target), "--json"]) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 24
    assert finished_fits(copied) == before, "another label is no other model"
    best = max(best_by_hand(before, "mnli", seed).value for seed in SEEDS)
    (first,) = [
        each for seed in SEEDS if (each := best_by_hand(before, "mnli", seed)).value == best
    ][:1]
    ours = read_checkpoint(weights_path(copied, first.fit)).model["head.classifier.weight"]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(target / "mnli")
    assert torch.equal(theirs.classifier.weight, ours)
    assert theirs.config.id2label == {0: "low", 1: "mid", 2: "top"}
    assert (target / "rte" / "config.json").exists()
    assert "note" in printed.err or "logits as those of transformers" in printed.err


def test_texts_that_are_cut_are_counted_and_told(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = task_node(tmp_path, "classification", train=16, validation=8)
    rows = rows_of("classification", 16)
    rows[3]["text"] = "w20 " * 250_000
    write_jsonl(Path(node["data"]["train"]), rows)
    suite = write_suite(tmp_path, {"task": node}, epochs=1)
    command = ["evaluate", str(suite), str(made.model), "--out", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 0
    assert "1 texts are cut at max_length" in capsys.readouterr().err
    (record,) = (r for r in finished_fits(tmp_path / "out").values() if r.mode == "fine_tune")
    assert record.cut == {"train": 1, "validation": 0}
