"""A block of one's own: the worked examples of docs/blocks.md, as a reader would use them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "blocks.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# (flexbert/nn/\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
OVERRIDES = {
    "flexbert/nn/squared_relu.py": "model.mlp={name: squared_relu, intermediate_size: 96}",
    "flexbert/nn/differential.py": (
        "model.attention={name: differential, num_heads: 2, windows: {repeat: [global, 16, 16]}, "
        "rope: {name: rope, theta: {global: 1e4, local: 1e4}}}"
    ),
}
# Run in a copy of the project that has the new file: trains the model for some steps.
TRAIN = """
import sys, torch
from flexbert.components import load_recipe
from flexbert.nn.build import build_model
from flexbert.nn.compilation import compile_model
from tests.nn.cases import packed_batch

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
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with both new files and nothing else changed."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("flexbert", "yamls", "tests"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file, source in EXAMPLES.items():
        (folder / file).write_text(source)
    return folder


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, capture_output=True, text=True, check=False
    )


def test_the_page_has_an_example_for_each_override() -> None:
    assert EXAMPLES.keys() == OVERRIDES.keys()


@pytest.mark.parametrize("file", OVERRIDES)
def test_a_new_file_is_a_new_block(copy: Path, file: str) -> None:
    recipe = "tests/integration/tiny.yaml"
    planned = run(copy, "-m", "flexbert.cli", "plan", recipe, OVERRIDES[file], "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["parameters"]["total"] > 0
    trained = run(copy, "-c", TRAIN, recipe, OVERRIDES[file])
    assert trained.returncode == 0, trained.stderr
    first, last = map(float, trained.stdout.split())
    assert last < first / 2


def test_a_mistyped_key_of_a_new_block_is_answered_like_any_other(copy: Path) -> None:
    override = "model.mlp={name: squared_relu, intermediate_sise: 96}"
    planned = run(copy, "-m", "flexbert.cli", "plan", "tests/integration/tiny.yaml", override)
    assert planned.returncode == 2
    assert "model.mlp.intermediate_sise: unknown key; did you mean 'intermediate_size'" in (
        planned.stderr
    )


def test_squared_relu_is_its_formula(copy: Path) -> None:
    script = """
import torch
from flexbert.nn.squared_relu import SquaredReLUConfig

mlp = SquaredReLUConfig(intermediate_size=24).build(16)
x = torch.randn(5, 16)
expected = (x @ mlp.up.weight.T).clamp(min=0) ** 2 @ mlp.down.weight.T
torch.testing.assert_close(mlp(x), expected)
"""
    checked = run(copy, "-c", script)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda p: p.stem)
def test_yaml_on_a_page_is_yaml(page: Path) -> None:
    for example in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        assert OmegaConf.create(textwrap.dedent(example))
