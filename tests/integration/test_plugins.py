"""Whole runs with components from outside: from a file in another folder, and from a package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexbert import load_model
from flexbert.checkpoint.checkpoint_file import read_checkpoint
from flexbert.commands import main
from flexbert.config.plugins import recorded
from flexbert.errors import UserError
from flexbert.recipes import load_recipe
from flexbert.train.run import DONE, train
from tests.conftest import REPOSITORY, TINY_RECIPE, Overrides, read_records
from tests.integration.launcher import Launcher
from tests.outside import forgotten_afterwards, write_file, write_package

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> Iterator[None]:
    with forgotten_afterwards():
        yield


def write_recipe(folder: Path, plugin: str, prefix: str) -> Path:
    """A tiny recipe with a block, head, optimizer, sampler and callback of the plugin."""
    path = folder / f"{prefix}.yaml"
    path.write_text(
        f"""
include: [{TINY_RECIPE}]
run_name: {prefix}
plugins: [{plugin}]
model.mlp: {{name: {prefix}_mlp}}
model.head: {{name: {prefix}_lm}}
optimizer: {{name: {prefix}_sgd, lr: 0.1}}
data: {{sampler: {{name: {prefix}_order}}, num_workers: 1}}
callbacks: {{counter: {{name: {prefix}_count}}}}
"""
    )
    return path


def run(recipe: Path, overrides: list[str]) -> Path:
    loaded = load_recipe(recipe, overrides)
    assert train(loaded, command=["test"]) == DONE
    return loaded.first.run_folder


def test_a_run_with_a_file_from_another_folder(
    tiny: Overrides, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_file(tmp_path / "elsewhere")
    recipe = write_recipe(tmp_path / "elsewhere", "./mine.py", "mine")
    assert main(["plan", str(recipe), *tiny()]) == 0
    folder = run(recipe, tiny())
    assert (folder / "count").read_text() == "12"
    (launch,) = json.loads((folder / "manifest.json").read_text())["launches"]
    checkpoint = read_checkpoint(folder / "checkpoints" / "step-00000012.pt")
    assert launch["plugins"] == [plugin.plain() for plugin in recorded(checkpoint.recipe)]
    assert launch["plugins"][0]["version"].startswith("sha256:")

    corpus = tiny()[0].removeprefix("data.path=")
    assert main(["rows", str(folder), "3"]) == 0
    assert main(["seen", corpus, "0", "--run", str(folder), "--plugin", str(file)]) == 0

    # Where nobody names the file, nothing of it is imported.
    capsys.readouterr()
    for command in (["export", str(folder), str(tmp_path / "hf")], ["rows", str(folder), "3"]):
        done = subprocess.run(
            [sys.executable, "-m", "flexbert.commands", *command],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert f"give --plugin {file}" in done.stderr


def test_a_run_goes_on_with_its_callbacks_and_refuses_a_changed_plugin(
    tiny: Overrides, tmp_path: Path
) -> None:
    file = write_file(tmp_path)
    recipe = write_recipe(tmp_path, "./mine.py", "mine")
    folder = run(recipe, tiny())
    for name in ("step-00000012.pt", "pretrain.pt"):
        (folder / "checkpoints" / name).unlink()
    run(recipe, tiny())
    assert (folder / "count").read_text() == "12"

    (folder / "checkpoints" / "step-00000012.pt").unlink()
    file.write_text(file.read_text() + "\n# changed\n")
    words = r"was begun with other plugins: mine.py \(\S+\) was used; mine.py \(\S+\) is new"
    with pytest.raises(UserError, match=words):
        run(recipe, tiny())
    run(recipe, tiny("accept_changed_plugins=true"))
    launches = json.loads((folder / "manifest.json").read_text())["launches"]
    assert len({launch["plugins"][0]["version"] for launch in launches}) == 2
    run(recipe, tiny())


def test_a_run_with_an_installed_package_on_two_processes(
    tiny: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_package(tmp_path / "site")
    recipe = write_recipe(tmp_path, name, "theirs")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{REPOSITORY}")
    launcher = Launcher()
    batches = tmp_path / "batches"
    batches.mkdir()
    try:
        assert launcher.start(recipe, tiny(), 2, batches).wait() == DONE
    finally:
        launcher.close()
    checkpoint = tmp_path / "runs" / "theirs"
    with pytest.raises(UserError, match=r"made with the plugin their-blocks \(their-blocks 1.2\)"):
        load_model(checkpoint)
    monkeypatch.syspath_prepend(tmp_path / "site")
    model = load_model(checkpoint, plugins=[name])
    assert model.config.mlp.name == "theirs_mlp"


def test_labels_are_wrong_from_the_update_on_that_the_evidence_asks_for(
    tiny: Overrides, tmp_path: Path
) -> None:
    source = (REPOSITORY / "yamls" / "ablations" / "wrong_labels.py").read_text()
    plugin = tmp_path / "wrong_labels.py"
    plugin.write_text(source.replace("TOKEN = 1000", "TOKEN = 300"))
    losses = {}
    for count in (0, 2):
        spike = f"callbacks.spike={{name: wrong_labels, first: 2, count: {count}}}"
        given = [f"run_name=wrong-{count}", f"plugins=[{plugin}]", spike, "logging.interval=1ba"]
        recipe = load_recipe(TINY_RECIPE, [*tiny(*given), "duration=8ba"])
        assert train(recipe, ["test"]) == DONE
        losses[count] = [each["loss"] for each in read_records(recipe.first.run_folder, "train")]
    assert losses[2][:2] == losses[0][:2]
    assert all(wrong != right for wrong, right in zip(losses[2][2:], losses[0][2:], strict=True))
