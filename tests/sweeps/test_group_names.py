"""Several runs of one point have a name that reads as no single run."""

from __future__ import annotations

import pytest

from flexbert.sweeps.group_names import group_names

NAMES: dict[str, tuple[list[list[str]], list[str]]] = {
    "seeds behind words": (
        [["averaged_seed-1", "averaged_seed-2"], ["last_seed-1", "last_seed-2"]],
        ["averaged", "last"],
    ),
    "seeds by a letter": ([["gelu-s1", "gelu-s2"], ["silu-s1"]], ["gelu", "silu-s1"]),
    "one begins as another": (
        [["gelu-s1", "gelu-s2"], ["gelu-big-s1", "gelu-big-s2"]],
        ["gelu", "gelu-big"],
    ),
    "long seeds with the same digits": ([["a-seed=17", "a-seed=18"], ["b"]], ["a", "b"]),
    "one name is the beginning": ([["base", "base-2"], ["other"]], ["base", "other"]),
    "a word in common is no part of a word": (
        [["alpha-1", "alps-1"], ["b"]],
        ["alpha-1 and 1 more", "b"],
    ),
    "the same beginning": (
        [["run-0", "run-1", "run-4"], ["run-2", "run-3"]],
        ["run-0 and 2 more", "run-2 and 1 more"],
    ),
    "a single run has it": ([["run-0", "run-1"], ["run-2"]], ["run-0 and 1 more", "run-2"]),
    "nothing but numbers": ([["1", "2"], ["b"]], ["1 and 1 more", "b"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_group_is_named_by_what_its_runs_share(name: str) -> None:
    groups, expected = NAMES[name]
    assert group_names(groups) == expected
