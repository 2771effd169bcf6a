from __future__ import annotations

import multiprocessing
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flexbert import load_model, save_model
from flexbert.checkpoint.checkpoint import Checkpoint
from flexbert.checkpoint.checkpoint_file import CheckpointError, read_checkpoint, write_checkpoint
from flexbert.commands import main
from flexbert.config.encode import encode
from flexbert.config.plugins import Plugin, differences, import_plugins
from flexbert.config.registry import members
from flexbert.errors import ConfigError, UserError
from flexbert.nn.build import build_model
from flexbert.pretrained.load_model import LoadedModel
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE
from tests.nn.cases import small_model
from tests.outside import forgotten_afterwards, write_file, write_package


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> Iterator[None]:
    with forgotten_afterwards():
        yield


def write_recipe(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text("\n".join((f"include: [{TINY_RECIPE}]", *lines)) + "\n")
    return path


def test_a_file_is_found_beside_the_recipe_that_names_it(tmp_path: Path) -> None:
    file = write_file(tmp_path / "far" / "blocks")
    inner = write_recipe(tmp_path / "far", "plugins: [blocks/mine.py]", "model.mlp.name: mine_mlp")
    outer = tmp_path / "outer.yaml"
    outer.write_text(f"include: [{inner}]\nmodel.mlp: {{factor: 3.0}}\n")
    recipe = load_recipe(outer, [], planning=True).first
    assert encode(recipe.model.mlp) == {"name": "mine_mlp", "factor": 3.0}
    (plugin,) = recipe.plugins
    assert plugin.name == str(file)
    assert str(plugin).startswith("mine.py (sha256:")


def test_an_override_names_one_from_the_folder_it_is_given_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    changes = ["plugins=[./mine.py]", "optimizer={name: mine_sgd, lr: 0.1}"]
    assert load_recipe(TINY_RECIPE, changes, planning=True).first.optimizer.name == "mine_sgd"


def test_an_installed_package_is_imported_when_it_is_named_and_never_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_package(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    load_recipe(TINY_RECIPE, [], planning=True)
    assert "theirs" not in sys.modules
    (by_entry_point,) = import_plugins([name])
    (by_module,) = import_plugins(["theirs.blocks"])
    assert by_entry_point.version == by_module.version == "their-blocks 1.2"
    assert "theirs_mlp" in members("mlp")


def test_the_same_file_again_or_a_copy_of_it_is_no_conflict(tmp_path: Path) -> None:
    file, copy = write_file(tmp_path), write_file(tmp_path / "copy")
    versions = [import_plugins([path])[0].version for path in (file, file, copy)]
    assert len(set(versions)) == 1
    # An edited file is run again, and stands for itself.
    file.write_text(file.read_text().replace("factor: float = 2.0", "factor: float = 5.0"))
    import_plugins([file])
    assert members("mlp")["mine_mlp"]().factor == 5.0  # type: ignore[attr-defined]
    # A copy of what it was is another file that has its names.
    with pytest.raises(UserError, match=r"mine.py: raised ValueError \(line \d+\): mlp 'mine_mlp'"):
        import_plugins([copy])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_thing", r"raised ModuleNotFoundError \(line 1\): No module named"),
        ("x = 1\n1 / 0", r"raised ZeroDivisionError \(line 2\): division by zero"),
        ("def", "raised SyntaxError: invalid syntax"),
        ("raise SystemExit(0)", "raised SystemExit"),
        ("x = 1", "registers nothing; the module with @register has to be named"),
    ],
)
def test_a_plugin_that_fails_is_one_line(tmp_path: Path, source: str, words: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(UserError, match=words) as caught:
        import_plugins([file])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("plugins: ")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (["./mnie.py"], "plugins: mnie.py: no such file in .*; did you mean 'mine.py'"),
        (["no/such/folder/mine.py"], "plugins: mine.py: no such file .*folder is missing"),
        (["./"], "is a folder: name a .py file, or a module"),
        (["mine"], "mine: no such module; to name the file, write ./mine.py"),
        (["torhc"], r"torhc: no such module or entry point; did you mean 'torch'\? \(entry points"),
        (["json"], "json registers nothing"),
        ("./mine.py", "plugins: expected a list, got './mine.py'"),
        ([3], "plugins.0: expected a file as ./my_block.py"),
        ([{"name": "./mine.py", "version": "sha256:0"}], "is not sha256:0, as the recipe pins"),
    ],
)
def test_what_is_no_plugin_is_refused_with_the_nearest_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: Any, words: str
) -> None:
    write_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        import_plugins(nodes)


def test_a_name_that_is_taken_is_refused_and_what_has_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "glu.py"
    file.write_text(
        "from flexbert.config.registry import register\n"
        "from flexbert.config.model import MLPConfig\n"
        "@register('glu')\n"
        "class GLUConfig(MLPConfig): pass\n"
    )
    with pytest.raises(
        UserError, match=r"mlp 'glu' is there already, from flexbert\.nn\.mlp; give"
    ):
        import_plugins([file])


def test_plugins_belong_to_the_whole_run(tmp_path: Path) -> None:
    write_file(tmp_path)
    stages = "stages: {a: {}, b: {plugins: [./mine.py]}}"
    with pytest.raises(UserError, match=r"stages\.b\.plugins: belongs to the whole run"):
        load_recipe(write_recipe(tmp_path, stages), [], planning=True)


def test_what_a_run_writes_down_is_a_recipe_that_pins_its_plugins(tmp_path: Path) -> None:
    file = write_file(tmp_path)
    recipe = write_recipe(tmp_path, "plugins: [./mine.py]", "model.mlp: {name: mine_mlp}")
    resolved = load_recipe(recipe, [], planning=True).resolved
    assert Plugin.parse(resolved["plugins"][0]).version == import_plugins([file])[0].version
    again = load_recipe(
        write_recipe(tmp_path / "b", f"plugins: {resolved['plugins']}"), [], planning=True
    )
    assert encode(again.first.plugins) == resolved["plugins"]
    moved = {"plugins": [{**resolved["plugins"][0], "name": "/elsewhere/mine.py"}]}
    assert differences(resolved, moved) == []
    changed = {"plugins": [{"name": str(file), "version": "sha256:abc"}]}
    assert len(differences(resolved, changed)) == 2


def save_with(file: Path, path: Path) -> None:
    """A checkpoint of a model with a block from a plugin."""
    import_plugins([file])
    config = small_model(mlp=members("mlp")["mine_mlp"]())
    save_model(LoadedModel(build_model(config), config, {}, None), path)


def test_a_checkpoint_names_the_plugin_it_needs_and_never_imports_it(tmp_path: Path) -> None:
    file, path = write_file(tmp_path), tmp_path / "a.pt"
    with forgotten_afterwards():
        save_with(file, path)
    assert "mine_mlp" not in members("mlp")
    words = (
        rf"a.pt: made with the plugin mine.py \(sha256:\w+\), .*give --plugin {file}, or plugins"
    )
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert main(["average", str(path), str(path), "--out", str(tmp_path / "b.pt")]) == 2
    assert "mine_mlp" not in members("mlp")

    options = ["--plugin", str(file)]
    assert main(["average", str(path), str(path), "--out", str(tmp_path / "b.pt"), *options]) == 0
    assert load_model(tmp_path / "b.pt", plugins=[file]).config.mlp.name == "mine_mlp"
    assert main(["export", str(path), str(tmp_path / "folder"), *options]) == 2


def test_a_model_built_with_another_version_says_so(tmp_path: Path) -> None:
    file, path = write_file(tmp_path), tmp_path / "a.pt"
    with forgotten_afterwards():
        save_with(file, path)
    file.write_text(file.read_text().replace("self.factor * ", "3 * "))
    with pytest.warns(UserWarning, match=r"built with mine.py \(.*\), and saved with mine.py \("):
        load_model(path, plugins=[file])


def test_a_hostile_record_of_plugins_is_no_more_than_text(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    recipe = {"model": {"name": "x"}, "plugins": [{"name": str(evil)}]}
    write_checkpoint(path, Checkpoint(recipe=recipe, tokenizer={}, model={}))
    with pytest.raises(CheckpointError, match=r"made with the plugin evil\.py"):
        load_model(path)
    assert not (tmp_path / "ran").exists()
    assert read_checkpoint(path).recipe == recipe


def test_a_head_of_ones_own_pools_by_itself(tmp_path: Path) -> None:
    file, path = write_file(tmp_path), tmp_path / "a.pt"
    save_with(file, path)
    model = load_model(path, head={"name": "mine_last"}, plugins=[file])
    ids, mask = torch.arange(12).view(2, 6), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    scores = model(ids, mask)
    assert scores.shape == (2, 1)
    assert torch.allclose(scores[1], model(ids[1:, :3], mask[1:, :3])[0], atol=1e-5)
    save_model(model, tmp_path / "b.pt")
    assert torch.equal(load_model(tmp_path / "b.pt")(ids, mask), scores)


def unpickled_name(data: bytes) -> str:
    return type(pickle.loads(data)).__name__


@pytest.mark.slow
def test_a_spawned_process_finds_the_file_again(tmp_path: Path) -> None:
    import_plugins([write_file(tmp_path)])
    data = pickle.dumps(members("sampler")["mine_order"]())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(unpickled_name, (data,)) == "InOrder"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "Half lacks build, shards_needed, which every sampler has"),
        (
            "    def shards_needed(self): return None\n    def build(self, *a): return None\n",
            "Half.shards_needed must be a property, as SamplerConfig has it",
        ),
    ],
    ids=["nothing", "a method for a property"],
)
def test_half_a_component_is_refused_where_it_is_written(
    tmp_path: Path, body: str, problem: str
) -> None:
    (tmp_path / "half.py").write_text(
        "from dataclasses import dataclass\n"
        "from flexbert.config.registry import register\n"
        "from flexbert.data.sampling.samplers import SamplerFactory\n"
        "@register('half')\n@dataclass(frozen=True, kw_only=True)\n"
        f"class Half(SamplerFactory):\n    '''Half.'''\n{body}"
    )
    with pytest.raises(ConfigError, match=re.escape(problem)):
        import_plugins([str(tmp_path / "half.py")])
