"""The curves of metrics.csv."""

from pathlib import Path

from run_files import METRICS

from fovea.report.run.history import charts


def test_each_figure_has_a_chart_with_a_curve_for_each_split_and_gaps_where_there_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    found = {chart.title: chart for chart in charts(tmp_path / "metrics.csv")}
    assert set(found) == {"learning rate", "loss", "accuracy"}
    assert found["learning rate"].steps == [9, 199]
    assert found["accuracy"].curves == {"train": [0.5, 0.97], "val": [0.55, 0.81], "val ema": [0.6, 0.85]}
    assert found["loss"].curves == {"train": [1.5, 1.0], "val": [1.4, None]}  # nan is no value, and an empty curve none


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS + "299,2,,,,,,0.8")
    assert {chart.title: chart.steps for chart in charts(tmp_path / "metrics.csv")}["accuracy"] == [99, 199]


def test_a_run_without_metrics_has_no_charts(tmp_path: Path) -> None:
    assert charts(tmp_path / "metrics.csv") == []
    (tmp_path / "metrics.csv").write_text("step,epoch\n")
    assert charts(tmp_path / "metrics.csv") == []
