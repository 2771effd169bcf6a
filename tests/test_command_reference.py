"""The page of all commands is what the commands declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexbert.commands import COMMANDS
from flexbert.commands.command_reference import page
from tests.conftest import REPOSITORY


def test_the_page_of_commands_is_fresh_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever the terminal's width: the page sets its own.
    monkeypatch.setenv("COLUMNS", "200")
    written = page()
    assert Path(REPOSITORY / "docs/reference/commands.md").read_text() == written, (
        "make reference writes it again"
    )
    for command in COMMANDS:
        assert f"\n## flexbert {command.name}\n" in written
        assert command.help[1:] in written
