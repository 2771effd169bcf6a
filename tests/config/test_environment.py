"""Values of the environment: used where they are needed, and never stored where a secret may be."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexbert.config.callback import CallbackConfig
from flexbert.config.decode import decode
from flexbert.config.encode import encode
from flexbert.config.environment import EnvironmentText
from flexbert.config.fields import COMPUTATION, OPERATIONAL, Node, key
from flexbert.config.recipe_files import interpolate
from flexbert.errors import ConfigError
from flexbert.recipes import load_recipe
from tests.conftest import TINY_RECIPE

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("NUMBER", "77")


@dataclass(frozen=True, kw_only=True)
class Hook(Node):
    token: str = key(OPERATIONAL)
    others: dict[str, str] = key(OPERATIONAL, default_factory=dict)
    title: str = key(OPERATIONAL, default="", by_value=True)
    method: str = key(COMPUTATION, default="")


@pytest.mark.parametrize(
    "tree",
    [
        {"token": "a-${oc.env:SECRET}"},
        {"token": "a-${other}", "other": "${oc.env:SECRET}"},
        {"token": "${whole.0}", "whole": ["a-${oc.env:SECRET,none}"]},
        {"token": "a-${oc.decode:${oc.env:SECRET}}"},
        {"token": "a-${oc.${x}:${y}}", "x": "env", "y": "SECRET"},
        {"token": "${oc.select:nobody,a-${oc.env:SECRET}}"},
    ],
)
def test_a_text_has_its_value_and_stores_its_reference(tree: dict[str, Any]) -> None:
    node = decode(Hook, {"token": interpolate(tree)["token"]})
    assert node.token == f"a-{SECRET}"
    assert encode(node)["token"] == "a-${oc.env:SECRET}"
    assert SECRET not in repr(node)
    assert pickle.loads(pickle.dumps(node)) == node
    again = decode(Hook, encode(node))
    assert again == node
    assert encode(again) == encode(node)


def test_which_keys_keep_references() -> None:
    reference = "${oc.env:SECRET}"
    given = dict.fromkeys(("token", "title", "method"), reference)
    stored = encode(decode(Hook, interpolate({**given, "others": {"x": reference}})))
    assert stored == {
        "token": reference,
        "others": {"x": reference},
        "title": SECRET,
        "method": SECRET,
    }
    assert all(type(stored[name]) is str for name in ("token", "title", "method"))


def test_a_default_that_is_used_is_no_value_of_the_environment() -> None:
    tree = {"token": "${oc.env:NOBODY_SETS_THIS,plain}"}
    assert encode(decode(Hook, interpolate(tree)))["token"] == "plain"


def test_what_decides_the_result_keeps_its_value() -> None:
    resolved = load_recipe(TINY_RECIPE, ["seed=${oc.decode:${oc.env:NUMBER}}"], planning=True)
    assert resolved.resolved["seed"] == 77


def test_a_value_that_is_several_has_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", f"{{x: {SECRET}}}")
    with pytest.raises(ConfigError, match=r"others.x: is one of several values") as caught:
        decode(Hook, interpolate({"token": "x", "others": "${oc.create:${oc.env:SECRET}}"}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "seed=${oc.env:SECRET}",
        "compile=${oc.env:SECRET}",
        "duration=${oc.env:SECRET}",
        "optimizer.name=${oc.env:SECRET}",
        "data.cache_limit=${oc.env:SECRET}",
        "model=${oc.env:SECRET}",
        "stages=${oc.env:SECRET}",
        "data.path=${${oc.env:SECRET}}",
        "data.remote=${oc.decode:'[${oc.env:SECRET}'}",
        "data.remote={x: '${oc.env:SECRET}'}",
        "logging.wandb.project=['${oc.env:SECRET}']",
    ],
)
def test_messages_have_no_value(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(TINY_RECIPE, [override], planning=True)
    assert SECRET not in str(caught.value)


def test_a_stored_reference_without_its_variable_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = encode(decode(Hook, interpolate({"token": "${oc.env:SECRET}"})))
    monkeypatch.delenv("SECRET")
    with pytest.raises(ConfigError, match=r"token: .*no variable SECRET; set it"):
        decode(Hook, stored)


def test_a_recipe_is_written_without_its_secrets(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"""
include: [{TINY_RECIPE}]
data: {{path: {tmp_path}, remote: "sftp://me:${{oc.env:SECRET}}@host/c"}}
logging.wandb: {{project: "p-${{oc.env:SECRET}}", entity: "${{oc.env:SECRET}}"}}
stages:
  one: {{}}
  two: {{data.remote: "s3://bucket/c?X-Amz-Signature={SECRET}&version=2"}}
"""
    )
    loaded = load_recipe(file, [])
    assert loaded.first.logging.wandb is not None
    assert loaded.first.logging.wandb.entity == SECRET
    assert loaded.first.data.remote is not None
    assert loaded.first.data.remote.address == f"sftp://me:{SECRET}@host/c"
    text = yaml.safe_dump(loaded.resolved)
    assert SECRET not in text
    assert SECRET not in repr(loaded)
    assert "sftp://me:${oc.env:SECRET}@host/c" in text
    assert "X-Amz-Signature=***&version=2" in text


def test_a_plugins_callback_may_have_a_token() -> None:
    """Its role of the mapping above, computation, does not make it a value."""
    assert issubclass(CallbackConfig, Node)
    text = EnvironmentText(SECRET, "${oc.env:SECRET}")
    assert (text, text.plain(), repr(text)) == (SECRET, "${oc.env:SECRET}", "'${oc.env:SECRET}'")
    assert type(str(text)) is str
