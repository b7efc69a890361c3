"""Pooling the folds of a cross-validation, compared with scikit-learn's metrics and with plain means."""

import json
import statistics
from pathlib import Path

import pytest
from board_files import write_run
from run_files import predictions
from sklearn.metrics import accuracy_score, f1_score
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from fovea.leaderboard.entries import find
from fovea.report import prediction_file
from fovea.report.prediction_file import Predictions
from fovea.results.pooled_folds import pool

WHOLE = predictions("multiclass", 3, 90)
PARTS = [WHOLE.take(list(rows)) for rows in (range(20), range(20, 50), range(50, 90))]


def metrics(folder: Path) -> dict[str, Metric]:
    assert (folder / "config.yaml").is_file()
    return {"accuracy": MulticlassAccuracy(3, average="micro"), "f1": MulticlassF1Score(3, average="macro")}


def fold(sweep: Path, number: int, tested: Predictions, seed: int = 0, status: str = "finished") -> None:
    data = {"folds": 3, "fold": number}
    overrides = {"number": seed * 10 + number, "overrides": [f"data.fold={number}", f"seed={seed}"]}
    run = sweep / f"{seed * 10 + number}"
    write_run(run, config={"data": data, "seed": seed}, data=f"fold {number}", job=overrides, status=status)
    prediction_file.write(run, "predictions", tested)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number, part in enumerate(PARTS):
        fold(tmp_path, number, part)
    return tmp_path


def test_the_pooled_metrics_are_those_of_all_images_and_the_mean_is_over_the_folds(sweep: Path) -> None:
    lines = pool(find([sweep]), sweep, metrics)
    (content,) = json.loads((sweep / "folds.json").read_text())
    predicted = WHOLE.probabilities.argmax(1)
    accuracy, f1 = content["metrics"]["accuracy"], content["metrics"]["f1"]
    assert accuracy["pooled"] == pytest.approx(accuracy_score(WHOLE.labels, predicted))
    assert f1["pooled"] == pytest.approx(f1_score(WHOLE.labels, predicted, average="macro"))
    values = [f1_score(part.labels, part.probabilities.argmax(1), average="macro") for part in PARTS]
    assert f1["folds"] == pytest.approx(values)
    expected = (statistics.mean(values), statistics.stdev(values))
    assert (f1["mean"], f1["deviation"]) == pytest.approx(expected, abs=1e-6)
    assert accuracy["interval"][0] < accuracy["pooled"] < accuracy["interval"][1]
    assert (content["label"], content["folds"], content["images"], content["runs"]) == ("", 3, 90, ["0", "1", "2"])
    written = prediction_file.of_test((sweep / content["predictions"]).parent)
    assert sorted(written.paths) == sorted(WHOLE.paths)
    rows = {path: row for row, path in enumerate(WHOLE.paths)}
    assert written.probabilities.equal(WHOLE.probabilities[[rows[path] for path in written.paths]])
    assert lines[0].startswith("3 folds, 90 images, each tested once: ")
    assert lines[1].startswith(f"accuracy {accuracy['pooled']:.4f} (")


def test_each_seed_is_a_cross_validation_of_its_own_and_an_unfinished_one_is_not_pooled(sweep: Path) -> None:
    for number, part in enumerate(PARTS):
        fold(sweep, number, part, seed=1, status="finished" if number else "failed")
    lines = pool(find([sweep]), sweep, metrics)
    assert lines[0].startswith("seed=0: 3 folds, 90 images")
    assert lines[-1] == "seed=1: not pooled, as 2 of 3 folds are finished"
    assert len(json.loads((sweep / "folds.json").read_text())) == 1
    fold(sweep, 0, PARTS[0], seed=1)
    pool(find([sweep]), sweep, metrics)
    assert [one["label"] for one in json.loads((sweep / "folds.json").read_text())] == ["seed=0", "seed=1"]
    assert (sweep / "out_of_fold/2/predictions.csv").is_file()


def test_an_image_in_two_folds_is_an_error(sweep: Path) -> None:
    fold(sweep, 2, PARTS[1])
    with pytest.raises(ValueError, match="30 images were tested in several of them"):
        pool(find([sweep]), sweep, metrics)


def test_two_runs_of_a_fold_and_runs_without_folds_are_not_pooled(sweep: Path, tmp_path: Path) -> None:
    (sweep / "0").rename(sweep / "20")
    fold(sweep, 0, PARTS[0])
    assert pool(find([sweep]), sweep, metrics) == [
        "not pooled, as 4 runs of 3 folds are finished: name one run of each fold"
    ]
    write_run(tmp_path / "other" / "run")
    assert pool(find([tmp_path / "other"]), tmp_path / "other", metrics) == []
    assert not (tmp_path / "other" / "folds.json").exists()
