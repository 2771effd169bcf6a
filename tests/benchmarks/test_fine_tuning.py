"""Peers train what ours trains: the same examples, of the lengths that the benchmark tells."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fine_tuning import CLS, OURS, SEP, lengths_of, main, split_of


def test_lengths_are_those_that_are_told() -> None:
    short, mixed = (lengths_of(name, 20_000) for name in ("40 on average", "8 to 512"))
    assert short.mean() == pytest.approx(40, rel=0.02)
    assert (mixed.min(), mixed.max()) == (8, 512)
    assert np.median(mixed) == pytest.approx(64, rel=0.05)


def test_texts_begin_and_end_with_special_tokens() -> None:
    split = split_of(lengths_of("8 to 512", 50))
    assert (split.tokens[split.borders[:-1]] == CLS).all()
    assert (split.tokens[split.borders[1:] - 1] == SEP).all()
    assert len(split.labels) == len(split) == 50


@pytest.mark.slow
def test_all_ways_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--smoke", "--device", "cpu", "--profile"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"| {OURS} |") == 2
    assert "times as fast" in printed
