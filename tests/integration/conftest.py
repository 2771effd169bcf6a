"""What tests that launch and kill runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.launcher import Launcher


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()
