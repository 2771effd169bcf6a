"""What crosses from one room of the package to another has a type."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "flexbert"
# A dictionary of anything, and names that the package gives it.
CONTAINERS = {"dict", "Mapping", "MutableMapping"}
ANYTHING = {"Any", "object"}

# A whole room or file, or one function of it, that takes or returns dictionaries of anything.
ALLOWED = {
    # A recipe before it is decoded and after it is encoded: plain containers of YAML.
    "config/": "a recipe's tree",
    "train/run_folder.py": "a recipe's tree: config.yaml, and what changed in it",
    "train/trainer.py stage_trainer": "a recipe's tree, for checkpoints",
    "train/checkpointing.py Checkpointer.__init__": "a recipe's tree, for checkpoints",
    "train/plugin_agreement.py refuse_changed_plugins": "a recipe's tree",
    "train/processes/launch_agreement.py": "values that processes compare, whatever they are",
    "__init__.py load_model": "a head's tree",
    "pretrained/load_model.py load_model": "a head's tree",
    "pretrained/load_model.py with_head": "a head's tree",
    "pretrained/load_model.py config_with_head": "a head's tree",
    "pretrained/architecture_head.py": "a head's tree",
    "tasks/fine_tuning.py head_of": "a head's tree",
    "tasks/fits.py model_head": "a head's tree",
    "pretrained/architecture.py read_architecture": "a recipe's tree, in part",
    "publish/published_recipe.py published_recipe": "a recipe's tree",
    # What others have defined.
    "huggingface/": "config.json, as transformers writes it",
    "optim/": "parameter groups and states, as torch's optimizers keep them",
    "data/packing/loader.py": "Composer's batch",
    "train/composer_model.py": "Composer's batch",
    "train/mask_examples.py": "Composer's batch",
    "data/packing/microbatches.py MicrobatchBuilder.build": "Composer's batch",
    "train/loggers/": "metrics and hyperparameters, as Composer's loggers take them",
    "train/recipe_callbacks.py": "what a Composer callback keeps of itself in a checkpoint",
    "tasks/offline/": "rows of a data set, as readers of jsonl and parquet give them",
    # A dataclass as the plain containers of a file or of printed JSON, and back.
    "data/packing/position.py": "a file format: plain and read",
    "metrics_file.py Record.read": "a file format: one line",
    "metrics_file.py MetricsWriter.append": "a file format: one line",
    "mask_examples_file.py EvaluationExamples.plain": "a file format: one line",
    "report/plotly_figures.py plotly_figures": "figures as plotly.js reads them",
    "tasks/results.py FitRecord.read": "a file format: one line",
    "report/recorded_run.py recorded_recipe": "a recipe's tree",
    "sweeps/points.py random_points": "a sweep's tree, in part",
    "sweeps/points.py values_by_key": "a sweep's tree, in part",
    "sweeps/points.py labelled_points": "values of a recipe's keys",
    "sweeps/data_conditions.py names_of_changed": "what an order or masks follow from",
    "sweeps/suite_base.py all_models": "a sweep's tree, in part",
    "sweeps/suite_base.py check_suite_keys": "a sweep's tree, in part",
    "sweeps/search_space.py read_search": "a sweep's tree, in part",
    "tasks/suite.py": "a suite's tree",
    "tasks/results.py fingerprint_of": "what a fit or a task is made of, whatever it is",
    "tasks/fits.py fit_settings": "a suite's tree, in part",
    "tasks/fits.py of_a_fit": "a suite's tree, in part",
    "tasks/tables.py row_text": "a row of a source, as it has it",
    "provenance/order_log.py RunSegment.read": "a file format: a segment",
    "plan/plan.py StagePlan.plain": "printed JSON",
    "plan/plan.py Plan.plain": "printed JSON",
}


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Public functions of a module and of its public classes, by name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{member.name}", member
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def is_public(name: str) -> bool:
    own = name.rpartition(".")[2]
    return not own.startswith("_") or own.endswith("__")


def is_untyped(annotation: ast.expr | None, aliases: set[str]) -> bool:
    """Whether a dictionary of anything stands somewhere in an annotation."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Name) and node.id in aliases:
            return True
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            values = node.slice.elts[1:] if isinstance(node.slice, ast.Tuple) else []
            named = [value.id for value in values if isinstance(value, ast.Name)]
            if node.value.id in CONTAINERS and ANYTHING.intersection(named):
                return True
    return False


def aliases_of(trees: Iterable[ast.Module]) -> set[str]:
    """Names that modules give to dictionaries of anything."""
    found = set()
    for node in (node for tree in trees for node in tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if targets and is_untyped(node.value, set()):
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def untyped_functions(sources: dict[str, str]) -> set[str]:
    """``FILE FUNCTION`` of every public function with a dictionary of anything at its border."""
    trees = {file: ast.parse(source) for file, source in sources.items()}
    aliases = aliases_of(trees.values())
    found = set()
    for file, tree in trees.items():
        for name, function in functions(tree):
            given = function.args
            taken = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            annotations = [function.returns, *(argument.annotation for argument in taken)]
            if is_public(name) and any(is_untyped(one, aliases) for one in annotations):
                found.add(f"{file} {name}")
    return found


@pytest.fixture(scope="module")
def found() -> set[str]:
    return untyped_functions(
        {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    )


def covers(allowed: str, function: str) -> bool:
    in_room = allowed.endswith("/") and function.startswith(allowed)
    return in_room or allowed in (function, function.partition(" ")[0])


def test_no_dictionary_of_anything_crosses_a_rooms_border(found: set[str]) -> None:
    untyped = {name for name in found if not any(covers(allowed, name) for allowed in ALLOWED)}
    assert not untyped


def test_every_exception_is_needed(found: set[str]) -> None:
    unused = {allowed for allowed in ALLOWED if not any(covers(allowed, name) for name in found)}
    assert not unused


def test_it_is_found_wherever_it_stands() -> None:
    source = """
Anything = dict[str, Any]
def returned() -> list[dict[str, Any]]: ...
def taken(one: int, *, two: Mapping[str, object] | None = None) -> None: ...
def named(one: Anything) -> None: ...
def typed(one: dict[str, int], two: list[Any]) -> dict[str, Typed]: ...
def _private() -> dict[str, Any]: ...
class Thing:
    def __init__(self, one: dict[str, Any]) -> None: ...
    def _private(self) -> dict[str, Any]: ...
class _Private:
    def method(self) -> dict[str, Any]: ...
"""
    names = ("returned", "taken", "named", "Thing.__init__")
    assert untyped_functions({"a.py": source}) == {f"a.py {name}" for name in names}
