"""Comparisons as tables, by the character."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flexbert.commands import main
from flexbert.tasks.comparison_text import comparison_latex, comparison_markdown, comparison_text
from flexbert.tasks.results import MAJORITY, TF_IDF, append_result
from tests.tasks.fits import fit
from tests.tasks.test_comparison import LOW, compared, floor, seeds

Output = pytest.CaptureFixture[str]
RECORDS = [
    *seeds([0.700, 0.710, 0.720], point=LOW),
    *seeds([0.50, 0.52, 0.54], "mcc", task="cola", point=LOW),
    *seeds([0.650, 0.662, 0.671], point=LOW, model="50%_off"),
    floor(0.6),
    floor(0.0, MAJORITY, "mcc", task="cola"),
]

TEXT = """\
glue: mean over seeds of the best point, +- standard deviation, in percent

                                      rte         cola         mean
                                 accuracy          mcc
-------------------------------------------------------------------
base                          71.0 +- 1.0  52.0 +- 2.0  61.5 +- 1.5
50%_off                       66.1 +- 1.1            -            -
-------------------------------------------------------------------
tf-idf + logistic regression         60.0            -            -
majority                                -          0.0            -

differences to base, paired

              difference    95% interval     over
--------------------------------------------------------
50%_off  rte       -4.90  -5.15 to -4.65  3 seeds  worse

what validation chose

               fits  seeds  point
----------------------------------------------
base     rte      3      3  optimizer.lr 1e-05
base     cola     3      3  optimizer.lr 1e-05
----------------------------------------------
50%_off  rte      3      3  optimizer.lr 1e-05

validation scores chose points and checkpoints, and are a little high for it"""

MARKDOWN = """\
|  | rte accuracy | cola mcc | mean |
| :-- | --: | --: | --: |
| base | 71.0 ± 1.0 | 52.0 ± 2.0 | 61.5 ± 1.5 |
| 50%\\_off | 66.1 ± 1.1 | - | - |
| tf-idf + logistic regression | 60.0 | - | - |
| majority | - | 0.0 | - |
"""

LATEX = r"""
\begin{tabular}{lrrr}
\toprule
 & rte & cola & mean \\
 & accuracy & mcc &  \\
\midrule
base & 71.0 $\pm$ 1.0 & 52.0 $\pm$ 2.0 & 61.5 $\pm$ 1.5 \\
50\%\_off & 66.1 $\pm$ 1.1 & - & - \\
\midrule
tf-idf + logistic regression & 60.0 & - & - \\
majority & - & 0.0 & - \\
\bottomrule
\end{tabular}
"""


def test_the_tables_are_these() -> None:
    assert comparison_text(compared(RECORDS)) == TEXT


def test_markdown_is_the_same_table() -> None:
    assert MARKDOWN in comparison_markdown(compared(RECORDS))


def test_latex_is_the_same_table_with_minus_signs_and_escapes() -> None:
    found = comparison_latex(compared(RECORDS))
    assert LATEX in found
    assert r"50\%\_off & rte & $-$4.90 & $-$5.15 to $-$4.65 & 3 seeds & worse \\" in found
    harsh = compared([fit(0.5, model=r"a&b #1 ~ \x {$y^2$} <|>")])
    escaped = (
        r"a\&b \#1 \textasciitilde{} \textbackslash{}x \{\$y\textasciicircum{}2\$\} "
        r"\textless{}\textbar{}\textgreater{} & 50.0 \\"
    )
    assert escaped in comparison_latex(harsh)


def test_a_name_of_several_lines_stays_in_one() -> None:
    found = compared([fit(0.5, model="a\n\\input{x}"), fit(0.6, model="other\x1b[31m")])
    for text in (comparison_text(found), comparison_markdown(found), comparison_latex(found)):
        assert "\x1b" not in text
        assert "\n\\input" not in text
        assert "\n\\\\input" not in text


def test_a_wide_table_goes_on_below_within_the_width() -> None:
    records = [
        record for number in range(12) for record in seeds([0.5, 0.6], task=f"task number {number}")
    ]
    text = comparison_text(compared(records))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\nbase ") >= 2
    assert all(f"task number {number}" in text for number in range(12))


def test_an_error_is_shown_as_it_is() -> None:
    text = comparison_text(compared(seeds([1.23456, 2.0], "mse")))
    assert "1.6173 +- 0.5412" in text
    assert "in percent but for mse" in text


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for record in RECORDS:
        append_result(tmp_path / "glue", record)
    return tmp_path / "glue"


def test_the_command_prints_and_writes_all_forms(
    results: Path, tmp_path: Path, capsys: Output
) -> None:
    names = {kind: tmp_path / "out" / f"table.{kind}" for kind in ("markdown", "latex", "png")}
    options = [part for kind, path in names.items() for part in (f"--{kind}", str(path))]
    assert main(["compare", str(results), *options]) == 0
    assert capsys.readouterr().out == TEXT + "\n"
    assert MARKDOWN in names["markdown"].read_text()
    assert LATEX in names["latex"].read_text()
    assert names["png"].read_bytes().startswith(b"\x89PNG")


def test_the_picture_is_the_same_file_each_time(results: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        assert main(["compare", str(results), "--png", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_json_holds_what_the_tables_show(results: Path, capsys: Output) -> None:
    append_result(results, fit(float("nan"), model="diverged"))
    assert main(["compare", str(results), "--json"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["entries"]["base"]["rte"]["mean"] == pytest.approx(0.71)
    assert found["entries"]["diverged"]["rte"]["mean"] is None
    assert found["differences"][0]["difference"]["verdict"] == "worse"
    assert found["rows"][-2]["label"] == TF_IDF


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "mcc"], "--metric mcc: give TASK=METRIC, for instance mrpc=f1"),
        (["--metric", "=mcc"], "--metric =mcc: give TASK=METRIC"),
        (["--reference", "bse"], "--reference bse: no such row; did you mean 'base'?"),
        (["--png", "x.doc"], "x.doc: not a kind of picture"),
        (["--tests"], "--tests: no fit has a test split"),
        (["nowhere"], "nowhere: no results.jsonl there; give the folder of a suite's results"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], message: str, results: Path, capsys: Output
) -> None:
    assert main(["compare", str(results), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
