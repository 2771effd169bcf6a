"""Whatever a checkpoint holds, every reader takes it or says in one error what is wrong.

The files carry valid hashes: what is tested is what lies behind them. By hand, for longer:
``FLEXBERT_FUZZ_EXAMPLES=5000 python -m pytest tests/fuzz``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from flexbert import load_model
from flexbert.checkpoint.averaging import average_best, average_checkpoints, write_moving_average
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.checkpoint.file_hash import save_hashed
from flexbert.config.optimizer import Multipliers
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.reading.corpora import Corpora
from flexbert.huggingface.export import export_checkpoint
from flexbert.nn.build import build_model
from flexbert.pretrained.warm_start import check_init_from, init_from
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import all_stages
from flexbert.stage_checks import open_corpora
from flexbert.train.checkpointing import restore
from flexbert.train.recipe_callbacks import build_callbacks
from flexbert.train.run_folder import RunFolder
from flexbert.train.stage_data import open_stage_data
from flexbert.train.start import Start, find_start
from tests.conftest import TINY_RECIPE
from tests.fuzz.examples import examples, one_line
from tests.fuzz.trained import trained_all_but_the_end
from tests.fuzz.trees import changed

pytestmark = pytest.mark.slow

SETTINGS = (
    "duration=4ba",
    "schedule={name: constant}",
    "checkpoints.interval=1ba",
    "evaluation.interval=1ba",
    "moving_average={decay: 0.9}",
    "optimizer={name: adamw, lr: 1e-3}",
)


class Bench:
    """A run that was trained once, and every reader of its last checkpoint.

    What readers write goes to a folder that is emptied before the next.
    """

    def __init__(self, loaded: LoadedRecipe, corpora: list[Corpora], folder: Path) -> None:
        self.loaded = loaded
        self.corpora = corpora
        self.run_folder = loaded.first.run_folder
        self.newest = list_checkpoints(self.run_folder / "checkpoints")[-1]
        self.whole = self.newest.read_bytes()
        self.plain = torch.load(self.newest, weights_only=True)
        self.out = folder / "out"

    def read(self, reader: str, plain: Any) -> None:
        """Let one of the readers read the file with this content."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        with self.newest.open("w+b") as file:
            save_hashed(plain, file)
        READERS[reader](self)

    def content(self) -> Any:
        return self.plain

    def load(self) -> None:
        ids = torch.randint(20, 500, (2, 7))
        load_model(self.newest)(ids, torch.ones_like(ids))

    def average(self) -> None:
        first = list_checkpoints(self.run_folder / "checkpoints")[0]
        average_checkpoints([first, self.newest], self.out / "average.pt")

    def moving_average(self) -> None:
        write_moving_average(self.newest, self.out / "average.pt")

    def best(self) -> None:
        average_best(self.run_folder, self.out / "best.pt", 1)

    def export(self) -> None:
        export_checkpoint(self.newest, self.out / "exported")

    def tile(self) -> None:
        source = f"init_from={{checkpoint: {self.newest}, method: tile_center}}"
        more = ("model.hidden_size=64", "model.attention.num_heads=4", "model.num_layers=5", source)
        recipe = load_recipe(TINY_RECIPE, [*self._overrides("tiled"), *more]).first
        assert recipe.init_from is not None
        check_init_from(recipe.model, recipe.init_from, None)
        init_from(build_model(recipe.model), recipe.model, recipe.init_from, {})

    def start_from(self) -> None:
        given = [*self._overrides("restarted"), f"start_from=[{self.newest}]"]
        loaded = load_recipe(TINY_RECIPE, given)
        self._go_on(loaded, find_start(loaded, RunFolder(loaded.first.run_folder), self.corpora))

    def resume(self) -> None:
        folder = RunFolder(self.run_folder)
        start = find_start(self.loaded, folder, self.corpora)
        chosen = find_start(
            self.loaded, folder, self.corpora, (start.checkpoint,) if start.checkpoint else ()
        )
        assert (chosen.checkpoint, chosen.clock) == (start.checkpoint, start.clock)
        self._go_on(self.loaded, start)

    def _overrides(self, name: str) -> list[str]:
        recipe = self.loaded.first
        (source,) = recipe.data.all_sources.values()
        folder = f"runs_folder={self.run_folder.parent}"
        return [*SETTINGS, f"data.path={source.path}", folder, f"run_name={name}"]

    def _go_on(self, loaded: LoadedRecipe, start: Start) -> None:
        """What a run does before its next update, and the update of the weights."""
        stages = all_stages(loaded.stages)
        if start.checkpoint is None or start.stage == len(stages):
            return
        stage = stages[start.stage]
        data = open_stage_data(stage, self.corpora[0], start.data)
        next(data.stream.rows(data.start.packing_window, data.start.row))
        model = build_model(stage.recipe.model)
        optimizer = stage.recipe.optimizer.build(model)
        state: Any = SimpleNamespace(optimizers=[optimizer], timestamp=Timestamp())
        run: Any = SimpleNamespace(recipe=stage.recipe)
        callbacks = build_callbacks(stage.recipe, self.out)
        restore(start.checkpoint, state, model, run, callbacks)
        for group in optimizer.param_groups:
            group.update(stage.recipe.optimizer.hyperparameters(group, Multipliers(lr=1.0)))
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


READERS: dict[str, Callable[[Bench], None]] = {
    "load_model": Bench.load,
    "average": Bench.average,
    "moving average": Bench.moving_average,
    "best": Bench.best,
    "export": Bench.export,
    "init_from": Bench.tile,
    "start_from": Bench.start_from,
    "resume": Bench.resume,
}


@pytest.fixture(scope="module")
def bench(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("fuzz")
    loaded = trained_all_but_the_end([*SETTINGS, f"data.path={corpus}"], folder)
    corpora = [open_corpora(stage.recipe) for stage in all_stages(loaded.stages)]
    return Bench(loaded, corpora, folder)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_unchanged_is_read(bench: Bench, reader: str) -> None:
    bench.read(reader, bench.plain)


@given(data=st.data())
@examples(200)
def test_every_reader_takes_it_or_says_what_is_wrong(bench: Bench, data: st.DataObject) -> None:
    change = data.draw(changed(bench.content, tensors=True))
    reader = data.draw(st.sampled_from(sorted(READERS)))
    assert one_line(lambda: bench.read(reader, change.tree))
