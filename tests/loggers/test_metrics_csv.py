import csv
from pathlib import Path

from fovea.loggers.metrics_csv import MetricsCsv


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_values_of_one_step_are_in_one_row_and_new_columns_are_added(tmp_path: Path) -> None:
    logger = MetricsCsv(str(tmp_path))
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.log_metrics({"lr": 0.1, "epoch": 0}, step=0)
    logger.log_metrics({"loss": 0.5}, step=1)
    assert rows(tmp_path) == [  # written at once
        {"step": "0", "epoch": "0", "loss": "1.0", "lr": "0.1"},
        {"step": "1", "epoch": "", "loss": "0.5", "lr": ""},
    ]
    logger.log_metrics({"val": 7.0}, step=2)
    logger.finalize("success")
    assert [row["val"] for row in rows(tmp_path)] == ["", "", "7.0"]
    assert [row["loss"] for row in rows(tmp_path)] == ["1.0", "0.5", ""]


def test_a_resumed_run_keeps_rows_up_to_its_step_and_appends(tmp_path: Path) -> None:
    first = MetricsCsv(str(tmp_path))
    for step in range(5):
        first.log_metrics({"loss": float(step)}, step=step)
    first.finalize("failed")
    second = MetricsCsv(str(tmp_path))
    second.resume_after(3)
    second.log_metrics({"new": 1.0}, step=3)
    second.log_metrics({"loss": 40.0}, step=4)
    second.finalize("success")
    assert [(row["step"], row["loss"], row["new"]) for row in rows(tmp_path)] == [
        *(("0", "0.0", ""), ("1", "1.0", ""), ("2", "2.0", "")),
        ("3", "3.0", "1.0"),
        ("4", "40.0", ""),
    ]


def test_a_run_that_logs_nothing_does_not_change_an_earlier_file(tmp_path: Path) -> None:
    first = MetricsCsv(str(tmp_path))
    first.log_metrics({"loss": 1.0}, step=0)
    first.finalize("success")
    before = (tmp_path / "metrics.csv").read_text()
    MetricsCsv(str(tmp_path)).finalize("failed")
    assert (tmp_path / "metrics.csv").read_text() == before


def test_a_row_that_a_full_disk_truncated_is_dropped(tmp_path: Path) -> None:
    first = MetricsCsv(str(tmp_path))
    for step in (130, 140):
        first.log_metrics({"loss": 1.0}, step=step)
    whole = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(whole[: whole.index(b"140") + 2])
    second = MetricsCsv(str(tmp_path))
    second.resume_after(140)
    second.log_metrics({"loss": 2.0}, step=141)
    assert [row["step"] for row in rows(tmp_path)] == ["130", "141"]
