"""The whole recipe in one command: stages, borders, kills, restarts with other values."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import signal
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, Logger, State

from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name, list_checkpoints
from flexbert.commands import main as flexbert
from flexbert.config.layer_plan import layer_plan
from flexbert.errors import UserError
from flexbert.pretrained.load_model import load_model
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import Stage, all_stages
from flexbert.train.run import DONE, train
from tests.conftest import TINY_RECIPE, Overrides, read_records, run_data_prep
from tests.integration.killed_run import KilledRun, Outcome, assert_same_weights
from tests.integration.launcher import Launcher, read_lines
from tests.integration.miniature import BASE, LARGE, LARGE_MINIATURE, MINIATURE

pytestmark = pytest.mark.slow


def settings(corpus: Path, *more: str) -> list[str]:
    return [*MINIATURE, f"data.path={corpus}", *more]


@pytest.fixture(scope="module")
def base(launcher: Launcher, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> KilledRun:
    """A miniature base, trained through all its stages without interruption."""
    run = KilledRun(launcher, BASE, settings(corpus), tmp_path_factory.mktemp("base"))
    assert run.launch() == 0
    return run


@pytest.fixture(scope="module")
def outcome(base: KilledRun) -> Outcome:
    return base.outcome()


@pytest.fixture(scope="module")
def borders(base: KilledRun) -> dict[str, int]:
    """The last step of each stage."""
    return {record["stage"]: record["step"] for record in read_records(base.run_folder)}


def checkpoint_of(run: KilledRun, step: int) -> Path:
    return run.run_folder / "checkpoints" / checkpoint_name(step)


def weights_of(run: KilledRun, step: int | None = None) -> dict[str, torch.Tensor]:
    file = list_checkpoints(run.run_folder / "checkpoints")[-1]
    return dict(read_checkpoint(file if step is None else checkpoint_of(run, step)).model)


def groups_of(run: KilledRun) -> dict[int, list[dict[str, Any]]]:
    """The optimizer's groups in every update."""
    return {line["update"]: line["groups"] for line in read_lines(run.batches)}


def test_killed_at_ten_points_and_every_border_it_ends_with_the_same_weights(
    launcher: Launcher, corpus: Path, tmp_path: Path, outcome: Outcome, borders: dict[str, int]
) -> None:
    run = KilledRun(launcher, BASE, settings(corpus), tmp_path)
    generator = random.Random(1)
    first, second, last = borders.values()
    steps = generator.sample(range(1, last), 4)
    at_borders = [
        moment
        for border in (first, second)
        for moment in (
            (border, run.saving),  # while the stage's last checkpoint is written
            (border, checkpoint_of(run, border).exists),  # before the next stage is built
            (border + 1, lambda: True),  # in its first updates
        )
    ]
    moments = sorted([*((step, lambda: True) for step in steps), *at_borders], key=lambda m: m[0])
    for step, due in moments:
        begun = (lambda step=step: run.step_begun(step - 1)) if step else (lambda: True)
        code = run.launch(
            lambda begun=begun, due=due: begun() and due(), num_workers=generator.randrange(2)
        )
        assert code == -signal.SIGKILL, step
    assert run.launch() == 0
    killed = run.outcome()
    assert killed.batches == outcome.batches
    assert killed.records == outcome.records
    assert_same_weights(killed.weights, outcome.weights)


def test_other_numbers_of_processes_go_on_with_the_same_batches_across_borders(
    launcher: Launcher, corpus: Path, tmp_path: Path, outcome: Outcome, borders: dict[str, int]
) -> None:
    run = KilledRun(launcher, BASE, settings(corpus), tmp_path)
    first, second, _ = borders.values()
    for num_processes, step in ((2, first + 2), (1, second + 1)):
        code = run.launch(
            lambda step=step: run.step_begun(step), num_processes=num_processes, num_workers=1
        )
        assert code == -signal.SIGKILL
    assert run.launch(num_processes=2) == 0
    assert run.outcome().batches == outcome.batches


def test_nothing_of_a_stage_stays_through_the_next(corpus: Path, tmp_path: Path) -> None:
    """Neither its model nor its loader's processes."""
    models: list[weakref.ref[torch.nn.Module]] = []
    workers = []

    class Watcher(Callback):
        def fit_start(self, state: State, logger: Logger) -> None:
            models.append(weakref.ref(state.model))

        def batch_end(self, state: State, logger: Logger) -> None:
            workers.append(len(multiprocessing.active_children()))
            assert sum(model() is not None for model in models) == 1

    more = (f"runs_folder={tmp_path}", "data.num_workers=2")
    assert train(load_recipe(BASE, settings(corpus, *more)), [], [Watcher()]) == DONE
    assert len(models) == 3
    assert set(workers) == {2}


def test_one_unbroken_count_of_tokens_and_steps_runs_through_all_stages(
    base: KilledRun, borders: dict[str, int]
) -> None:
    records = read_records(base.run_folder, "train")
    assert [record["step"] for record in records] == list(range(1, borders["decay"] + 1))
    assert all(a["tokens"] < b["tokens"] for a, b in itertools.pairwise(records))
    before = 0
    for stage, last in borders.items():
        of_stage = [record for record in records if record["stage"] == stage]
        assert [r["tokens"] - r["stage_tokens"] for r in of_stage] == [before] * len(of_stage)
        assert of_stage[-1]["step"] == last
        before = of_stage[-1]["tokens"]
    longest = 48 * 64
    assert 30_000 <= records[borders["pretrain"] - 1]["tokens"] < 30_000 + longest


def test_every_update_runs_at_its_stages_values(
    base: KilledRun, corpus: Path, borders: dict[str, int]
) -> None:
    """From the first update of each stage on."""
    loaded = load_recipe(BASE, settings(corpus))
    groups = groups_of(base)
    records = read_records(base.run_folder, "train")
    # At the start of each stage and after each of its updates: (update of the run, tokens).
    ends = [0, *borders.values()]
    for stage, begin, end in zip(all_stages(loaded.stages), ends, ends[1:], strict=False):
        tokens = 0
        for update in range(begin, end):
            expected = stage.learning_rate(stage.clock(tokens, update - begin))
            for group in groups[update]:
                assert group["lr"] == expected
                assert group["max_lr"] == stage.recipe.optimizer.lr
                assert (group["beta1"], group["beta2"]) == (0.90, 0.98)
            assert records[update]["lr"] == expected
            assert records[update]["batch_size"] == stage.batches.size(update - begin)
            tokens = records[update]["stage_tokens"]
    assert groups[0][0]["lr"] == 0
    assert groups[borders["pretrain"]][0]["lr"] == 3e-4
    assert groups[borders["extend"]][0]["lr"] == 3e-4
    sizes = [record["batch_size"] for record in records]
    assert sizes[: borders["pretrain"]][:4] == [16, 16, 16, 32]
    assert set(sizes[borders["pretrain"] :]) == {12}


def test_a_finished_run_says_so_and_a_changed_stage_is_named(
    base: KilledRun, launcher: Launcher, corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = [*base.settings, "data.num_workers=0"]
    assert train(load_recipe(BASE, own), command=[]) == DONE
    assert "is finished" in capfd.readouterr().out
    with pytest.raises(UserError, match=r"stages\.decay\.optimizer\.lr \(none -> 0\.0001\)"):
        train(load_recipe(BASE, [*own, "stages.decay.optimizer.lr=1e-4"]), command=[])
    operational = [*own, "stages.decay.evaluation.interval=1ba"]
    assert train(load_recipe(BASE, operational), command=[]) == DONE


def test_a_stage_alone_from_where_the_one_before_ended_is_the_same_stage(
    base: KilledRun, launcher: Launcher, corpus: Path, tmp_path: Path, outcome: Outcome
) -> None:
    start = base.run_folder / "checkpoints" / "extend.pt"
    more = ("stage=decay", f"start_from={start}")
    alone = KilledRun(launcher, BASE, settings(corpus, *more), tmp_path)
    assert alone.launch() == 0
    assert_same_weights(weights_of(alone), outcome.weights)
    records = [r for r in read_records(base.run_folder) if r["stage"] == "decay"]
    keys = ("step", "tokens", "stage_tokens", "lr", "loss", "eval_loss")
    assert [[r.get(key) for key in keys] for r in read_records(alone.run_folder)] == [
        [r.get(key) for key in keys] for r in records
    ]


def test_the_decay_is_run_from_several_checkpoints_by_one_line(
    base: KilledRun, launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    starts = [checkpoint_of(base, step) for step in (5, 10)]
    more = ("stage=decay", f"start_from=[{', '.join(map(str, starts))}]")
    runs = KilledRun(launcher, BASE, settings(corpus, *more), tmp_path)
    assert runs.launch() == 0
    steps = []
    for start in starts:
        records = read_records(tmp_path / f"run-{start.stem}")
        assert {record["stage"] for record in records} == {"decay"}
        steps.append((records[0]["step"], records[-1]["step"]))
    assert steps == [(6, 11), (11, 16)]


def test_a_restart_with_other_values_preempted_is_the_restart_uninterrupted(
    base: KilledRun, launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    """From a checkpoint that is not the latest, in the middle of a stage."""
    more = (
        f"start_from={checkpoint_of(base, 5)}",
        "optimizer={lr: 1.0e-4, weight_decay: 1.0e-3, betas: [0.8, 0.9]}",
        "stages.pretrain.duration=36000tok",
        "stage=null",
    )
    whole = KilledRun(launcher, BASE, settings(corpus, *more), tmp_path / "whole")
    assert whole.launch() == 0
    preempted = KilledRun(launcher, BASE, settings(corpus, *more), tmp_path / "preempted")
    for step, signum in ((7, signal.SIGTERM), (9, signal.SIGTERM), (11, signal.SIGKILL)):
        code = preempted.launch(lambda step=step: preempted.step_begun(step), signum)
        assert code == (75 if signum == signal.SIGTERM else -signum)
    assert preempted.launch() == 0
    expected, result = whole.outcome(), preempted.outcome()
    assert result.batches == expected.batches
    assert result.records == expected.records
    assert_same_weights(result.weights, expected.weights)

    # It goes on with the very rows that came next, at the new values.
    batches = base.outcome().batches
    assert min(expected.batches) == 5
    assert expected.batches[5] == batches[5]
    stage: Stage = all_stages(load_recipe(BASE, settings(corpus, *more)).stages)[0]
    records = {r["step"]: r for r in read_records(base.run_folder, "train")}
    groups = groups_of(preempted)
    assert groups[5][0]["lr"] == stage.learning_rate(stage.clock(records[5]["tokens"], 5))
    assert groups[9][0]["lr"] == 1e-4
    assert (groups[9][0]["beta1"], groups[9][0]["weight_decay"]) == (0.8, 1e-3)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["start_from=nowhere.pt"], "start_from: nowhere.pt: no such checkpoint"),
        (["start_from={weights}"], "holds weights alone"),
        (["start_from={last}"], "has ended the last stage; to train longer"),
        (["start_from={first}", "model.hidden_size=64"], "weights and recipe do not fit"),
        (["start_from={first}", "seed=3"], "seed (17 -> 3)"),
        (["init_from.checkpoint={last}", "model.hidden_size=48"], "model.attention.head_dim"),
        (
            ["init_from.checkpoint=nowhere.pt"],
            "init_from.checkpoint: nowhere.pt: no such checkpoint",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_gone_on_from_is_refused(
    base: KilledRun, corpus: Path, tmp_path: Path, overrides: list[str], words: str
) -> None:
    files = list_checkpoints(base.run_folder / "checkpoints")
    weights = tmp_path / "mean.pt"
    assert flexbert(["average", str(files[0]), "--out", str(weights)]) == 0
    places = {"weights": weights, "first": files[0], "last": files[-1]}
    given = [override.format(**places) for override in overrides]
    loaded = load_recipe(BASE, settings(corpus, f"runs_folder={tmp_path / 'runs'}", *given))
    with pytest.raises(UserError) as error:
        train(loaded, command=[])
    assert words in str(error.value)


def test_a_checkpoint_of_a_stage_that_the_recipe_lacks_is_refused(tiny: Overrides) -> None:
    constant = "schedule={name: constant}"
    loaded = load_recipe(TINY_RECIPE, tiny("stages={one: {duration: 2ba}}", constant))
    assert train(loaded, command=[]) == DONE
    start = loaded.first.run_folder / "checkpoints" / "one.pt"
    more = ("run_name=again", f"start_from={start}", constant)
    with pytest.raises(UserError, match=r"saved in stage 'one'; .*known: two.*stage="):
        train(load_recipe(TINY_RECIPE, tiny("stages={two: {duration: 4ba}}", *more)), command=[])
    begun = tiny("stages={two: {duration: 4ba}}", "stage=two", *more)
    assert train(load_recipe(TINY_RECIPE, begun), command=[]) == DONE
    assert read_records(start.parents[2] / "again")[-1]["step"] == 6


def test_another_tokenizers_corpus_is_refused(
    base: KilledRun, text: Path, corpus: Path, tmp_path: Path
) -> None:
    tokenizer, other = tmp_path / "tokenizer", tmp_path / "corpus"
    run_data_prep("tokenizer", "--vocab-size", 448, "--unused", 8, "--out", tokenizer, text)
    run_data_prep(
        *("corpus", "--tokenizer", tokenizer, "--validation", 0.1, "--out", other, text, "--quiet")
    )
    start = f"start_from={checkpoint_of(base, 5)}"
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        train(load_recipe(BASE, settings(other, f"runs_folder={tmp_path}", start)), command=[])
    later = f"stages.extend.data.path={other}"
    with pytest.raises(UserError, match=r"stages\.extend\.data: .* another tokenizer"):
        train(load_recipe(BASE, settings(corpus, f"runs_folder={tmp_path}", later)), command=[])


def test_a_checkpoint_holds_the_model_of_its_stage(base: KilledRun, tmp_path: Path) -> None:
    for stage, theta, length in (("pretrain", 10_000, 64), ("decay", 160_000, 256)):
        model = load_model(base.run_folder / "checkpoints" / f"{stage}.pt")
        assert {layer.theta for layer in layer_plan(model.config)} == {10_000, theta}
        assert model.max_length == length
        assert (
            flexbert(
                [
                    "export",
                    str(base.run_folder / "checkpoints" / f"{stage}.pt"),
                    str(tmp_path / stage),
                ]
            )
            == 0
        )
        exported = json.loads((tmp_path / stage / "config.json").read_text())
        assert exported["global_rope_theta"] == theta
        assert exported["max_position_embeddings"] == length


def test_large_begins_from_the_end_of_bases_pretraining(
    base: KilledRun, launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    start = base.run_folder / "checkpoints" / "pretrain.pt"
    overrides = [*LARGE_MINIATURE, f"init_from.checkpoint={start}", f"data.path={corpus}"]
    large = KilledRun(launcher, LARGE, [*overrides, "checkpoints.interval=1ba"], tmp_path)
    assert large.launch(lambda: large.step_begun(4)) == -signal.SIGKILL
    assert large.launch() == 0
    stages = dict.fromkeys(record["stage"] for record in read_records(large.run_folder))
    assert list(stages) == ["pretrain", "pretrain_lower", "extend", "decay"]
    # The first update's lr is 0, so that the first checkpoint holds the weights begun with.
    old, new = read_checkpoint(start).model, weights_of(large, 1)
    name = "encoder.embedding.tokens.weight"
    columns = (torch.arange(48) - (48 - 32) // 2) % 32
    assert torch.equal(new[name], old[name][:, columns])


def test_a_moving_average_is_that_of_the_weights_of_every_update(
    launcher: Launcher, corpus: Path, tmp_path: Path
) -> None:
    every = ("checkpoints.interval=1ba", "stages.decay.checkpoints.interval=1ba")
    more = ("moving_average={decay: 0.8}", *every)
    run = KilledRun(launcher, BASE, settings(corpus, *more), tmp_path)
    assert run.launch(lambda: run.step_begun(9)) == -signal.SIGKILL
    assert run.launch() == 0
    files = list_checkpoints(run.run_folder / "checkpoints")
    expected: dict[str, torch.Tensor] = {}
    for number, file in enumerate(files):
        weights = {k: v.double() for k, v in read_checkpoint(file).model.items()}
        # The first update's lr is 0: the average begins at the weights after it, too.
        expected = {k: 0.8 * expected[k] + 0.2 * weights[k] for k in weights} if number else weights
    out = tmp_path / "average.pt"
    assert flexbert(["average", str(files[-1]), "--ema", "--out", str(out)]) == 0
    averaged = read_checkpoint(out).model
    for name, value in expected.items():
        assert torch.allclose(averaged[name].double(), value, rtol=0, atol=1e-6), name


def test_the_best_of_a_stage_and_its_last_are_averaged(base: KilledRun, tmp_path: Path) -> None:
    out = tmp_path / "final.pt"
    command = ["average", str(base.run_folder), "--best", "2", "--metric", "eval_loss"]
    assert flexbert([*command, "--out", str(out)]) == 0
    evaluated = [
        record
        for record in read_records(base.run_folder, "eval")
        if record["stage"] == "decay" and checkpoint_of(base, record["step"]).exists()
    ]
    *earlier, last = evaluated
    best = sorted(earlier, key=lambda record: record["eval_loss"])[:2]
    chosen = [weights_of(base, record["step"]) for record in (*best, last)]
    averaged = read_checkpoint(out).model
    for name, value in averaged.items():
        mean = sum(weights[name].double() for weights in chosen) / 3
        assert torch.equal(value, mean.float()), name
