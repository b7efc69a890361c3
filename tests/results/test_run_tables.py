"""The tables of a run are compared with its files as the csv module reads them, with scikit-learn and plain loops."""

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from run_files import make_run, predictions
from scipy.stats import binomtest
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from fovea.metrics.average_precision import MeanAveragePrecision
from fovea.report import prediction_file
from fovea.report.prediction_file import Predictions
from fovea.report.statistics import intervals
from fovea.results.run_tables import RunTables


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "single", predictions("multiclass", 4, 90))


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "several", predictions("multilabel", 3, 60))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 20)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def same(one: Any, other: Any) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def accuracy(classes: int) -> dict[str, Metric]:
    return {"accuracy": MulticlassAccuracy(classes, average="micro")}


def test_metrics_have_their_values_intervals_and_baseline_and_nan_where_there_is_none(tmp_path: Path) -> None:
    content = {
        "status": "finished",
        "test": {"loss": 0.3, "accuracy": 0.9, "mAP": None},
        "intervals": {"accuracy": [0.85, 0.94], "mAP": None},
        "majority": {"accuracy": 0.1},
    }
    (tmp_path / "results.json").write_text(json.dumps(content))
    table = RunTables(tmp_path).metrics()
    assert list(table.columns) == ["value", "low", "high", "majority"]
    assert (table.index.name, list(table.index)) == ("metric", ["loss", "accuracy", "mAP"])
    assert {str(dtype) for dtype in table.dtypes} == {"float64"}
    assert list(table.loc["accuracy"]) == [0.9, 0.85, 0.94, 0.1]
    assert table.loc["loss", "value"] == 0.3
    assert table.loc["loss", ["low", "high", "majority"]].isna().all()
    assert table.loc["mAP"].isna().all()


def test_the_history_has_the_numbers_of_metrics_csv_without_a_row_that_is_cut_off(tmp_path: Path) -> None:
    text = "step,epoch,val/loss,lr\n9,0,,0.1\n19,0,0.30000000000000004,\n29,1,nan,8.000000000000001e-05\n"
    (tmp_path / "metrics.csv").write_text(text + "39,1,0.2")
    history = RunTables(str(tmp_path)).history()
    assert (history.index.name, list(history.index)) == ("step", [9, 19, 29])
    assert list(history.columns) == ["epoch", "val/loss", "lr"]
    assert all(dtype.kind in "if" for dtype in history.dtypes)
    for found, row in zip(history.to_dict("records"), rows_of(tmp_path / "metrics.csv"), strict=False):
        assert all(same(found[name], float(row[name] or "nan")) for name in history.columns)


def test_predictions_of_one_label_an_image_are_those_of_the_file_and_say_which_are_right(run: Path) -> None:
    table, rows = RunTables(run).predictions(), rows_of(run / "predictions.csv")
    probabilities = [column for column in rows[0] if column.startswith("p(")]
    assert list(table.columns) == ["path", "label", "predicted", "right", *probabilities]
    for found, row in zip(table.to_dict("records"), rows, strict=True):
        assert (found["path"], found["label"]) == (row["path"], row["label"])
        assert all(found[name] == np.float32(row[name]) for name in probabilities)
        largest = max(probabilities, key=lambda name: float(row[name]))
        assert found["predicted"] == largest[2:-1]
        assert found["right"] == (largest == f"p({row['label']})")
    assert table["right"].mean() == pytest.approx(sk.accuracy_score(table["label"], table["predicted"]))
    assert list(table["label"].cat.categories) == [name[2:-1] for name in probabilities]  # in the order of the classes


def test_predictions_of_several_labels_are_those_of_the_file_and_unknown_labels_are_missing(multilabel: Path) -> None:
    table, rows = RunTables(multilabel).predictions(), rows_of(multilabel / "predictions.csv")
    assert list(table.columns) == list(rows[0])
    labels = [column for column in rows[0] if column.startswith("label(")]
    assert "" in {row[name] for row in rows for name in labels}
    for n, row in enumerate(rows):
        assert table["path"][n] == row["path"]
        for name in labels:
            text = "" if table[name].isna()[n] else str(table[name][n])
            assert text == row[name]
            assert table[name.replace("label", "p", 1)][n] == np.float32(row[name.replace("label", "p", 1)])


def test_paths_that_are_no_text_are_kept(tmp_path: Path) -> None:
    odd = Predictions("multiclass", ["a", "b"], ["/x/\udcff.png"], torch.tensor([1]), torch.tensor([[0.5, 0.5]]))
    prediction_file.write(tmp_path, "predictions", odd)
    assert list(RunTables(tmp_path).predictions()["path"]) == odd.paths
    assert list(RunTables(tmp_path).compare(tmp_path, {}).images["path"]) == odd.paths


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_test_without_images_has_empty_tables(tmp_path: Path, task: Any) -> None:
    prediction_file.write(tmp_path, "predictions", predictions(task, 3, 0))
    tables = RunTables(tmp_path)
    assert len(tables.predictions()) == len(tables.compare(tmp_path, {}).images) == 0
    assert len(tables.predictions().columns) == 7


def moved(tested: Predictions, seed: int) -> Predictions:
    """The images of another run, in another order and folder."""
    paths = [f"/elsewhere{path}" for path in tested.paths]
    order = torch.randperm(len(tested), generator=torch.Generator().manual_seed(seed)).tolist()
    return Predictions(tested.task, tested.class_names, paths, tested.labels, tested.probabilities).take(order)


def test_two_runs_are_compared_metric_by_metric_and_image_by_image(run: Path, tmp_path: Path) -> None:
    second = predictions("multiclass", 4, 90, seed=1)
    other = make_run(tmp_path / "other", moved(second, seed=2))
    found = RunTables(run).compare(other, accuracy(4))
    mine = predictions("multiclass", 4, 90)
    first_right, second_right = (p.probabilities.argmax(1).eq(p.labels).tolist() for p in (mine, second))
    assert list(found.images.columns) == ["path", "label", "predicted", "other_predicted", "right", "other_right"]
    assert list(found.images["path"]) == mine.paths
    for n, row in enumerate(found.images.to_dict("records")):
        assert (row["right"], row["other_right"]) == (first_right[n], second_right[n])
        assert row["label"] == mine.class_names[int(mine.labels[n])]
        assert row["predicted"] == mine.class_names[int(mine.probabilities[n].argmax())]
        assert row["other_predicted"] == mine.class_names[int(second.probabilities[n].argmax())]
    pairs = list(zip(first_right, second_right, strict=True))
    assert (found.only_one, found.only_other) == (pairs.count((True, False)), pairs.count((False, True)))
    assert found.p_value == pytest.approx(binomtest(found.only_one, found.only_one + found.only_other).pvalue)
    row = found.metrics.loc["accuracy"]
    assert list(row.index) == ["value", "other", "difference", "low", "high", "p_value"]
    assert row["value"] == pytest.approx(np.mean(first_right))
    assert row["other"] == pytest.approx(np.mean(second_right))
    expected = intervals.paired_differences(accuracy(4), second.probabilities, mine.probabilities, mine.labels)[
        "accuracy"
    ]
    assert list(row[2:]) == pytest.approx(list(expected))
    assert row["difference"] != 0


def test_an_image_of_several_labels_is_right_if_all_known_ones_are(multilabel: Path, tmp_path: Path) -> None:
    mine, second = (predictions("multilabel", 3, 60, seed) for seed in (0, 1))
    second = Predictions(mine.task, mine.class_names, mine.paths, mine.labels, second.probabilities)
    other = make_run(tmp_path / "other", moved(second, seed=2))
    found = RunTables(multilabel).compare(other, {"mAP": MeanAveragePrecision(3)})
    names = mine.class_names
    for n, row in enumerate(found.images.to_dict("records")):
        assert row["label"] == ";".join(name for k, name in enumerate(names) if mine.labels[n, k] == 1)
        for p, predicted, right in ((mine, "predicted", "right"), (second, "other_predicted", "other_right")):
            chosen = [p.probabilities[n, k].item() > 0.5 for k in range(3)]
            assert row[predicted] == ";".join(name for name, is_chosen in zip(names, chosen, strict=True) if is_chosen)
            pairs = [(bool(label), is_chosen) for label, is_chosen in zip(mine.labels[n], chosen) if label != -1]
            assert row[right] == all(label == is_chosen for label, is_chosen in pairs)
    assert 0 < found.images["right"].sum() < 60
    scores = [(mine.labels[:, k] != -1, mine.labels[:, k], second.probabilities[:, k]) for k in range(3)]
    mean = np.mean([sk.average_precision_score(labels[known], values[known]) for known, labels, values in scores])
    assert found.metrics.loc["mAP", "other"] == pytest.approx(mean)


def test_without_an_interval_the_difference_is_still_there(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        make_run(tmp_path / name, predictions("multiclass", 2, 1, seed))
    row = RunTables(tmp_path / "one").compare(tmp_path / "other", accuracy(2)).metrics.loc["accuracy"]
    assert row["difference"] == row["value"] - row["other"]
    assert row[["low", "high", "p_value"]].isna().all()


def test_a_folder_without_a_test_or_a_history_is_named(run: Path, tmp_path: Path) -> None:
    tables = RunTables(tmp_path)
    for read in (tables.predictions, lambda: tables.compare(run, {}), lambda: RunTables(run).compare(tmp_path, {})):
        with pytest.raises(ValueError, match=f"{tmp_path} has no predictions of a test: python src/evaluate.py run="):
            read()
    for content in (None, {"status": "interrupted", "test": None}):
        if content:
            (tmp_path / "results.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"{tmp_path} has no figures of a test: python src/evaluate.py run="):
            tables.metrics()
    with pytest.raises(ValueError, match="metrics.csv is not there: only a run that has been trained has a history"):
        tables.history()


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "step,loss\n1,low\n", "step,loss\nfirst,2\n", 'step,loss\n"1,2\n'])
def test_a_damaged_history_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match="metrics.csv is damaged .*: train again, or repair the file"):
        RunTables(tmp_path).history()


def test_runs_that_were_tested_on_other_images_are_refused(run: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "other", predictions("multiclass", 4, 80))
    with pytest.raises(ValueError, match="the runs were tested on different images"):
        RunTables(run).compare(tmp_path / "other", {})


def test_without_pandas_the_error_names_the_extra(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    tables = RunTables(run)
    for read in (tables.metrics, tables.history, tables.predictions, lambda: tables.compare(run, {})):
        with pytest.raises(ValueError, match=r'data frames need pandas: pip install -e "\.\[pandas\]"'):
            read()
