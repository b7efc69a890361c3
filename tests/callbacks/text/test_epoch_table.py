import math

import pytest

from fovea.callbacks.text import epoch_table
from fovea.callbacks.text.epoch_table import EPOCH_COLUMNS, SPEED, cells, columns, header, log_line, row_text

FIGURES = {"train/loss": 1.50931, SPEED: 1412.3, "val/loss": 0.98, "val/accuracy": 0.4333, "val/f1": math.nan}


def table(width: int, *rows: dict[str, str], monitor: str = "val/accuracy") -> str:
    shown = columns(rows[0], monitor, width)
    return "\n".join([header(shown), *(row_text(shown, row) for row in rows)])


def test_rows_are_aligned_below_a_header_that_names_each_split_once() -> None:
    first = cells(" 1/10", "", FIGURES, 8.94, best=True)
    second = cells("10/10", "", FIGURES | {"train/loss": 0.00001, "val/loss": 123.456}, 3725, best=False)
    assert table(80, first, second).splitlines() == [
        "         train      val",
        "epoch     loss     loss  accuracy       f1  images/s     time",
        " 1/10   1.5093   0.9800    0.4333      nan     1,412     8.9s  best",
        "10/10  1.0e-05   123.46    0.4333      nan     1,412  1:02:05",
    ]


@pytest.mark.parametrize("width", [30, 45, 60, 80, 150])
def test_no_line_is_wider_than_the_terminal_and_a_wider_one_has_more_columns(width: int) -> None:
    many = FIGURES | {f"val/metric_{n}": n / 10 for n in range(20)}
    lines = table(width, cells("  1/100", "  39/3900", many, 3725, best=True)).splitlines()
    assert all(len(line) <= width for line in lines)
    fewer = table(width - 15, cells("  1/100", "  39/3900", many, 3725, best=True))
    assert len(lines[1].split()) > len(fewer.splitlines()[1].split())


def test_a_narrow_terminal_keeps_the_monitor_and_the_best_mark() -> None:
    row = cells("3", "", {"val/a": 1.0, "val/loss": 2.0, "val/mAP": 0.5, "train/loss": 1.0}, 1.0, best=True)
    assert table(42, row, monitor="val/mAP").splitlines() == [
        "         train      val",
        "epoch     loss     loss      mAP",
        "    3   1.0000   2.0000   0.5000  best",
    ]


def test_a_row_with_missing_figures_shows_dashes_and_columns_keep_their_place() -> None:
    whole, without = cells(" 1/10", "", FIGURES, 1.0, best=True), cells(" 2/10", "", {"train/loss": 1.0}, 1.0, False)
    shown = columns(whole, "val/accuracy", 80)
    assert columns(without, "val/accuracy", 80, shown) == shown
    assert row_text(shown, without).split() == ["2/10", "1.0000", "-", "-", "-", "-", "1.0s"]


def test_a_validation_within_an_epoch_leaves_room_for_the_columns_of_a_whole_epoch() -> None:
    within = cells("0.50/10", "", {"val/loss": 1.0, "val/accuracy": 0.5}, None, best=True)
    shown = columns(within, "val/accuracy", 80, EPOCH_COLUMNS)
    assert row_text(shown, within).split() == ["0.50/10", "-", "1.0000", "0.5000", "-", "-", "best"]
    whole = cells("   1/10", "", {name: FIGURES[name] for name in ("train/loss", SPEED)}, 1.0, best=False)
    assert columns(whole, "val/accuracy", 80, shown) == shown


def test_the_log_line_has_every_figure_with_its_name() -> None:
    line = log_line(" 3/15", "", FIGURES, 2.94, best=True)
    assert line == (
        "epoch 3/15  train/loss 1.509  train/images_per_second 1412  val/accuracy 0.4333  val/f1 nan  val/loss 0.98"
        "  time 2.9s  best"
    )
    assert log_line("0.25", " 20/500", {"val/mAP": 0.5}, None, best=None) == "epoch 0.25  step 20/500  val/mAP 0.5"


@pytest.mark.parametrize(
    ("done", "total", "text"), [(3, 10, " 3/10"), (3, None, "3"), (2.25, 10, "2.25/10"), (10, 10, "10/10")]
)
def test_epochs_are_counted_from_one(done: float, total: int | None, text: str) -> None:
    assert epoch_table.epoch_text(done, total) == text


@pytest.mark.parametrize("value", [0, 0.00009, 0.00123, 0.5, 1, 9.99999, 10, 99.9999, 1234.56, 99999.6, 1e12, math.inf])
def test_a_figure_has_at_most_seven_characters_and_keeps_its_value(value: float) -> None:
    text = epoch_table.figure_text(value)
    assert len(text) <= 7
    assert float(text) == pytest.approx(value, rel=0.06)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (9.96, "10s"), (59.6, "1:00"), (725, "12:05"), (4325, "1:12:05")]
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    assert epoch_table.duration_text(seconds) == text
