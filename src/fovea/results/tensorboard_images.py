"""Shows in TensorBoard what a training's first batch looked like, and which classes its test confused."""

from typing import TYPE_CHECKING, Any

import numpy as np
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback

from fovea.data.loading.datamodule import ImageDataModule
from fovea.report.pictures import confusion_picture, image_grid, label_errors_picture
from fovea.report.prediction_file import Predictions
from fovea.report.statistics.confusion import confusion_matrix
from fovea.report.statistics.per_class import class_counts
from fovea.results import first_batch
from fovea.task import ClassificationTask
from fovea.training.loop_state import last_logged_step

if TYPE_CHECKING:  # runs without TensorBoard do not spend time on its import
    from fovea.loggers.tensorboard import TensorBoard


def log_first_batch(trainer: Trainer, data: ImageDataModule) -> None:
    """Let the training log its first batch when it starts; not if it is resumed, because then it has been logged.

    Nothing happens without a TensorBoard logger, or on other ranks than the first.
    """
    if _boards(trainer):
        callback = LambdaCallback(on_train_start=lambda trainer, task: _log_first_batch(trainer, task, data))
        trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]


def _log_first_batch(trainer: Trainer, task: ClassificationTask, data: ImageDataModule) -> None:
    boards = [board for board in _boards(trainer) if not board.continues]
    if not boards:
        return
    images, labels = first_batch.entered(task, data)
    if labels:
        picture = image_grid.draw(images, labels)
        for board in boards:
            board.log_picture("train/first_batch", picture, 0)


def log_confusion(trainer: Trainer, tested: Predictions) -> None:
    """Log which classes are confused, or which labels are wrong, at the step of the test's figures."""
    boards = _boards(trainer)
    if not boards or not len(tested):
        return
    name = "test/confusion_matrix" if tested.task == "multiclass" else "test/wrong_labels"
    picture = draw_confusion(tested)
    for board in boards:
        board.log_picture(name, picture, last_logged_step(trainer) + 1)
        board.finalize("success")


def draw_confusion(tested: Predictions) -> np.ndarray:
    """Return the picture of the confusion matrix, or with several labels an image that of the wrong labels."""
    if tested.task == "multilabel":
        return label_errors_picture.draw(class_counts(tested), tested.class_names)
    group = -(-len(tested.class_names) // confusion_picture.MOST_CELLS)
    return confusion_picture.draw(confusion_matrix(tested, group).numpy(), tested.class_names, group)


def _boards(trainer: Trainer) -> list["TensorBoard"]:
    """Return the TensorBoard loggers on rank 0."""
    loggers: list[Any] = trainer.loggers if trainer.is_global_zero else []
    return [logger for logger in loggers if hasattr(logger, "log_picture")]
