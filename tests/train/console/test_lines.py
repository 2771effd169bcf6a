"""Lines fit, and say what they should."""

from __future__ import annotations

import pytest

from flexbert.train.console.lines import (
    Interval,
    LinePart,
    Score,
    Standing,
    alive_line,
    duration_text,
    eval_lines,
    fitted,
    train_line,
)

STANDING = Standing(
    stage="pretrain", step=1234, tokens=5_820_000_000, fraction=0.1299, seconds=43_510, left=103_200
)
LARGE = Standing(
    stage="context_extension_of_the_decoder",
    step=123_456_789,
    tokens=1_719_000_000_000,
    fraction=0.9999,
    seconds=3e7,
    left=None,
)
INTERVAL = Interval(loss=2.12345, lr=8e-4, tokens_per_second=1_234_567, mfu=0.414)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (103_200, "28h40m"),
        (359_999, "4d04h"),
        (30e6, "347d05h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_line_of_training_at_any_width() -> None:
    assert train_line(STANDING, INTERVAL, 120) == (
        "pretrain   12%  step  1,234  5.82B tok  loss 2.1235  lr 8.00e-04  1.23M tok/s  "
        "mfu 41%  12h05m, 28h40m left"
    )
    assert train_line(STANDING, INTERVAL, 80) == (
        "pretrain   12%  step  1,234  loss 2.1235  1.23M tok/s  12h05m, 28h40m left"
    )
    for standing in (STANDING, LARGE):
        for width in (10, 40, 60, 80, 100):
            lines = [
                train_line(standing, INTERVAL, width),
                alive_line(standing, "", 1e6, width),
                alive_line(standing, "evaluating web, batch 12 of 1,234", None, width),
                *eval_lines(standing, Score(loss=2, accuracy=0.5), {}, width),
            ]
            assert max(map(len, lines)) <= width
    # The end alone is a hundred percent.
    assert " 99% " in train_line(LARGE, INTERVAL)


def test_no_loss_where_every_update_was_skipped() -> None:
    interval = Interval(loss=None, lr=8e-4, tokens_per_second=1, mfu=0)
    assert "loss none: all skipped" in train_line(STANDING, interval)


def test_an_evaluation_by_source() -> None:
    scores = {
        "web": Score(loss=2.5, accuracy=0.5),
        "books": Score(loss=3.0, accuracy=0.25),
    }
    whole = Score(loss=2.7, accuracy=0.4)
    assert [line.split("eval")[1] for line in eval_lines(STANDING, whole, scores)] == [
        "        loss 2.7000  accuracy 40.0%",
        " web    loss 2.5000  accuracy 50.0%",
        " books  loss 3.0000  accuracy 25.0%",
    ]
    (line,) = eval_lines(STANDING, whole, {"corpus": whole})
    assert line == "pretrain   12%  step  1,234  eval  loss 2.7000  accuracy 40.0%"


def test_the_least_important_part_goes_first() -> None:
    parts = [LinePart("aa"), LinePart("bb", 1), LinePart("cc", 2), LinePart("dd")]
    assert fitted(parts, 14) == "aa  bb  cc  dd"
    assert fitted(parts, 13) == "aa  bb  dd"
    assert fitted(parts, 9) == "aa  dd"
    assert fitted(parts, 5) == "aa..."
