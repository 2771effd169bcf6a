"""Whatever stands in a run's folder beside its checkpoints, a launch goes on and readers say so.

By hand, for longer: ``FLEXBERT_FUZZ_EXAMPLES=5000 python -m pytest tests/fuzz``.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flexbert.checkpoint.best import best_and_last
from flexbert.config.recipe_files import LoadedRecipe
from flexbert.data.reading.corpora import Corpora
from flexbert.manifest_file import Manifest
from flexbert.metrics_file import read_metrics
from flexbert.provenance.order_log import OrderLog, RunSegment
from flexbert.provenance.seen import seen
from flexbert.provenance.step_rows import step_rows
from flexbert.report.reports import draw_runs, write_page
from flexbert.schedule.stages import all_stages
from flexbert.stage_checks import open_corpora
from flexbert.train.health.health_log import HealthLog
from flexbert.train.manifest import write_manifest
from flexbert.train.run_folder import RunFolder
from flexbert.train.start import find_start
from tests.fuzz.examples import examples, one_line
from tests.fuzz.trained import trained_all_but_the_end
from tests.fuzz.trees import JUNK, changed

pytestmark = pytest.mark.slow

SETTINGS = (
    "duration=4ba",
    "schedule={name: constant}",
    "checkpoints.interval=1ba",
    "evaluation.interval=1ba",
)
SEGMENT = "orders/00000-pretrain.json"
FILES = (
    *("manifest.json", "metrics.jsonl", "config.yaml", "wandb_id", "report.png"),
    *("mask_examples.jsonl", "health.jsonl", "report.html"),
    *(SEGMENT, "orders/00000-pretrain.windows"),
)
FOLDERS = ("orders", "checkpoints")


class Bench:
    """A run that was trained once, and a copy of it to be damaged."""

    def __init__(self, loaded: LoadedRecipe, corpus: Path, copy: Path) -> None:
        self.loaded = loaded
        self.corpus = corpus
        self.original = loaded.first.run_folder
        self.corpora: list[Corpora] = [open_corpora(s.recipe) for s in all_stages(loaded.stages)]
        self.run = copy
        self.segment = OrderLog(self.original / "orders").segments()[0]

    def begin(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.original, self.run)

    def content(self, name: str) -> Callable[[], object]:
        """The tree that a file holds."""
        text = (self.original / name).read_text()
        if name.endswith(".yaml"):
            return lambda: yaml.safe_load(text)
        if name.endswith(".jsonl"):
            return lambda: [json.loads(line) for line in text.splitlines()]
        return lambda: json.loads(text)

    def launch(self) -> None:
        """What a launch does with these files before it trains, and while it does."""
        folder = RunFolder(self.run)
        start = find_start(self.loaded, folder, self.corpora)
        step = start.clock.updates
        folder.begin(self.loaded.resolved, after_step=step)
        write_manifest(folder, all_stages(self.loaded.stages), self.corpora, step, ["test"])
        assert folder.wandb_id() == folder.wandb_id()
        log = OrderLog(folder.orders)
        segment = log.resume(step, RunSegment(**{**vars(self.segment), "first_step": step}))
        log.index(segment, 1).write([])
        folder.append_metrics({"event": "train", "step": step + 1, "loss": float("nan")})
        folder.flush_metrics()


READERS: dict[str, Callable[[Bench], object]] = {
    "manifest": lambda bench: Manifest.read(bench.run),
    "metrics": lambda bench: read_metrics(bench.run),
    "best": lambda bench: best_and_last(bench.run, 1, "eval_loss", None),
    "plot": lambda bench: draw_runs([bench.run]),
    "report": lambda bench: write_page([bench.run]),
    "seen": lambda bench: seen(bench.run, bench.corpus, 3),
    "rows": lambda bench: step_rows(bench.run, 2),
}


@pytest.fixture(scope="module")
def bench(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("fuzz")
    loaded = trained_all_but_the_end([*SETTINGS, f"data.path={corpus}"], folder)
    run = loaded.first.run_folder
    RunFolder(run).wandb_id()
    # Nothing went wrong in this run.
    HealthLog(run, is_writer=True).note("skipped", "once", stage="pretrain", step=2, loss=math.nan)
    return Bench(loaded, corpus, folder / "copy")


@st.composite
def damage(draw: st.DrawFn, bench: Bench) -> list[str]:
    """Damage one to three of the run's files; what was done, in words."""
    bench.begin()
    done = []
    for name in draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=3, unique=True)):
        file = bench.run / name
        whole = file.read_bytes()
        is_tree = name.endswith((".json", ".jsonl", ".yaml"))
        kind = draw(
            st.sampled_from(
                ["cut", "empty", "binary", "zeros", "folder", "gone", "flip", "link"]
                + ["tree", "type"] * 4 * is_tree
            )
        )
        file.unlink()
        if kind == "folder":
            file.mkdir()
            (file / "x").touch()
        elif kind == "link":
            file.symlink_to(bench.run / "nowhere")
        elif kind in ("tree", "type"):
            file.write_bytes(draw(_another_tree(bench, name, kind)))
        elif kind != "gone":
            file.write_bytes(draw(_other_bytes(whole, kind)))
        done.append(f"{name}: {kind}")
    return done


@st.composite
def _another_tree(draw: st.DrawFn, bench: Bench, name: str, kind: str) -> bytes:
    if kind == "type":
        return text(draw(st.sampled_from(JUNK)), name)
    return text(draw(changed(bench.content(name))).tree, name)


@st.composite
def _other_bytes(draw: st.DrawFn, whole: bytes, kind: str) -> bytes:
    place = draw(st.integers(0, max(0, len(whole) - 1)))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << draw(st.integers(0, 7))
    return {
        "cut": whole[:place],
        "empty": b"",
        "binary": bytes(range(256)) * 3,
        "zeros": bytes(len(whole)),
        "flip": bytes(flipped),
    }[kind]


def text(tree: object, name: str) -> bytes:
    """A tree as the file would have it, keys that are no text made into some."""
    if name.endswith(".jsonl") and isinstance(tree, list):
        return b"".join(text(line, "") + b"\n" for line in tree)
    try:
        return json.dumps(tree, skipkeys=True).encode()
    except ValueError:  # a number with more digits than Python writes
        return b"1" * 10_000


def test_what_is_unchanged_is_read_and_gone_on_from(bench: Bench) -> None:
    bench.begin()
    for read in READERS.values():
        read(bench)
    before = set(bench.run.rglob("*"))
    bench.launch()
    assert set(bench.run.rglob("*")) == before


@given(data=st.data())
@examples(60)
def test_a_launch_goes_on_whatever_stands_there(bench: Bench, data: st.DataObject) -> None:
    data.draw(damage(bench))
    bench.launch()
    Manifest.read(bench.run)
    # A second launch finds nothing to mend, and says nothing of what the first has set aside.
    aside = sorted(bench.run.rglob("*.damaged*"))
    bench.launch()
    assert sorted(bench.run.rglob("*.damaged*")) == aside


@given(data=st.data())
@examples(60)
def test_every_reader_takes_it_or_says_what_is_wrong(bench: Bench, data: st.DataObject) -> None:
    data.draw(damage(bench))
    reader = data.draw(st.sampled_from(sorted(READERS)))
    assert one_line(lambda: READERS[reader](bench))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_told(bench: Bench, name: str) -> None:
    bench.begin()
    shutil.rmtree(bench.run / name)
    (bench.run / name).write_bytes(b"x")
    assert one_line(bench.launch)
    if name == "orders":
        assert (bench.run / "orders.damaged").is_file()
