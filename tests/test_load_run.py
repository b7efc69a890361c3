"""load_run is compared with `python src/predict.py` on the same files."""

import csv
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import lightning
import numpy as np
import pytest
import torch
import yaml
from conf_groups import composed
from helpers import SMALL, make_folder
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from fovea import build
from fovea.config import saved
from fovea.config.resolvers import PROJECT
from fovea.load_run import LoadedRun, load_run
from fovea.report import prediction_file
from fovea.report.prediction_file import Predictions
from fovea.report.statistics import intervals
from fovea.runs.run_folder import write_json

METRICS = {"loss": 1.5, "accuracy": 0.25}
TEMPERATURE = 1.7
CLASSES = list("abcdefg")  # as `composed` has them


def make_run(folder: Path, *overrides: str, task: str = "multiclass", ema_weights: bool = False) -> Path:
    """A run folder with random weights, and other random weights as their average."""
    cfg = composed(*SMALL, *overrides)
    cfg.task, cfg.run_dir, cfg.data.root = task, str(folder), str(folder)
    (folder / "checkpoints").mkdir(parents=True)
    saved.save(cfg, folder)
    network = build.task(cfg)
    content = {"state_dict": network.state_dict(), "pytorch-lightning_version": lightning.__version__, "callbacks": {}}
    if ema_weights:
        content["state_dict_ema"] = {name: value * 0.5 for name, value in network.network.state_dict().items()}
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    write_json(folder / "results.json", {"status": "finished", "test": METRICS})
    (folder / "metrics.csv").write_text("step,epoch,train/loss,val/loss\n9,0,1.5,1.4\n19,1,1.0,1.2\n")
    write_json(folder / "calibration.json", {"temperature": TEMPERATURE})
    prediction_file.write(folder, "predictions", of_a_test(task))
    return folder


def of_a_test(task: Any, seed: int = 0) -> Predictions:
    """Predictions of a test of 20 images."""
    generator = torch.Generator().manual_seed(seed)
    labels, logits = torch.arange(20) % 7, torch.randn(20, 7, generator=generator)
    if task == "multilabel":
        labels, probabilities = (torch.arange(140) % 3 - 1).reshape(20, 7).char(), logits.sigmoid()
    else:
        probabilities = logits.softmax(1)
    return Predictions(task, CLASSES, [f"{n}.png" for n in range(20)], labels, probabilities)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a run")


@pytest.fixture(scope="module")
def multilabel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose monitor is a figure of averaged weights."""
    words = ("data=multilabel_csv", "callbacks=[default,ema]", "monitor=val/ema_mAP")
    return make_run(tmp_path_factory.mktemp("runs") / "m", *words, task="multilabel", ema_weights=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More than a batch of PNG files, and two JPEG files."""
    folder = make_folder(tmp_path_factory.mktemp("photos"), ("x",), 9) / "x"
    for n in (1, 2):
        Image.open(folder / f"{n}.png").resize((300, 200)).save(folder / f"{n}.jpg")
    return sorted(folder.iterdir())


def changed(run: Path, folder: Path, section: str, values: dict[str, Any]) -> Path:
    """A run folder with other values in a section of its config, and the same checkpoint."""
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").symlink_to(run / "checkpoints" / "best.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {section: config[section] | values}), "utf-8")
    return folder


def predicted(
    invoke: Callable[..., Any], run: Path, photos: list[Path], output: Path, *words: str
) -> list[dict[str, Any]]:
    outcome = invoke("predict", f"run={run}", f"source={photos[0].parent}", f"output={output}", *words)
    assert outcome.code == 0, outcome.err
    with output.open() as lines:
        return list(csv.DictReader(lines))


def probabilities_in(row: dict[str, Any]) -> dict[str, float]:
    return {name: float(row[f"p({name})"]) for name in CLASSES}


def test_it_predicts_exactly_what_predict_writes(
    invoke: Callable[..., Any], run: Path, photos: list[Path], tmp_path: Path
) -> None:
    rows = predicted(invoke, run, photos, tmp_path / "p.csv")
    found = load_run(run)(photos)
    assert [row["path"] for row in rows] == [str(photo) for photo in photos]
    for row, prediction in zip(rows, found, strict=True):
        assert prediction.probabilities == probabilities_in(row)
        assert prediction.labels == [prediction.label] == [row["label"]]
        assert prediction.probability == max(prediction.probabilities.values())


@pytest.mark.slow
def test_images_are_as_large_as_in_the_runs_evaluations(
    invoke: Callable[..., Any], run: Path, photos: list[Path], tmp_path: Path
) -> None:
    larger = load_run(changed(run, tmp_path, "data", {"eval_image_size": 24}))
    assert next(larger.batches(photos)).shape[2:] == (24, 24)
    rows = predicted(invoke, run, photos, tmp_path / "p.csv", "data.eval_image_size=24")
    assert [prediction.probabilities for prediction in larger(photos)] == [probabilities_in(row) for row in rows]


def test_of_several_labels_all_above_the_threshold_are_named_by_the_averaged_weights_if_the_monitor_is_theirs(
    invoke: Callable[..., Any], multilabel: Path, photos: list[Path], tmp_path: Path
) -> None:
    rows, loaded = predicted(invoke, multilabel, photos, tmp_path / "p.csv"), load_run(multilabel)
    for row, prediction in zip(rows, loaded(photos), strict=True):
        assert prediction.probabilities == probabilities_in(row)
        assert set(prediction.labels) == set(filter(None, row["labels"].split(";")))
    one = loaded(photos[0])
    values = sorted(one.probabilities.values(), reverse=True)
    assert list(one.probabilities.values()) == values
    assert loaded(photos[0], threshold=values[2]).labels == list(one.probabilities)[:3]
    assert loaded(photos[0], threshold=1.1).labels == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "multilabel"])
def test_calibrated_predictions_are_exactly_those_of_predict(
    invoke: Callable[..., Any], kind: str, photos: list[Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    loaded, words = load_run(folder), ["threshold=0.45"] if kind == "multilabel" else []
    raw, found = loaded(photos), loaded(photos, threshold=0.45, calibrated=True)
    for row, prediction in zip(
        predicted(invoke, folder, photos, tmp_path / "p.csv", "calibrated=true", *words), found, strict=True
    ):
        assert prediction.probabilities == probabilities_in(row)
        assert set(prediction.labels) == set(filter(None, (row.get("labels") or row["label"]).split(";")))
    assert all(p.probability != before.probability for p, before in zip(found, raw, strict=True))


@pytest.fixture(scope="module")
def loaded(run: Path) -> LoadedRun:
    return load_run(run, device="cpu")


def test_calibrated_probabilities_are_those_of_the_logits_divided_by_the_temperature(
    loaded: LoadedRun, photos: list[Path]
) -> None:
    for before, after in zip(loaded(photos), loaded(photos, calibrated=True), strict=True):
        powers = {name: value ** (1 / TEMPERATURE) for name, value in before.probabilities.items()}
        expected = {name: value / sum(powers.values()) for name, value in powers.items()}
        assert after.probabilities == pytest.approx(expected, abs=1e-6)
        assert before.probabilities != pytest.approx(expected, abs=1e-3)
        assert (after.labels, list(after.probabilities)) == (before.labels, list(before.probabilities))
    assert loaded(photos[0], calibrated=True).label == loaded(photos[0]).label
    assert loaded([], calibrated=True) == []


def test_calibrated_predictions_of_a_run_without_a_calibration_are_refused(loaded: LoadedRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^calibrated=True: .* has no calibration.json"):
        replace(loaded, folder=tmp_path)([], calibrated=True)


def test_calibrated_predictions_with_another_checkpoint_than_was_fitted_are_warned_about_once(
    loaded: LoadedRun, photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    used = {"checkpoint": "best.ckpt", "step": 8, "run_dir": "/runs/a", "monitor": "val/f1", "eval_image_size": 16}
    write_json(tmp_path / "calibration.json", {"temperature": TEMPERATURE, "fitted_to": used})
    run = replace(loaded, folder=tmp_path)
    assert run(photos[0], calibrated=True) == run(photos[0], calibrated=True)
    (record,) = caplog.records
    said = "calibrated=True uses values that were fitted to best.ckpt of step 8, not best.ckpt of an unknown step"
    assert record.getMessage() == said


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 20)


def test_a_loaded_run_has_the_tables_of_its_folder_and_compares_itself_with_another(
    loaded: LoadedRun, tmp_path: Path, few_resamples: None
) -> None:
    assert dict(loaded.tables.metrics()["value"]) == METRICS
    assert list(loaded.tables.history()["val/loss"]) == [1.4, 1.2]
    assert list(loaded.tables.predictions()["path"]) == [f"{n}.png" for n in range(20)]
    prediction_file.write(tmp_path, "predictions", of_a_test("multiclass", seed=1))
    found = loaded.compare(tmp_path)
    assert set(found.metrics.index) == set(loaded.task.metrics)
    for p, column in ((of_a_test("multiclass"), "value"), (of_a_test("multiclass", seed=1), "other")):
        right = (p.probabilities.argmax(1) == p.labels).double().mean().item()
        assert found.metrics.loc["accuracy", column] == pytest.approx(right)
    swapped = replace(loaded, folder=tmp_path).compare(loaded)
    assert list(swapped.metrics["difference"]) == [-value for value in found.metrics["difference"]]
    assert (swapped.only_one, swapped.only_other) == (found.only_other, found.only_one)


def test_another_run_may_be_in_the_home_folder_and_averages_have_their_names(
    loaded: LoadedRun, tmp_path: Path, few_resamples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    prediction_file.write(tmp_path, "predictions", of_a_test("multiclass", seed=1))
    assert set(loaded.compare("~").metrics.index) == set(loaded.task.metrics)
    monkeypatch.setattr(loaded.task, "monitor", "val/ema_accuracy")
    assert set(loaded.compare("~").metrics.index) == {f"ema_{name}" for name in loaded.task.metrics}


def test_an_image_is_a_path_a_pil_image_an_array_or_a_tensor(loaded: LoadedRun, photos: list[Path]) -> None:
    file = next(photo for photo in photos if photo.suffix == ".png")
    with Image.open(file) as image:
        array = np.asarray(image)
        as_path = loaded(file)
        assert as_path == loaded(str(file)) == loaded(image) == loaded(array)
    assert as_path == loaded(np.ascontiguousarray(array[..., ::-1])[..., ::-1])  # as OpenCV's BGR is turned around
    pixels = torch.from_numpy(array.copy()).permute(2, 0, 1)
    assert as_path == loaded(pixels)
    for batch in (np.stack([array, array]), torch.stack([pixels, pixels])):
        assert len(loaded(batch)) == 2
    mixed = loaded([file, array, pixels])
    assert [prediction.label for prediction in mixed] == [as_path.label] * 3
    assert loaded([]) == []


def test_transparency_lies_on_the_runs_background(loaded: LoadedRun) -> None:
    clear, white = Image.new("RGBA", (20, 20), (9, 9, 9, 0)), Image.new("RGB", (20, 20), "white")
    assert loaded(clear) == loaded(white) != loaded(clear.convert("RGB"))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("none.jpg", "none.jpg: No such file"),
        (np.zeros((3, 8, 9), np.uint8), r"ndarray of uint8 \(3, 8, 9\)"),
        (np.zeros((8, 9, 3), np.float32), "of float32"),
        (torch.zeros(3, 8, 9), "Tensor of torch.float32"),
        (5, "images.1. is a int: give a path, a PIL image"),
    ],
)
def test_a_file_that_is_not_an_image_is_named_in_the_error(loaded: LoadedRun, image: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loaded([Image.new("RGB", (9, 9)), image])


def test_a_loaded_runs_attributes_describe_it(loaded: LoadedRun, run: Path, photos: list[Path]) -> None:
    assert loaded.class_names == CLASSES
    assert loaded.metrics == METRICS
    assert loaded.device == torch.device("cpu")
    assert loaded.config["model"]["_target_"].endswith("SEResNet")
    assert (loaded.folder, loaded.checkpoint) == (run, run / "checkpoints" / "best.ckpt")
    assert not any(module.training for module in loaded.network.modules())
    (images,) = loaded.batches(photos[:3])
    logits = loaded.network(loaded.preprocess(images))
    top = [CLASSES[k] for k in logits.argmax(1).tolist()]
    assert top == [prediction.label for prediction in loaded(photos[:3])]


def test_neither_the_folder_nor_argv_nor_a_notebooks_own_hydra_matter_and_nothing_is_left_behind(
    run: Path, loaded: LoadedRun, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "predict.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "model=x", "--multirun"])
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        inside = load_run(os.path.relpath(run / "checkpoints" / "best.ckpt"), "cpu")(photos[0])
        assert hydra.compose("predict").a == 1
    assert not GlobalHydra.instance().is_initialized()
    assert inside == loaded(photos[0])
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert list(tmp_path.iterdir()) == [tmp_path / "predict.yaml"]


def test_a_missing_device_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match=r'device=cuda:99: .*\ndevice="cpu" always works'):
        load_run(run, device="cuda:99")


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("model", {"_target_": "os.system"}, "model._target_=os.system"),
        ("data", {"background": "${oc.env:HOME}"}, "no yaml of conf/ reads"),
        ("model", {"depths": 3}, "^model: .*depths"),
        ("data", {"batch_size": "many"}, "data.batch_size"),
    ],
)
def test_a_config_that_evaluate_refuses_is_refused(
    run: Path, tmp_path: Path, section: str, values: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        load_run(changed(run, tmp_path, section, values))
    assert len(str(error.value).splitlines()) <= 8


def test_a_folder_without_a_run_or_with_another_networks_weights_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run folder"):
        load_run(tmp_path)
    other = changed(run, tmp_path, "model", {"width": 8})
    with pytest.raises(ValueError, match="not weights of the network that the run's config builds: .*size mismatch"):
        load_run(other)


def guide(run: Path, other: Path) -> str:
    """The code of the guide, for these two runs."""
    snippets = (PROJECT / "docs" / "python.md").read_text("utf-8").split("```python\n")[1:]
    code = "".join(snippet.partition("```")[0] for snippet in snippets)
    for said, path in (("<run folder>", run), ("<other run folder>", other), ("photo.jpg", "1.jpg")):
        assert said in code
        code = code.replace(said, str(path))
    return code


def test_the_guides_code_runs(
    run: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, few_resamples: None
) -> None:
    monkeypatch.chdir(photos[0].parent)
    names: dict[str, Any] = {}
    exec(guide(run, run), names)
    assert names["prediction"] == names["run"]("1.jpg", calibrated=True)
    assert names["confusion"].to_numpy().sum() == 20


@pytest.mark.slow
def test_the_guides_code_runs_as_a_program_outside_of_the_repository(run: Path, photos: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", guide(run, run)],
        cwd=photos[0].parent,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for column in ("majority", "p_value", "other_predicted"):
        assert column in done.stdout
