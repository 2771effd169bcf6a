"""Pictures and pages as files: whole, safe, and without an error in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.errors import UserError
from flexbert.manifest_file import Manifest
from flexbert.mask_examples_file import MASK_EXAMPLES, read_mask_examples
from flexbert.report.reports import draw_runs, write_page
from tests.report.situations import Situation, write_lines, write_situations

HOSTILE = (
    "</script><script>document.title='broken'</script><img src=x onerror=boom()>&lt;$x$\"'\u2028"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and the text of each kind."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Mapping[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run all of whose names and texts try to run a script."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    Situation(
        stages={HOSTILE: 50, "second": 20},
        sources=(HOSTILE, "_b"),
        bad=range(20, 22),
        recipe={"note": HOSTILE},
    ).write(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["run_name"] = HOSTILE
    for launch in manifest["launches"]:
        launch |= {"command": [HOSTILE], "device": HOSTILE, "packages": {"torch": HOSTILE}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    text = (folder / MASK_EXAMPLES).read_text()
    (folder / MASK_EXAMPLES).write_text(text.replace(" France", json.dumps(HOSTILE)[1:-1]))
    return folder


def test_a_text_that_ends_a_script_is_shown_and_does_nothing(hostile: Path) -> None:
    page = write_page([hostile]).read_text()
    elements = Elements(page)
    kinds = [tag for tag, _ in elements.found]
    assert kinds.count("script") == 3
    assert "img" not in kinds
    assert not any(name.startswith("on") for _, given in elements.found for name in given)
    figures = json.loads(elements.texts["script"][0])
    assert len(figures) >= 5
    assert figures[1]["data"][0]["name"].startswith("&lt;/script&gt;")
    assert elements.texts["h1"] == [HOSTILE]
    assert HOSTILE in elements.texts["b"]
    assert yaml.safe_load("".join(elements.texts["pre"]))["note"] == HOSTILE


def test_the_pages_policy_names_its_scripts_and_nothing_is_loaded(hostile: Path) -> None:
    elements = Elements(write_page([hostile]).read_text())
    (policy,) = [
        str(given["content"])
        for tag, given in elements.found
        if tag == "meta" and "http-equiv" in given
    ]
    _, library, drawing = elements.texts["script"]
    for script in (library, drawing):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy.split("script-src")[1]
    assert not any({"src", "href"} & given.keys() for _, given in elements.found)


def test_a_picture_is_drawn_of_such_a_run_too(hostile: Path, tmp_path: Path) -> None:
    assert draw_runs([hostile], path=tmp_path / "one.svg").stat().st_size > 10_000
    assert draw_runs([hostile, hostile], path=tmp_path / "two.png").stat().st_size > 10_000


def test_a_pages_data_are_the_runs_and_examples_are_shown_by_evaluation(tmp_path: Path) -> None:
    run = Situation(stages={"pretrain": 200}, bad=range(30, 32)).write(tmp_path / "run")
    elements = Elements(write_page([run]).read_text())
    loss = json.loads(elements.texts["script"][0])[0]["data"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # Update 30 was skipped.
    training = [r["loss"] for r in records if r["event"] == "train"]
    assert loss[0]["y"].index(None) == training.index(None) == 2
    assert loss[0]["y"][3:] == pytest.approx(training[3:], rel=1e-6)
    assert loss[1]["y"] == pytest.approx([r["eval_loss"] for r in records if r["event"] == "eval"])
    heads = "".join(elements.texts["th"])
    assert "update 25" in heads
    assert "update 200" in heads
    assert len(read_mask_examples(run)) == 8
    cells = [given for tag, given in elements.found if tag == "td" and "title" in given]
    assert len(cells) == 2 * 8
    assert str(cells[-1]["title"]).startswith("France ")
    events = "".join(elements.texts["td"])
    assert "skipped" in events


def test_a_run_without_recipe_health_and_examples_has_a_page(tmp_path: Path) -> None:
    header = {"stage": "a", "step": 1, "tokens": 5, "stage_tokens": 5}
    write_lines(tmp_path / "metrics.jsonl", [{"event": "train", **header, "loss": 3.0}])
    Manifest(run_name="bare", parameters=9, stages={}).write(tmp_path)
    page = write_page([tmp_path]).read_text()
    assert "nothing jumped" in page
    assert "<h2>Recipe</h2>" not in page
    assert draw_runs([tmp_path]).stat().st_size > 5_000


def test_a_comparison_lists_where_runs_stand_and_what_differs(tmp_path: Path) -> None:
    runs = [
        Situation(stages={"pretrain": 40}, recipe={"optimizer": {"lr": lr}}).write(tmp_path / name)
        for name, lr in (("low", 1e-4), ("high", 8e-4))
    ]
    elements = Elements(write_page(runs, path=tmp_path / "both.html").read_text())
    cells = elements.texts["td"]
    assert cells[cells.index("optimizer.lr") :][:3] == ["optimizer.lr", "0.0001", "0.0008"]
    assert "run_name" not in cells
    with pytest.raises(UserError, match=r"both\.png: not a page; give NAME\.html"):
        write_page(runs, path=tmp_path / "both.png")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_pages_open_in_chromium_without_an_error(hostile: Path, tmp_path: Path) -> None:
    runs = write_situations(tmp_path)
    pages = [write_page([run]) for run in (hostile, runs["one-stage"], runs["very-short"])]
    pages.append(write_page([runs["decay"], hostile], path=tmp_path / "comparison.html"))
    for page in pages:
        console, body = _opened(page, tmp_path)
        assert console == []
        assert body.count('class="main-svg"') >= 3
        assert "<title>broken</title>" not in body
    # That a page's errors are seen at all.
    bad = tmp_path / "bad.html"
    bad.write_text("<script>nothing_there()</script>")
    assert "nothing_there is not defined" in _opened(bad, tmp_path)[0][0]


def _opened(page: Path, folder: Path) -> tuple[list[str], str]:
    """What Chromium says on the page's console, and the page once its scripts have run."""
    assert CHROMIUM is not None
    options: list[Any] = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        *("--virtual-time-budget=10000", "--window-size=1280,2000", "--dump-dom"),
        f"--user-data-dir={folder / 'profile'}",
        page.as_uri(),
    ]
    done = subprocess.run(
        [CHROMIUM, *options], capture_output=True, text=True, timeout=120, check=False
    )
    return re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr), done.stdout
