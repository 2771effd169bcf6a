"""A block of one's own: the worked examples of docs/blocks.md, as a reader would use them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from flexbert.errors import UserError
from flexbert.recipes import load_recipe
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.outside import forgotten_afterwards

PAGE = (REPOSITORY / "docs" / "blocks.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
(RECIPE,) = re.findall(r"```yaml\n(include: .*?)```", PAGE, re.DOTALL)
CHANGES = {
    "squared_relu.py": ["model.mlp.intermediate_size=96"],
    "differential.py": [
        "plugins=[./differential.py]",
        "model.mlp={name: glu, intermediate_size: 48}",
        "model.attention={name: differential, num_heads: 2, windows: {repeat: [global, 16, 16]}, "
        "rope: {name: rope, theta: {global: 1e4, local: 1e4}}}",
    ],
}
# Run outside of the project: plans the recipe, and trains its model for some steps.
TRAIN = """
import sys, torch
from flexbert.commands import main
from flexbert.recipes import load_recipe
from flexbert.nn.build import build_model
from flexbert.nn.compilation import compile_model
from tests.nn.cases import packed_batch

assert main(["plan", *sys.argv[1:]]) == 0
recipe = load_recipe(sys.argv[1], sys.argv[2:], planning=True).first
torch.manual_seed(0)
model = build_model(recipe.model)
assert compile_model(model, autocast=False) == {}
for module in model.modules():
    module._compiled_call_impl = None
batch = packed_batch((30, 7, 50))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
for _ in range(20):
    loss = torch.nn.functional.cross_entropy(model(batch), batch.tokens)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert all(p.grad is not None and p.grad.any() for p in model.parameters())
print(losses[0], losses[-1])
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files and its recipe, of the tiny run instead of base's."""
    folder = tmp_path_factory.mktemp("outside")
    for file, source in EXAMPLES.items():
        (folder / file).write_text(source)
    recipe = RECIPE.replace("flexbert/yamls/base.yaml", str(TINY_RECIPE))
    (folder / "recipe.yaml").write_text(recipe)
    return folder


@pytest.fixture
def in_folder(outside: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(outside)
    with forgotten_afterwards():
        yield outside


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_has_an_example_for_each_change() -> None:
    assert EXAMPLES.keys() == CHANGES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("file", CHANGES)
def test_a_file_outside_is_a_new_block(outside: Path, file: str) -> None:
    trained = run(outside, "-c", TRAIN, "recipe.yaml", *CHANGES[file])
    assert trained.returncode == 0, trained.stderr
    first, last = map(float, trained.stdout.splitlines()[-1].split())
    assert last < first / 2


def test_a_mistyped_key_of_a_new_block_is_answered_like_any_other(in_folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"model\.mlp\.factor: unknown key; .*known: intermediate_size"
    ):
        load_recipe(in_folder / "recipe.yaml", ["model.mlp.factor=2"], planning=True)


def test_squared_relu_is_its_formula(in_folder: Path) -> None:
    mlp = load_recipe(in_folder / "recipe.yaml", [], planning=True).first.model.mlp.build(16)
    x = torch.randn(5, 16)
    expected = (x @ mlp.up.weight.T).clamp(min=0) ** 2 @ mlp.down.weight.T
    torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda p: p.stem)
def test_yaml_on_a_page_is_yaml(page: Path) -> None:
    for example in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        assert OmegaConf.create(textwrap.dedent(example))
