"""Suites of tasks: what ``yamls/suites/glue.yaml`` says, typed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import flexbert.tasks.kinds
from flexbert.components import register_all, register_package
from flexbert.config.decode import decode
from flexbert.config.duration import Duration
from flexbert.config.encode import encode
from flexbert.config.fields import COMPUTATION, OPERATIONAL, Node, key
from flexbert.config.model import Pooling
from flexbert.config.optimizer import OptimizerConfig
from flexbert.config.recipe_files import interpolate, overrides_tree, read_tree
from flexbert.config.training import ScheduleConfig
from flexbert.config.tree import expand_dotted, flatten, merge
from flexbert.errors import (
    ConfigError,
    UserError,
    config_errors_under,
    did_you_mean,
    user_errors_at,
)
from flexbert.tasks.kinds.kind import TaskKind
from flexbert.tasks.scoring import require_metrics

Precision = Literal["amp_bf16", "fp32"]
# As a suite writes it, and as Python can.
FROM, FROM_TASK = "from", "from_task"
# What a grid cannot vary: it says what the task is, and not how it is fitted.
_NOT_IN_A_GRID = ("data", "kind", "metrics", FROM, "grid", "seeds", "probe")
_TASKS = "tasks"
_TOP = ("suite", "defaults", _TASKS)
# A key of a suite, which no model's path begins with.
_OVERRIDE = re.compile(rf"({'|'.join(_TOP)})(\.[^=/]+)?=")


@dataclass(frozen=True, kw_only=True)
class TaskData(Node):
    """Where a task's rows are from.

    Attributes:
        train: a ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file, also compressed, as
            ``hf:NAME[@REVISION][:CONFIG[:SPLIT]]`` one of the hub, or ``offline:TASK:SPLIT``.
        validation: what fits are chosen by; null takes a share of the training rows.
        validation_share: that share, the same rows whatever their order.
        tests: by name, what the chosen weights are tried on besides; nothing is chosen by it.
        rows: by split, ``train``, ``validation`` or a test's name: how many of its rows are taken
            at most, the same ones whatever their order.
    """

    train: str = key(COMPUTATION)
    validation: str | None = key(COMPUTATION, default=None)
    validation_share: float = key(COMPUTATION, default=0.1, above=0, below=1)
    tests: dict[str, str] = key(COMPUTATION, default_factory=dict)
    rows: dict[str, int] = key(COMPUTATION, default_factory=dict, above=0, unit="rows")

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("train", "validation", *self.tests)
        for name in self.rows:
            if name not in known:
                raise ConfigError(f"rows.{name}", f"no such split; {did_you_mean(name, known)}")


@dataclass(frozen=True, kw_only=True)
class EarlyStopping(Node):
    """When a fit ends before its epochs, and that its best weights are what counts.

    Attributes:
        patience: evaluations without a better one, after which it ends.
        evaluations_per_epoch: how often the validation rows are predicted.
    """

    patience: int = key(COMPUTATION, default=2, above=0)
    evaluations_per_epoch: int = key(COMPUTATION, default=1, above=0)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Node):
    """How a linear probe on frozen features is made.

    Attributes:
        layers: whose hidden states are read. ``first_and_last`` are the embedding's output and the
            last layer's, side by side (Su et al. 2021 and Li et al. 2020 take their mean): what a
            token is, which a last layer trained to predict tokens has lost some of, and what it
            means there.
        pooling: how a text's features are made of its tokens' hidden states.
        l2: strengths of the penalty on the probe's weights, of which the validation rows choose.
        examples: training rows, or words of them, that are taken at most; null takes all.
    """

    layers: Literal["last", "first_and_last"] = key(COMPUTATION, default="first_and_last")
    pooling: Pooling = key(COMPUTATION, default="mean")
    l2: tuple[float, ...] = key(COMPUTATION, default=(1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0), above=0)
    examples: int | None = key(COMPUTATION, default=20_000, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l2:
            raise ConfigError("l2", "expected one strength or more")


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Node):
    """One task of a suite, with how it is fine-tuned.

    Attributes:
        kind: what it is, and which columns it has.
        metrics: what is computed; fits are chosen by the first.
        max_length: longer texts are cut, [CLS] and [SEP] included.
        from_task: ``from``: a task whose best fit of the same seed this one's encoder starts from.
        seeds: of the order of examples, the new head and dropout; each point of the grid is fitted
            with each.
        batch_size: of an update.
        epochs: over the training rows.
        schedule: of the learning rate; its durations count updates (``ba``) or are fractions
            (``dur``).
        early_stopping: null evaluates once, at the end.
        pooling: which vector stands for a text, where a task is about texts; null is the one that
            the model's architecture always takes in transformers, or else the mean.
        head_dropout: before the classifier.
        precision: ``amp_bf16`` multiplies matrices in bfloat16.
        microbatch_tokens: that are held at once; a larger batch is accumulated.
        probe: what the frozen mode does instead.
    """

    data: TaskData
    kind: TaskKind
    metrics: tuple[str, ...] = key(COMPUTATION)
    max_length: int = key(COMPUTATION, default=512, at_least=3)
    from_task: str | None = key(COMPUTATION, default=None)
    seeds: tuple[int, ...] = key(COMPUTATION, default=(17,), at_least=0)
    batch_size: int = key(COMPUTATION, default=64, above=0)
    epochs: int = key(COMPUTATION, default=3, above=0)
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    early_stopping: EarlyStopping | None = field(default_factory=EarlyStopping)
    pooling: Pooling | None = key(COMPUTATION, default=None)
    head_dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)
    precision: Precision = key(COMPUTATION, default="amp_bf16")
    microbatch_tokens: int = key(OPERATIONAL, default=16_384, above=0)
    probe: ProbeConfig = field(default_factory=ProbeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, problem in (("metrics", not self.metrics), ("seeds", not self.seeds)):
            if problem:
                raise ConfigError(name, "expected at least one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds", "one is given twice")
        if self.microbatch_tokens < self.max_length:
            raise ConfigError(
                "microbatch_tokens",
                f"{self.microbatch_tokens} cannot hold a text of max_length {self.max_length}",
            )
        with user_errors_at("metrics"):
            require_metrics(self.kind.name, self.metrics)
        with config_errors_under("schedule"):
            self.schedule.check(Duration(10**6, "ba"))

    @property
    def metric(self) -> str:
        """What fits are chosen by."""
        return self.metrics[0]

    @property
    def written(self) -> dict[str, Any]:
        """The node as a suite writes it, defaults written out."""
        node = encode(self)
        return {FROM if name == FROM_TASK else name: value for name, value in node.items()}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One combination of a grid's values, and the task with it.

    Attributes:
        values: by dotted key; empty where there is no grid.
    """

    values: Mapping[str, Any]
    settings: TaskConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task by its name.

    Attributes:
        settings: with the first value of every axis.
        grid: values of any settings by their dotted keys.
        points: every combination of them, in the grid's order.
    """

    name: str
    settings: TaskConfig
    grid: Mapping[str, Sequence[Any]]
    points: tuple[Point, ...]

    @property
    def written(self) -> dict[str, Any]:
        """The node as a suite writes it, defaults written out."""
        return {**self.settings.written, "grid": {axis: list(v) for axis, v in self.grid.items()}}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tasks by name; those that others start from come first."""

    name: str
    tasks: Mapping[str, Task]

    @property
    def metric_names(self) -> list[str]:
        """Of every task: ``TASK.METRIC``."""
        return [
            f"{name}.{metric}"
            for name, task in self.tasks.items()
            for metric in task.settings.metrics
        ]

    @property
    def resolved(self) -> dict[str, Any]:
        """Plain containers that are the same suite, defaults written out."""
        return {
            "suite": self.name,
            "tasks": {name: task.written for name, task in self.tasks.items()},
        }


def is_suite(tree: Mapping[str, Any]) -> bool:
    """Whether what a YAML file says is a suite; a recipe has no tasks."""
    return _TASKS in tree


def changes_a_suite(text: str) -> bool:
    """Whether a command's argument changes a key of a suite, and does not name a model."""
    return _OVERRIDE.match(text) is not None


def load_suite(
    path: Path, overrides: Sequence[str] = (), tasks: Sequence[str] | None = None
) -> Suite:
    """Read, merge and decode a suite.

    Args:
        overrides: ``tasks.NAME.key=value`` for one task, ``defaults.key=value`` for all that do not
            say it themselves.
        tasks: names of those to take, with what they start from; None takes all.

    Raises:
        UserError: if the file cannot be read or an override is none.
        ConfigError: if the merged tree is no suite.
    """
    register_all()
    register_package(flexbert.tasks.kinds)
    tree = interpolate(merge(read_tree(path), overrides_tree(overrides)))
    for name in tree:
        if name not in _TOP:
            raise ConfigError(str(name), f"unknown key; {did_you_mean(str(name), _TOP)}")
    nodes = tree.get(_TASKS)
    if not isinstance(nodes, Mapping) or not nodes:
        raise ConfigError(_TASKS, "expected a mapping of one task or more")
    defaults = tree.get("defaults") or {}
    if not isinstance(defaults, Mapping):
        raise ConfigError("defaults", "expected a mapping")
    merged = {str(name): _merged(defaults, node, str(name)) for name, node in nodes.items()}
    chosen = _in_order(merged, _known(merged, tasks))
    suite_name = tree.get("suite", path.stem)
    if (
        not isinstance(suite_name, str)
        or not suite_name.replace("-", "").replace("_", "").isalnum()
    ):
        raise ConfigError(
            "suite", f"expected a name of letters, digits, - and _, got {suite_name!r}"
        )
    suite = Suite(name=suite_name, tasks={name: _task(name, merged[name]) for name in chosen})
    _check_seeds(suite)
    return suite


def _merged(defaults: Mapping[str, Any], node: Any, name: str) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        raise ConfigError(f"tasks.{name}", "expected a mapping")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"tasks.{name}", "a task's name has letters, digits, - and _ alone")
    return merge(defaults, node)


def _known(nodes: Mapping[str, Any], tasks: Sequence[str] | None) -> list[str]:
    for name in tasks or ():
        if name not in nodes:
            raise UserError(f"task {name}: the suite has none; {did_you_mean(name, nodes)}")
    return list(nodes) if tasks is None else [name for name in nodes if name in tasks]


def _in_order(nodes: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The names and all that they start from, each after what it starts from."""
    order: list[str] = []

    def take(name: str, above: tuple[str, ...]) -> None:
        start = nodes[name].get(FROM)
        where = f"tasks.{name}.{FROM}"
        if name in above:
            raise ConfigError(where, f"starts from itself ({' -> '.join((*above, name))})")
        if start is not None:
            if not isinstance(start, str) or start not in nodes:
                raise ConfigError(where, f"no task {start!r}; {did_you_mean(str(start), nodes)}")
            take(start, (*above, name))
        if name not in order:
            order.append(name)

    for name in names:
        take(name, ())
    return order


def _task(name: str, node: Mapping[str, Any]) -> Task:
    place = f"tasks.{name}"
    grid = node.get("grid") or {}
    if not isinstance(grid, Mapping):
        raise ConfigError(f"{place}.grid", "expected a mapping of keys to lists of values")
    # Null takes an axis out that the defaults have.
    axes = {axis: values for axis, values in flatten(grid).items() if values is not None}
    for axis, values in axes.items():
        where = f"{place}.grid.{axis}"
        if axis.split(".")[0] in _NOT_IN_A_GRID:
            raise ConfigError(where, "is no setting of a fit, which a grid could vary")
        if not isinstance(values, list) or not values:
            raise ConfigError(where, "expected a list of values")
        if len({repr(value) for value in values}) < len(values):
            raise ConfigError(where, "a value is given twice")
    rest = {name: value for name, value in node.items() if name != "grid"}
    combinations = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    points = tuple(
        Point(values=values, settings=_decoded(rest, axes, values, place))
        for values in combinations
    )
    settings = _decoded(rest, axes, {}, place)
    return Task(name=name, settings=settings, grid=axes, points=points)


def _decoded(
    node: Mapping[str, Any],
    axes: Mapping[str, list[Any]],
    values: Mapping[str, Any],
    place: str,
) -> TaskConfig:
    """A task with the values of a point of its grid; the first of each where there are none."""
    if FROM_TASK in node:
        raise ConfigError(f"{place}.{FROM_TASK}", f"unknown key; did you mean {FROM!r}?")
    first = {axis: listed[0] for axis, listed in axes.items()}
    tree = merge(node, expand_dotted(values or first))
    if FROM in tree:
        tree[FROM_TASK] = tree.pop(FROM)
    with config_errors_under(place):
        return decode(TaskConfig, tree)


def _check_seeds(suite: Suite) -> None:
    for name, task in suite.tasks.items():
        start = task.settings.from_task
        if start is None:
            continue
        missing = set(task.settings.seeds) - set(suite.tasks[start].settings.seeds)
        if missing:
            raise ConfigError(
                f"tasks.{name}.seeds",
                f"{start}, which it starts from, is not fitted with seed {min(missing)}",
            )
