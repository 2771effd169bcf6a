"""The commands: what they print, and one clear line and exit code 2 for a user's mistake."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flexbert import commands
from flexbert.commands import check_installation, main
from flexbert.train.processes.stop_request import SIGNALS
from tests.conftest import REPOSITORY, TINY_RECIPE, VOCAB_SIZE, Overrides
from tests.report.situations import Situation

Output = pytest.CaptureFixture[str]
RECORD = '{"event": "train", "stage": "one", "step": 1, "tokens": 9, "stage_tokens": 9, "loss": 5}'


def plan_json(capsys: Output, *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python main.py ARGUMENTS`` in this process."""
    monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
    # At its end a command ignores signals.
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(REPOSITORY / "main.py"), run_name="__main__")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.mark.parametrize(
    ("name", "total", "layers", "heads_every"),
    [("base", 149_655_232, 22, 3), ("large", 395_881_664, 28, 3)],
)
def test_plan_knows_the_published_models(
    capsys: Output, name: str, total: int, layers: int, heads_every: int
) -> None:
    plan = plan_json(capsys, str(REPOSITORY / "yamls" / f"{name}.yaml"))
    assert plan["parameters"]["total"] == total
    assert [layer["index"] for layer in plan["layers"]] == list(range(layers))
    for layer in plan["layers"]:
        is_global = layer["index"] % heads_every == 0
        assert layer["attention"] == ("global" if is_global else "local")
        assert layer["window"] == (None if is_global else 128)
        assert layer["theta"] == 10_000
    assert plan["to_be_given"] == ["data.path"]
    assert plan["stages"][0]["corpora"] is None


def test_plan_counts_flops_as_its_formula_says(capsys: Output) -> None:
    plan = plan_json(capsys, str(REPOSITORY / "yamls" / "base.yaml"))
    encoder = 22 * (4 * 768 * 768 + 3 * 768 * 1152)
    head = 768 * 768 + 768 * 50_368
    # 1024 tokens see all 1024 in 8 layers; in 14 they see 64 on each side where there are as many.
    local = (1024 * 129 - 64 * 65) / 1024
    attention = 12 * 768 * (8 * 1024 + 14 * local)
    assert plan["flops_per_token"] == pytest.approx(6 * encoder + 6 * head * 0.3 + attention)


def test_plan_counts_the_steps_that_a_run_takes(capsys: Output, tiny: Overrides) -> None:
    arguments = [str(TINY_RECIPE), *tiny("duration=3000tok", "schedule={name: constant}")]
    (stage,) = plan_json(capsys, *arguments)["stages"]
    assert stage["steps_are"] == "exact"
    # Three rows of 128 tokens an update, all but full.
    assert stage["steps"] == 8
    assert 3000 <= stage["tokens"] < 3000 + 384
    assert 0.97 < stage["packing_efficiency"] <= 1


def test_options_may_stand_anywhere(capsys: Output) -> None:
    recipe, seed, rows = str(REPOSITORY / "yamls" / "base.yaml"), "seed=3", "evaluation.rows=64"
    plans = [
        plan_json(capsys, recipe, seed, rows, "--processes", "8"),
        plan_json(capsys, recipe, seed, "--processes", "8", rows),
        plan_json(capsys, "--processes", "8", recipe, seed, rows),
    ]
    for plan in plans:
        del plan["checkpoints"]["free_bytes"]  # it changes by itself
    assert plans[1:] == plans[:1] * 2


def test_plan_shows_the_rows_that_processes_would_waste(capsys: Output, tiny: Overrides) -> None:
    arguments = [str(TINY_RECIPE), *tiny(), "--processes", "2"]
    (stage,) = plan_json(capsys, *arguments)["stages"]
    assert (stage["microbatches"], stage["rows_per_microbatch"]) == (1, 2)
    assert stage["idle_rows"] == pytest.approx(1 / 4)


def test_plan_prints_for_people(capsys: Output, tiny: Overrides) -> None:
    assert main(["plan", str(TINY_RECIPE), *tiny()]) == 0
    text = capsys.readouterr().out
    assert "global theta 10,000: 0, 3" in text
    assert "local window 16 theta 10,000: 1, 2" in text
    assert "6 sequences of 64: 3 rows of 128" in text


def test_doctor_names_the_backend_and_why_others_cannot_serve(capsys: Output) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert findings["attention_backends"][findings["attention_backend"]] is None
    assert findings["packages"]["torch"]
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name, problem in findings["attention_backends"].items():
        assert name in text
        assert problem is None or problem in text


def test_plot_and_report_show_a_run_from_its_records(tmp_path: Path, capsys: Output) -> None:
    stages = {"pretrain": 40, "extend": 20}
    one, two = (Situation(stages=stages).write(tmp_path / name) for name in ("one", "two"))
    for command, suffix, begin in (("plot", "png", b"\x89PNG"), ("report", "html", b"<!DOCTYPE")):
        assert main([command, str(one)]) == 0
        assert capsys.readouterr().out.strip() == str(one / f"report.{suffix}")
        assert (one / f"report.{suffix}").read_bytes().startswith(begin)
        both = tmp_path / "new" / f"both.{suffix}"
        assert main([command, str(one), str(two), "--axis", "time", "--out", str(both)]) == 0
        assert capsys.readouterr().out.strip() == str(both)
        assert both.read_bytes().startswith(begin)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no metrics.jsonl"),
        ("", "nothing is recorded"),
        ("{oops\n{}\n[]\n", "none of its 3 lines is a record"),
        (RECORD, "no manifest.json"),
    ],
)
def test_plot_and_report_refuse_what_is_no_run(
    tmp_path: Path, capsys: Output, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    for command in ("plot", "report"):
        assert main([command, str(tmp_path)]) == 2
        assert words in one_line_error(capsys)


def one_line_error(capsys: Output) -> str:
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert "Traceback" not in output.err
    return output.err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.lrr=1"], ["optimizer.lrr", "'lr'"]),
        (["optimizer.lr=quick"], ["optimizer.lr", "a finite number", "'quick'"]),
        (["data.path=nowhere/corpus"], ["nowhere/corpus", "python -m data_prep corpus"]),
        (["model.mlp={name: glue}"], ["model.mlp.name", "'glue'", "'glu'"]),
        ([f"model.vocab_size={VOCAB_SIZE - 64}"], ["model.vocab_size", str(VOCAB_SIZE)]),
        (["data.path=???"], ["data.path", "still to be given"]),
        (["model.attention.backend=flash"], ["model.attention.backend", "'flash'"]),
    ],
)
@pytest.mark.parametrize("command", ["main", "plan"])
def test_a_mistake_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    tiny: Overrides,
    command: str,
    overrides: list[str],
    words: list[str],
) -> None:
    arguments = [str(TINY_RECIPE), *tiny(*overrides)]
    if command == "plan" and overrides == ["data.path=???"]:
        pytest.skip("a plan does without")
    code = main(["plan", *arguments]) if command == "plan" else run_main(monkeypatch, *arguments)
    assert code == 2
    message = one_line_error(capsys)
    assert all(word in message for word in words), message


def damage(corpus: Path, kind: str, other_tokenizer: Path) -> None:
    shard = corpus / "train" / "shard.00000.mds"
    if kind == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif kind == "flipped byte":
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(bytes(data))
    elif kind == "missing shard":
        shard.unlink()
    elif kind == "another tokenizer":
        shutil.copytree(other_tokenizer, corpus / "tokenizer", dirs_exist_ok=True)
    elif kind == "unfinished":
        (corpus / "corpus.json").unlink()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated shard", ["shard.00000.mds"]),
        ("flipped byte", ["shard.00000.mds"]),
        ("missing shard", ["shard.00000.mds"]),
        ("another tokenizer", ["another tokenizer", "python -m data_prep corpus"]),
        ("unfinished", ["not a finished corpus"]),
    ],
)
def test_a_damaged_corpus_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
    corpus: Path,
    tmp_path: Path,
    kind: str,
    words: list[str],
) -> None:
    other_tokenizer = tmp_path / "other"
    shutil.copytree(corpus / "tokenizer", other_tokenizer)
    tokenizer_json = other_tokenizer / "tokenizer.json"
    tokenizer_json.write_text(tokenizer_json.read_text() + "\n")
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    damage(copy, kind, other_tokenizer)
    assert run_main(monkeypatch, str(TINY_RECIPE), f"data.path={copy}") == 2
    message = one_line_error(capsys)
    assert all(word in message for word in words), message


def test_a_recipe_may_insist_on_a_tokenizer(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(corpus / "tokenizer", other)
    (other / "tokenizer.json").write_text("{}")
    arguments = [str(TINY_RECIPE), f"data.path={corpus}", f"data.tokenizer={other}"]
    assert run_main(monkeypatch, *arguments) == 2
    assert "another tokenizer" in one_line_error(capsys)


def test_planning_imports_neither_composer_nor_transformers() -> None:
    code = (
        "import sys; from flexbert.commands import main; "
        f"assert main(['plan', {str(REPOSITORY / 'yamls' / 'base.yaml')!r}]) == 0; "
        "found = {'composer', 'transformers', 'streaming'} & set(sys.modules); "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


def test_what_is_wrong_with_a_command_line_is_told_before_torch_is_imported() -> None:
    code = (
        "import sys; from flexbert.commands import main; "
        "assert main(['sweep', '--proceses', '8']) == 2; "
        "assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["seen", "corpus", "x", "--run", "run"], "argument document: invalid int value: 'x'"),
        (["seen", "corpus", "3"], "the following arguments are required: --run"),
        (["rows", "run"], "the following arguments are required: step"),
        (["seen", "corpus", "3", "4", "--run", "run"], "too many arguments: 4"),
        (["plan", "r.yaml", "--proceses", "8"], "unknown option --proceses; did you mean '--proc"),
        (["plan", "--processes", "8"], "the following arguments are required: recipe (see"),
        (["plan", "r.yaml", "--processes"], "argument --processes/--gpus: expected one argument"),
        (["pan"], "invalid choice: 'pan'"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert problem in line


@pytest.mark.parametrize("asked", [None, "active"])
def test_threads_wait_in_a_short_loop_unless_asked_otherwise(asked: str | None) -> None:
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    if asked:
        environment["OMP_WAIT_POLICY"] = asked
    # What OpenMP says of itself when it is loaded.
    told = subprocess.run(
        [sys.executable, "-c", "import main, torch"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("GOMP_SPINCOUNT = '1000'" in told.stderr) == (asked is None)


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def interrupted(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    stopped = replace(check_installation.COMMAND, run=interrupted)
    monkeypatch.setattr(commands, "COMMANDS", (stopped,))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "\nstopped; what was finished is kept\n"
