"""Reports of whole runs: each run has one, however it ended, and its figures are those of the test."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import SMALL, make_folder
from sklearn import metrics as sk

from fovea.report import prediction_file, thumbnail_file
from fovea.report.statistics.calibration import fit_temperature

Invoke = Callable[..., Any]
Runs = Callable[[], list[Path]]


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def headings(folder: Path) -> list[str]:
    return re.findall("<h2>(.*)</h2>", (folder / "report.html").read_text("utf-8"))


def untitled(folder: Path) -> str:
    """The page without the folder's name."""
    return re.sub("<(title|h1)>.*</", "", (folder / "report.html").read_text("utf-8"))


def test_a_finished_run_has_its_report_and_what_it_is_made_of(trained: Path) -> None:
    assert {"Training", "Which classes are confused", "Classes", "Images", "How it was made"} <= set(headings(trained))
    tested, validated = (prediction_file.read(trained, name) for name in ("predictions", "val_predictions"))
    assert tested is not None
    assert validated is not None
    assert (len(tested), len(validated)) == (15, 9)
    content, fitted = results(trained), json.loads((trained / "calibration.json").read_text())
    right = tested.probabilities.argmax(1) == tested.labels
    assert content["test"]["accuracy"] == pytest.approx(right.float().mean().item())
    low, high = content["intervals"]["accuracy"]
    assert low <= content["test"]["accuracy"] <= high
    assert content["majority"]["accuracy"] == pytest.approx(1 / 3)  # three classes of equal size
    assert fitted["temperature"] == fit_temperature(validated)
    assert set(content["phases"]) == {"steps", "waiting for data", "validation", "saving", "other"}
    assert 0 < sum(content["phases"].values()) < content["seconds"]
    names = thumbnail_file.read(trained)
    assert {f"test/{row}" for row in range(15)} <= set(names)
    assert "input/0" in names


def test_a_report_can_be_written_again_and_compared_with_another_run(
    invoke: Invoke, trained: Path, tmp_path: Path
) -> None:
    first = untitled(trained)
    (trained / "report.html").unlink()
    assert invoke("report", f"run={trained}").code == 0
    assert untitled(trained) == first
    other = shutil.copytree(trained, tmp_path / "other")
    assert invoke("report", f"run={trained}", f"baseline={other}").code == 0
    assert "0 images are right here and wrong in" in (trained / "report.html").read_text("utf-8")
    code, _, err = invoke("report", f"run={trained}", f"baseline={tmp_path}")
    assert code == 2
    assert f"{tmp_path} has no predictions of a test" in err


def test_a_baseline_without_a_test_is_refused_before_any_work(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, f"baseline={tmp_path / 'no'}")
    assert code == 2
    assert f"baseline={tmp_path / 'no'} has no predictions of a test" in err
    assert not (tmp_path / "runs").exists()


def test_a_failed_run_has_a_report(invoke: Invoke, runs: Runs, folder: Path) -> None:
    words = ("data=folder", f"data.root={folder}", *SMALL)
    (folder / "train" / "cat" / "3.png").write_bytes(b"no image")
    assert invoke("train", *words, "report=true").code != 0
    failed = runs()[-1]
    assert headings(failed) == ["How it was made"]
    assert "failed" in (failed / "report.html").read_text("utf-8")


def test_a_start_that_is_refused_writes_no_report(invoke: Invoke, runs: Runs, folder: Path) -> None:
    words = ("data=folder", f"data.root={folder}", *SMALL, "report=true", "optimizer=lbfgs", "parameter_groups=all")
    code, _, err = invoke("train", *words, "trainer.accumulate_grad_batches=2")
    assert (code, "LBFGS" in err) == (2, True)
    (refused,) = runs()
    assert not (refused / "report.html").exists()


def test_validation_is_predicted_with_the_averaged_weights_if_the_monitor_is_of_them(
    invoke: Invoke, runs: Runs, folder: Path
) -> None:
    words = ("data=folder", f"data.root={folder}", *SMALL, "report=true", "callbacks=[default,ema]")
    assert invoke("train", *words, "monitor=val/ema_loss", "trainer.max_epochs=2").code == 0
    (run,) = runs()
    validated = prediction_file.read(run, "val_predictions")
    assert validated is not None
    loss = sk.log_loss(validated.labels, validated.probabilities, labels=range(3))
    assert loss == pytest.approx(results(run)["best"]["value"], abs=1e-5)


@pytest.mark.slow
def test_what_an_earlier_test_left_is_not_taken_for_that_of_a_prolonged_run(invoke: Invoke, trained: Path) -> None:
    words = (f"resume={trained}", "trainer.max_epochs=2", "report=false", "trainer.limit_test_batches=0")
    code, out, err = invoke("train", *words, "force=true")
    assert code == 0, err
    assert not (trained / "calibration.json").exists()
    assert results(trained)["intervals"] == {}
    assert "95 % interval" not in out


@pytest.mark.slow
def test_a_baseline_of_other_images_is_a_warning_and_the_run_ends_well(
    invoke: Invoke, runs: Runs, trained: Path, tmp_path: Path
) -> None:
    other = make_folder(tmp_path / "other", images=10)
    words = ("data=folder", f"data.root={other}", "data.val_fraction=0.2", *SMALL, "report=true", f"baseline={trained}")
    code, out, err = invoke("train", *words)
    assert code == 0, err
    assert "the report compares with no other run" in " ".join(out.split())
    assert "Classes" in headings(runs()[-1])


def test_calibrated_predictions_and_rejected_images(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path
) -> None:
    def rows(*words: str) -> list[dict[str, str]]:
        output = tmp_path / "out.csv"
        outcome = invoke("predict", f"run={trained}", f"source={folder}/test", f"output={output}", *words)
        assert outcome.code == 0, outcome.err
        return list(csv.DictReader(output.open()))

    names, temperature = ("cat", "dog", "owl"), json.loads((trained / "calibration.json").read_text())["temperature"]
    raw, cooled = (
        np.array([[float(row[f"p({name})"]) for name in names] for row in found])
        for found in (rows(), rows("calibrated=true"))
    )
    powers = raw ** (1 / temperature)
    np.testing.assert_allclose(cooled, powers / powers.sum(1, keepdims=True), atol=1e-5)
    middle = float(np.median(raw.max(1)))
    rejected = [row["label"] == "unknown" for row in rows(f"reject={middle}")]
    assert rejected == [float(value) < middle for value in raw.max(1)]
    for words, said in (("threshold=tuned", "is for several labels"), ("calibrated=1", "calibrated")):
        assert said in invoke("predict", f"run={trained}", f"source={folder}/test", words).err


def test_predictions_with_other_weights_than_the_calibration_was_fitted_to_are_warned_about(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path
) -> None:
    def said(*words: str, run: str = "") -> str:
        place = (f"run={trained}{run}", f"source={folder}/test/cat", f"output={tmp_path}/out.csv")
        code, out, err = invoke("predict", *place, *words)
        assert code == 0, err
        return " ".join(out.split())

    best = trained / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    step = content["global_step"]
    fitted_to = json.loads((trained / "calibration.json").read_text())["fitted_to"]
    assert (fitted_to["checkpoint"], fitted_to["step"], fitted_to["eval_image_size"]) == ("best.ckpt", step, 16)
    assert "were fitted to" not in said("calibrated=true", run="/checkpoints/last.ckpt")  # of the same step
    torch.save(content | {"global_step": step + 4}, best)  # as if the run had been prolonged and killed
    warned = f"uses values that were fitted to best.ckpt of step {step}, not best.ckpt of step {step + 4}"
    assert f"reject=auto {warned}; data.eval_image_size=16, not 24" in said("reject=auto", "data.eval_image_size=24")
    assert "were fitted to" not in said()


@pytest.mark.slow
def test_a_multilabel_run_tunes_its_thresholds_on_validation(invoke: Invoke, runs: Runs, tmp_path: Path) -> None:
    words = ("data=digits_multilabel", *SMALL, "data.batch_size=64", "trainer.max_epochs=2", "report=true")
    assert invoke("train", *words).code == 0
    (run,) = runs()
    validated = prediction_file.read(run, "val_predictions")
    assert validated is not None
    chosen = json.loads((run / "calibration.json").read_text())["thresholds"]
    for k, threshold in enumerate(chosen):
        scores, labels = validated.probabilities[:, k].numpy(), validated.labels[:, k].numpy()
        best = max(sk.f1_score(labels, scores >= value) for value in np.unique(scores))
        assert sk.f1_score(labels, scores > threshold) == pytest.approx(best)
    assert "Which labels are wrong" in headings(run)
    output = tmp_path / "out.csv"
    assert invoke("predict", f"run={run}", f"source={run}/none", "threshold=tuned").code == 2
    images = prediction_file.read(run, "predictions")
    assert images is not None
    source = tmp_path / "list.txt"
    root = yaml.safe_load((run / "resolved.yaml").read_text("utf-8"))["data"]["root"]
    source.write_text("\n".join(f"{root}/{path}" for path in images.paths[:20]))
    assert invoke("predict", f"run={run}", f"source={source}", f"output={output}", "threshold=tuned").code == 0
    for row, values in zip(csv.DictReader(output.open()), images.probabilities, strict=False):
        assert (
            row["labels"].split(";")
            == [
                name for name, chosen_ in zip(images.class_names, values > torch.tensor(chosen), strict=True) if chosen_
            ]
            or row["labels"] == ""
        )
