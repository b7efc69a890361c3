"""TensorBoard shows a training's first batch and what its test confused, and neither changes the training."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SMALL
from PIL import Image
from run_files import predictions
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from fovea.loggers.metrics_csv import MetricsCsv
from fovea.loggers.tensorboard import TensorBoard
from fovea.report import prediction_file
from fovea.report.pictures import confusion_picture, image_grid
from fovea.report.prediction_file import Predictions
from fovea.report.statistics.confusion import confusion_matrix
from fovea.results import tensorboard_images
from fovea.runs.bit_differences import differences
from fovea.task import ClassificationTask

Invoke = Callable[..., Any]


@pytest.fixture(autouse=True)
def numbers_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads files of one second in the order of their names, which end in a number of the process's file.

    From 9 to 10 the order is wrong, and TensorBoard then drops earlier steps.
    """
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))


def pictures(run: Path) -> dict[str, dict[int, np.ndarray]]:
    """Return {name: {step: (H, W, 3)}} of what TensorBoard shows; a step that is there twice is an error."""
    events = EventAccumulator(str(run / "tensorboard"), {"images": 0})
    events.Reload()
    shown = {}
    for name in events.Tags()["images"]:
        images = [(e.step, np.array(Image.open(io.BytesIO(e.encoded_image_string)))) for e in events.Images(name)]
        shown[name] = dict(images)
        assert len(shown[name]) == len(images)
    return shown


def after_a_test(*loggers: Any, first: bool = True) -> Any:
    """Return what is needed of a trainer that made seven steps."""
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=7))
    return SimpleNamespace(loggers=list(loggers), is_global_zero=first, validating=False, fit_loop=loop, callbacks=[])


def board(folder: Path) -> TensorBoard:
    return TensorBoard(save_dir=folder, name="", version="tensorboard")


@pytest.mark.parametrize(
    ("tested", "name"),
    [
        (predictions("multiclass", 4, 50), "test/confusion_matrix"),
        (predictions("multilabel", 4, 50), "test/wrong_labels"),
    ],
)
def test_what_is_confused_is_logged_once_at_the_step_of_the_test(
    tested: Predictions, name: str, tmp_path: Path
) -> None:
    tensorboard_images.log_confusion(after_a_test(board(tmp_path)), tested)
    resumed = board(tmp_path)  # the run was killed in its test, which is repeated
    resumed.resume_after(6)
    tensorboard_images.log_confusion(after_a_test(resumed), tested)
    shown = pictures(tmp_path)
    assert {name: list(images) for name, images in shown.items()} == {name: [7]}
    np.testing.assert_array_equal(shown[name][7], tensorboard_images.draw_confusion(tested))


def test_of_thousands_of_classes_neighbours_share_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_picture, "MOST_CELLS", 4)
    tested = predictions("multiclass", 10, 90)
    expected = confusion_picture.draw(confusion_matrix(tested, 3).numpy(), tested.class_names, 3)
    np.testing.assert_array_equal(tensorboard_images.draw_confusion(tested), expected)


@pytest.mark.parametrize("first", [True, False])
def test_nothing_is_drawn_without_a_tensorboard_logger_or_on_another_rank(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tensorboard_images, "draw_confusion")
    trainer = after_a_test(MetricsCsv(str(tmp_path)) if first else board(tmp_path), first=first)
    tensorboard_images.log_confusion(trainer, predictions("multiclass", 4, 50))
    tensorboard_images.log_first_batch(trainer, None)
    assert trainer.callbacks == []


def test_without_a_tested_image_there_is_no_picture(tmp_path: Path) -> None:
    tensorboard_images.log_confusion(after_a_test(board(tmp_path)), predictions("multiclass", 4, 50).take([]))
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.slow
def test_a_run_has_both_pictures_from_its_first_step_and_its_test(trained: Path) -> None:
    shown = pictures(trained)
    assert {name: list(images) for name, images in shown.items()} == {
        "train/first_batch": [0],
        "test/confusion_matrix": [json.loads((trained / "results.json").read_text())["steps"]],
    }
    tested = prediction_file.read(trained, "predictions")
    assert tested is not None
    (picture,) = shown["test/confusion_matrix"].values()
    np.testing.assert_array_equal(picture, tensorboard_images.draw_confusion(tested))


@pytest.mark.slow
def test_the_first_batch_is_that_of_the_first_step_and_a_run_with_it_ends_with_the_same_bits(
    invoke: Invoke, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed: list[tuple[Tensor, Tensor]] = []
    mix = ClassificationTask.mix

    def record(self: ClassificationTask, *batch: Tensor) -> tuple[Tensor, Tensor]:
        mixed.append(mix(self, *batch))
        return mixed[-1]

    monkeypatch.setattr(ClassificationTask, "mix", record)
    words = ("data=folder", f"data.root={folder}", *SMALL, "mixing=mixup_cutmix", "data.batch_size=18")
    run, other = tmp_path / "run", tmp_path / "other"
    assert invoke("train", *words, f"hydra.run.dir={run}").code == 0
    _, shown_batch, first_step, _ = mixed  # the first one is the trial of the loss, the last one the second step
    assert torch.equal(shown_batch[0], first_step[0])
    assert torch.equal(shown_batch[1], first_step[1])
    mixed.clear()
    assert invoke("train", *words, "logger=csv", f"hydra.run.dir={other}").code == 0
    assert len(mixed) == 3
    assert differences(run, other) == []

    assert not (run / "report.html").exists()
    shown = pictures(run)
    assert {name: list(images) for name, images in shown.items()} == {
        "train/first_batch": [0],
        "test/confusion_matrix": [2],
    }
    mean, std = (torch.tensor(values) * 255 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    entered = shown_batch[0][:16] * std[:, None, None] + mean[:, None, None]
    for n, image in enumerate(entered):
        x, y = image_grid.place(n)
        scale = image_grid.SIDE // 16
        pixels = shown["train/first_batch"][0][y : y + image_grid.SIDE : scale, x : x + image_grid.SIDE : scale]
        np.testing.assert_array_equal(pixels, image.round().clamp(0, 255).byte().permute(1, 2, 0))

    assert invoke("train", f"resume={run}", "trainer.max_epochs=2").code == 0
    assert {name: list(images) for name, images in pictures(run).items()} == {
        "train/first_batch": [0],
        "test/confusion_matrix": [4],
    }
