import math
from typing import Any

import pytest

from fovea.callbacks.text.progress_line import Speed, clock_text, epochs_left, progress_line

ALL: dict[str, Any] = {"speed": 1412.3, "seconds_left": 43.2, "best": "best val/accuracy 0.9611"}


def test_the_line_fills_a_terminal_of_80_columns() -> None:
    assert progress_line(79, "epoch  3/10", 13, 39, **ALL) == (
        "epoch  3/10  ━━──────  13/39  1,412 images/s  0:43 left  best val/accuracy 0.9611".replace(
            "━━──────", "━━────"
        )
    )


def test_a_wide_terminal_has_a_longer_bar_up_to_a_limit() -> None:
    line = progress_line(300, "epoch 3/10", 39, 39, **ALL)
    assert line.count("━") == 40
    assert line.endswith("39/39  1,412 images/s  0:43 left  best val/accuracy 0.9611")


@pytest.mark.parametrize("width", [20, 40, 60, 79])
def test_a_narrow_terminal_drops_the_least_important_parts_and_nothing_is_cut(width: int) -> None:
    line = progress_line(width, "epoch 123/300", 1234, 5004, **ALL)
    assert len(line) <= width
    assert set(line.replace("━", "─").split("  ")) - {""} <= {
        *("epoch 123/300", "1,412 images/s", "0:43 left", "best val/accuracy 0.9611", "1234/5004"),
        *("─" * n for n in range(41)),
    }


def test_unknown_figures_are_not_shown() -> None:
    assert progress_line(79, "epoch 3", 7, math.inf) == "epoch 3  7"
    assert progress_line(30, "testing", 0, 0, symbols="#-") == "testing  ----------------  0/0"


def test_the_speed_is_measured_over_the_last_samples_without_pauses() -> None:
    speed = Speed()
    assert speed.per_second() is None
    for now in (0.0, 1.0, 2.0):
        speed.sample(now)
        speed.images += 50
    assert speed.per_second() == 50
    speed.pause()
    assert speed.per_second() == 50
    speed.sample(100.0)
    speed.images += 30
    speed.sample(101.0)
    assert speed.per_second() == 30


@pytest.mark.parametrize(
    ("max_epochs", "steps_left", "left"),
    [(10, None, 7 * 39 - 12), (-1, 20, 40), (None, None, None), (10, 20, 40), (3, 500, 27), (2, None, 0)],
)
def test_the_run_ends_by_epochs_or_by_steps_whichever_is_first(
    max_epochs: int | None, steps_left: int | None, left: int | None
) -> None:
    batches, epoch, batch = 39, 3 if max_epochs == 10 else 2, 12
    found = epochs_left(batches, epoch, batch, max_epochs, steps_left, accumulated=2)
    assert (found if found is None else found * batches) == (left if left is None else pytest.approx(left))


def test_a_duration_shows_hours_only_from_one_hour_on() -> None:
    assert [clock_text(seconds) for seconds in (0.4, 59.6, 725, 36005)] == ["0:00", "1:00", "12:05", "10:00:05"]
