"""Whatever is wrong with a suite, its rows or its models is one line, and exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.commands import main
from tests.tasks.cases import (
    PLAIN,
    rows_of,
    task_node,
    write_jsonl,
    write_suite,
    write_tiny,
)

Fail = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, pair_tokenizer: dict[str, str]) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "model.pt", pair_tokenizer)


@pytest.fixture
def failed(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> Fail:
    def run(suite: Path, *arguments: str, models: tuple[str, ...] = ()) -> str:
        """What a command says that must fail."""
        given = models or (str(model),)
        out = ("--out", str(tmp_path / "out"), "--device", "cpu")
        assert main(["evaluate", str(suite), *given, *arguments, *out]) == 2
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, lines
        assert captured.out == ""
        assert "Traceback" not in lines[0]
        assert not (tmp_path / "out" / "results.jsonl").exists()
        return lines[0]

    return run


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    nodes = {"first": task_node(tmp_path, "classification"), "second": task_node(tmp_path, "pair")}
    return write_suite(tmp_path, nodes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "tasks.first.metrics=[acuracy]",
            "tasks.first.metrics: metric 'acuracy' is unknown; did you mean 'accuracy'?",
        ),
        ("tasks.first.metrics=[spearman]", "goes with regression, not with classification"),
        (
            "tasks.first.metrics=[f1]",
            "tasks.first.metrics: metric 'f1' is of two classes, and there are 3",
        ),
        ("tasks.first.metrics=[]", "tasks.first.metrics: expected at least one"),
        ("tasks.first.kind={name: clasification}", "did you mean 'classification'?"),
        ("tasks.first.kind.txt=a", "tasks.first.kind.txt: unknown key; did you mean 'text'?"),
        ("tasks.first.epoch=2", "tasks.first.epoch: unknown key; did you mean 'epochs'?"),
        ("tasks.first.from=secnd", "tasks.first.from: no task 'secnd'; did you mean 'second'?"),
        ("tasks.first.from=first", "tasks.first.from: starts from itself (first -> first)"),
        ("tasks.first.from=[second]", "tasks.first.from: no task"),
        ("tasks.first.grid.epoch=[1,2]", "tasks.first.epoch: unknown key; did you mean 'epochs'?"),
        ("tasks.first.grid.data.train=[a,b]", "is no setting of a fit"),
        ("tasks.first.grid.seeds=[1,2]", "is no setting of a fit"),
        (
            "tasks.first.grid.optimizer.lr=[1e-3,0.001]",
            "tasks.first.grid.optimizer.lr: a value is given twice",
        ),
        (
            "tasks.first.grid.optimizer.lr=1e-3",
            "tasks.first.grid.optimizer.lr: expected a list of values",
        ),
        ("tasks.first.grid.optimizer.lr=[-1]", "tasks.first.optimizer.lr: "),
        ("tasks.first.seeds=[1,1]", "tasks.first.seeds: one is given twice"),
        ("tasks.first.max_length=2", "tasks.first.max_length: "),
        (
            "tasks.second.max_length=4",
            "model: max_length 4 has no room for two texts between its special tokens",
        ),
        ("tasks.first.data.train=nowhere.csv", "nowhere.csv: no such file"),
        (
            "tasks.first.data.train=offline:docstring:train",
            "offline:docstring:train: no task 'docstring'",
        ),
        (
            "tasks.first.data.tests.train=nowhere.csv",
            "tasks.first.data.tests.train: is a name of another split",
        ),
        ("tasks.third.metrics=[accuracy]", "tasks.third.data: "),
        ("defaults.optimizer.name=adam", "tasks.first.optimizer.name: "),
        ("suite=a/b", "suite: expected a name"),
    ],
)
def test_a_wrong_key_is_named_with_the_nearest_right_one(
    failed: Fail, suite: Path, change: str, said: str
) -> None:
    assert said in failed(suite, change)


def test_wrong_options_are_named(failed: Fail, suite: Path, tmp_path: Path) -> None:
    assert "did you mean 'first'?" in failed(suite, "--tasks", "frist")
    assert "--design" in failed(suite, "--design", "halfing")
    (tmp_path / "there").mkdir()
    assert "is there already" in failed(suite, "--export", str(tmp_path / "there"))
    assert "leave --frozen out" in failed(suite, "--frozen", "--export", str(tmp_path / "new"))


def test_starts_that_go_round_and_seeds_that_are_missing(failed: Fail, suite: Path) -> None:
    said = failed(suite, "tasks.first.from=second", "tasks.second.from=first")
    assert "starts from itself (first -> second -> first)" in said
    said = failed(suite, "tasks.first.from=second", "tasks.first.seeds=[17,18]")
    assert "tasks.first.seeds: second, which it starts from, is not fitted with seed 18" in said


ROWS = rows_of("classification", 12)
PAIRS = rows_of("regression", 12)
WORDS = rows_of("token_classification", 12)
CHOICES = rows_of("multiple_choice", 12)


def replaced(rows: list[dict[str, Any]], index: int, **values: Any) -> list[dict[str, Any]]:
    """Rows with values of one changed; ... takes a column away."""
    row = {k: v for k, v in {**rows[index], **values}.items() if v is not ...}
    return [*rows[:index], row, *rows[index + 1 :]]


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        ("classification", [{**row, "label": "low"} for row in ROWS], "one class alone (low)"),
        ("classification", [], "has no rows"),
        (
            "classification",
            [{"texts": "a", "label": "b"}] * 2,
            "no column 'text'; did you mean 'texts'?",
        ),
        ("classification", replaced(ROWS, 6, text=...), "row 7: no column 'text'"),
        ("classification", replaced(ROWS, 6, label=None), "row 7: label: null is no label"),
        ("classification", replaced(ROWS, 6, label=1.5), "row 7: label: 1.5 is no label"),
        ("classification", replaced(ROWS, 6, text=7), "row 7: text: expected a text, got 7"),
        ("classification", replaced(ROWS, 6, text=None), "row 7: text: expected a text, got null"),
        (
            "regression",
            replaced(PAIRS, 6, label="high"),
            "row 7: label: expected a finite number, got 'high'",
        ),
        (
            "regression",
            replaced(PAIRS, 6, label=float("nan")),
            "row 7: label: expected a finite number",
        ),
        (
            "regression",
            replaced(PAIRS, 6, label=float("inf")),
            "row 7: label: expected a finite number",
        ),
        ("regression", replaced(PAIRS, 6, label=None), "row 7: label: expected a finite number"),
        ("token_classification", replaced(WORDS, 6, labels=["O"]), "row 7: "),
        (
            "token_classification",
            replaced(WORDS, 6, tokens=[]),
            "row 7: tokens: expected a list, got []",
        ),
        (
            "token_classification",
            replaced(WORDS, 6, tokens="a b"),
            "row 7: tokens: expected a list, got 'a b'",
        ),
        (
            "token_classification",
            replaced(WORDS, 6, labels=[None]),
            "row 7: labels: null is no label",
        ),
        ("multiple_choice", replaced(CHOICES, 6, label=3), "row 7: label: 3 is none of the labels"),
        (
            "multiple_choice",
            replaced(CHOICES, 6, choices=["a"]),
            "row 7: choices: expected a list of two texts",
        ),
    ],
)
def test_a_wrong_row_is_named(
    failed: Fail, tmp_path: Path, kind: str, rows: list[dict[str, Any]], said: str
) -> None:
    node = task_node(tmp_path, kind)
    write_jsonl(Path(node["data"]["train"]), rows)
    found = failed(write_suite(tmp_path, {"task": node}))
    assert said in found
    assert f"{kind}-train.jsonl" in found


def test_a_label_outside_of_the_training_rows_is_named(failed: Fail, tmp_path: Path) -> None:
    node = task_node(tmp_path, "classification")
    path = Path(node["data"]["validation"])
    write_jsonl(path, replaced(rows_of("classification", 8), 3, label="tip"))
    said = failed(write_suite(tmp_path, {"task": node}))
    assert f"{path}: row 4: label: 'tip' is none of the labels; did you mean 'top'?" in said
    # Of classes that are numbers, one that is not there is not taken for another's place.
    for split, label in (("train", 1), ("validation", 0)):
        rows = [{"text": "w20", "label": label + i % 2} for i in range(8)]
        write_jsonl(Path(node["data"][split]), rows)
    said = failed(write_suite(tmp_path, {"task": node}))
    assert "row 1: label: 0 is none of the labels" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'[{"text": "a", "label": "b"}]\n', "a.jsonl"),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n{"text": "\xff"}\n', "line 2: "),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n{"text": \n', "line 2: "),
        ("a.csv", b"text,label\na,b\n\xff,c\n", "a.csv"),
        ("a.csv", b"text,label\na,b\na,b,c\n", "line 3: 3 fields, and the header has 2"),
        ("a.csv", b'text,label\na,"b\n', "line "),
        ("a.csv", b"text,label\n", "has no rows"),
        ("a.csv", b"text,label,text\na,b,c\n", "column 'text' is there twice"),
        ("a.csv", b"", "has no rows"),
        ("a.parquet", b"PAR1 not a table PAR1", "not a readable Parquet file"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "a.csv.gz"),
        ("a.txt", b"text", "a task's rows are in a file of"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    failed: Fail, suite: Path, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in failed(suite, f"tasks.first.data.train={tmp_path / name}")


def test_a_model_that_does_not_go_with_the_task_is_named(
    failed: Fail, suite: Path, tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    said = failed(suite, models=(str(tmp_path / "nowhere.pt"),))
    assert "nowhere.pt" in said
    (tmp_path / "text.pt").write_text("no model")
    assert "text.pt" in failed(suite, models=(str(tmp_path / "text.pt"),))
    bare = write_tiny(tmp_path / "bare.pt", {})
    assert "bare: holds no tokenizer" in failed(suite, models=(str(bare),))
    files = dict(pair_tokenizer)
    config = json.loads(files["tokenizer_config.json"])
    config.pop("sep_token")
    files["tokenizer_config.json"] = json.dumps(config)
    without = write_tiny(tmp_path / "without.pt", files)
    assert "without: its tokenizer has no [SEP]" in failed(suite, models=(str(without),))
    tree = json.loads(pair_tokenizer["tokenizer.json"])
    tree["post_processor"] = None
    files = {**pair_tokenizer, "tokenizer.json": json.dumps(tree)}
    plain = write_tiny(tmp_path / "plain.pt", files)
    assert "puts no [CLS] and [SEP] around a text" in failed(suite, models=(str(plain),))


def test_texts_longer_than_a_models_positions_are_refused(
    failed: Fail, suite: Path, tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    from flexbert.nn.embedding import TokenEmbeddingConfig
    from flexbert.nn.norm import LayerNormConfig
    from flexbert.nn.positions import LearnedPositionsConfig

    embedding = TokenEmbeddingConfig(
        norm=LayerNormConfig(), positions=LearnedPositionsConfig(length=32)
    )
    short = write_tiny(tmp_path / "short.pt", pair_tokenizer, embedding=embedding)
    said = failed(suite, models=(str(short),))
    assert "short: takes texts of up to 32 tokens, and max_length is 48" in said


def test_a_token_that_the_model_has_not_is_refused(
    failed: Fail, suite: Path, tmp_path: Path, pair_tokenizer: dict[str, str]
) -> None:
    small = write_tiny(tmp_path / "small.pt", pair_tokenizer, vocab_size=50)
    assert "small: its tokenizer makes token " in failed(suite, models=(str(small),))


def test_a_suite_that_is_none_is_refused(failed: Fail, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    for tree, said in (
        ({"tasks": {}}, "tasks: expected a mapping of one task or more"),
        ({"tasks": {"a": 1}}, "tasks.a: expected a mapping"),
        ({"task": {"a": {}}}, "task: unknown key; did you mean 'tasks'?"),
        ({"tasks": {"a b": {}}}, "letters, digits"),
        ({"defaults": 1, "tasks": {"a": {}}}, "defaults: expected a mapping"),
    ):
        path.write_text(yaml.safe_dump(tree))
        assert said in failed(path)
    path.write_text(yaml.safe_dump({"defaults": PLAIN, "tasks": {"a": {"from_task": "b"}}}))
    assert "unknown key; did you mean 'from'?" in failed(path)
