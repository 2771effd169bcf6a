"""A card says what the run's folder says, and nothing of where it lies."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from flexbert.commands import main
from flexbert.recipes import load_recipe
from flexbert.task_metrics_file import TaskMetrics, append
from tests.publish.loopback_hub import LoopbackHub
from tests.publish.written_runs import SECRETS, STEPS, WrittenRun, revision

NAME = "our-team/tiny"


def published(hub: LoopbackHub, run: WrittenRun, *more: str) -> dict[str, dict[str, str]]:
    """The texts of every branch after publishing the checkpoints of the decay."""
    assert main(["publish", str(run.folder), NAME, "--stage", "decay", *more]) == 0
    repository = hub.repositories[NAME]
    texts = ("README.md", "recipe.yaml", "flexbert.json")
    return {
        branch: {name: repository.files(branch)[name].decode() for name in texts}
        for branch in repository.branches
    }


def front_matter(card: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_a_card_has_the_numbers_of_its_checkpoint(hub: LoopbackHub, run: WrittenRun) -> None:
    cards = {branch: texts["README.md"] for branch, texts in published(hub, run).items()}
    card = cards[revision(12)]
    assert f'from_pretrained("{NAME}", revision="{revision(12)}")' in card
    assert "after update 12 of the run `tiny`, in its stage `decay`, after 12,000,000" in card
    assert "| parameters | " in card
    assert "| layers | 4 |" in card
    assert "| web | web | not known | not known | `abcdef0123456789` |" in card
    assert "| pretrain | 9 updates | 9,000,000 | 48 | 6 | 0.01 | 0.3 | stable_adamw |" in card
    # As of update 12, 3 of the stage's 6.
    assert "| decay | 6 updates | 3,000,000 | 48 | 6 | 0.005 | 0.3 | stable_adamw |" in card
    assert f"| `{revision(12)}` | 3.8000 | 0.1200 |" in card
    assert revision(15) not in card
    assert "intermediate checkpoint" in card
    assert "torch 2.11.0" in card
    assert "flash-attn" not in card
    whole = cards["main"]
    assert "the end of the run" in whole
    assert f'from_pretrained("{NAME}")' in whole
    for step in (12, 15):
        assert f"| `{revision(step)}` | {5 - step / 10:.4f} | {step / 100:.4f} |" in whole


@pytest.mark.slow
def test_front_matter_claims_no_more_than_is_known(hub: LoopbackHub, run: WrittenRun) -> None:
    assert front_matter(published(hub, run)["main"]["README.md"]) == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["flexbert", "masked-lm", "pretraining"],
    }
    card = published(hub, run, "--license", "apache-2.0")["main"]["README.md"]
    assert front_matter(card)["license"] == "apache-2.0"


def test_the_snippet_of_a_card_is_python(hub: LoopbackHub, run: WrittenRun) -> None:
    card = published(hub, run)["main"]["README.md"]
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    ast.parse(snippet)


def test_no_place_account_or_command_is_published(hub: LoopbackHub, run: WrittenRun) -> None:
    for texts in published(hub, run).values():
        for name, text in texts.items():
            assert [secret for secret in SECRETS if secret in text] == [], name
            assert str(run.folder) not in text


def test_the_recipe_trains_again_once_it_has_its_corpus(
    hub: LoopbackHub, run: WrittenRun, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(published(hub, run)["main"]["recipe.yaml"])
    assert load_recipe(file, [], planning=True).missing == ("data.path",)
    stages = load_recipe(file, ["data.path=web"]).stages
    assert list(stages) == ["pretrain", "decay"]
    assert stages["decay"].optimizer.lr == 0.005


@pytest.mark.slow
def test_metrics_of_tasks_are_in_the_card_and_late_ones_are_added(
    hub: LoopbackHub, run: WrittenRun
) -> None:
    before = published(hub, run)
    assert "It was not evaluated on tasks." in before["main"]["README.md"]
    append(
        run.folder,
        TaskMetrics(
            stage="decay",
            step=12,
            tokens=12_000_000,
            checkpoint="step-00000012.pt",
            suite="glue",
            task="mnli",
            mode="frozen",
            fingerprint="0123456789abcdef",
            seeds=(17,),
            metrics={"accuracy": 0.625},
            seconds=1.0,
        ),
    )
    uploads = list(hub.uploads)
    after = published(hub, run)
    assert "mnli.accuracy (linear probe, suite glue)" in after[revision(12)]["README.md"]
    assert f"| `{revision(12)}` | 3.8000 | 0.1200 | 0.6250 |" in after["main"]["README.md"]
    assert "It was not evaluated on tasks." not in after["main"]["README.md"]
    assert "validation splits and of the tasks above." in after["main"]["README.md"]
    assert "validation splits." in before["main"]["README.md"]
    assert after[revision(15)] == before[revision(15)]
    assert hub.uploads == uploads


@pytest.mark.slow
def test_text_of_ones_own_comes_first_and_its_front_matter_wins(
    hub: LoopbackHub, run: WrittenRun, tmp_path: Path
) -> None:
    own = tmp_path / "own.md"
    own.write_text("---\nlanguage: sw\ntags: [ours]\n---\n# Our encoder\n\nFor Swahili.\n")
    card = published(hub, run, "--card", str(own))["main"]["README.md"]
    assert front_matter(card)["language"] == "sw"
    assert front_matter(card)["tags"] == ["ours"]
    assert front_matter(card)["pipeline_tag"] == "fill-mask"
    assert card.index("For Swahili.") < card.index("## Architecture")
    alone = published(hub, run, "--card", str(own), "--card-alone")["main"]["README.md"]
    assert alone == own.read_text()


def test_a_file_of_ones_own_that_cannot_be_used_is_one_line(
    hub: LoopbackHub, run: WrittenRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.md"
    own.write_text("---\nlanguage: [\n---\n")
    for given, words in ((own, "front matter is not YAML"), (tmp_path / "none", "cannot be read")):
        assert main(["publish", str(run.folder), NAME, "--card", str(given)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert hub.requests == []


def test_the_record_names_the_checkpoint_and_every_file(hub: LoopbackHub, run: WrittenRun) -> None:
    published(hub, run)
    for step in STEPS[3:]:
        files = hub.repositories[NAME].files(revision(step))
        record = json.loads(files["flexbert.json"])
        assert (record["run"], record["stage"], record["step"]) == ("tiny", "decay", step)
        assert record["checkpoint"].encode() in run.checkpoint(step).read_bytes()[-41:]
        assert set(record["files"]) == files.keys() - {".gitattributes", "flexbert.json"}
