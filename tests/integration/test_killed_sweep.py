"""A sweep of 12 runs that is killed eight times ends as one that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.killed_sweep import check

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_a_sweep_killed_at_random_moments_gives_the_table_of_one_left_alone(
    corpus: Path, tmp_path: Path
) -> None:
    check(tmp_path, corpus, seed=17)
