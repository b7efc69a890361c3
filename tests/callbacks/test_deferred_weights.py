"""Class weights that begin at a step: which losses the batches get, beside torch's own, and after a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer
from torch.nn import functional as F

from fovea.callbacks.deferred_weights import DeferredWeights
from fovea.losses.bce import BinaryCrossEntropy
from fovea.losses.cross_entropy import CrossEntropy
from fovea.training.save_last import SaveLast

WEIGHT = [1.0, 4.0, 0.5]


class Seen(Callback):
    """Whether each training and validation batch had the class weights; by the logits of its own step."""

    def __init__(self, task: Any) -> None:
        self.weighted: dict[str, list[bool]] = {"train": [], "val": []}
        task.loss.register_forward_hook(lambda loss, inputs, measured: self.compare(task, inputs, measured))

    def compare(self, task: Any, inputs: Any, measured: Any) -> None:
        logits, labels = inputs
        plain, weighted = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels, torch.tensor(WEIGHT))
        assert not torch.isclose(plain, weighted)
        of_weights = torch.isclose(measured.value, weighted, rtol=1e-5).item()
        assert of_weights or torch.isclose(measured.value, plain, rtol=1e-5)
        self.weighted["train" if task.training else "val"].append(bool(of_weights))


def fit(from_step: int, *callbacks: Callback, checkpoint: Path | None = None, **options: Any) -> tuple[Any, Seen]:
    task = make_task(loss=CrossEntropy(WEIGHT))
    seen = Seen(task)
    trainer = make_trainer(DeferredWeights(from_step), *callbacks, **options)
    data = Data(make_batches(3), make_batches(1, seed=9))
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return trainer, seen


def test_training_batches_have_the_weights_from_the_step_on_and_validations_always() -> None:
    _, seen = fit(4, max_epochs=3)
    assert seen.weighted == {"train": [False] * 4 + [True] * 5, "val": [True] * 3}


def test_the_batches_of_a_step_have_the_same_weights() -> None:
    _, seen = fit(2, max_epochs=2, accumulate_grad_batches=3)
    assert seen.weighted["train"] == [False] * 6
    _, seen = fit(1, max_epochs=2, accumulate_grad_batches=3)
    assert seen.weighted["train"] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("stopped", [2, 5])
def test_a_resumed_run_goes_on_with_the_weights_of_its_steps(tmp_path: Path, stopped: int) -> None:
    _, before = fit(4, SaveLast(str(tmp_path)), max_epochs=3, max_steps=stopped, enable_checkpointing=True)
    _, after = fit(4, checkpoint=tmp_path / "last.ckpt", max_epochs=3)
    assert before.weighted["train"] + after.weighted["train"] == [False] * 4 + [True] * 5


def test_after_the_training_the_loss_has_its_weights_and_a_training_that_was_too_short_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer, _ = fit(3, max_epochs=1)
    assert trainer.model.loss.loss.weight.tolist() == WEIGHT
    assert "the training ended after 3 steps, before its loss had class weights" in caplog.text


def test_the_beginning_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fit(4, max_epochs=3)
    assert caplog.text.count("epoch 2: the loss has class weights from here on") == 1
    assert "ended after" not in caplog.text


def test_a_loss_without_class_weights_and_a_run_without_an_end_are_refused() -> None:
    for loss in (torch.nn.CrossEntropyLoss(), BinaryCrossEntropy(), torch.nn.MultiMarginLoss()):
        with pytest.raises(ValueError, match="no class weights to defer"):
            make_trainer(DeferredWeights(1), max_epochs=1).fit(make_task(loss=loss), datamodule=Data(make_batches(1)))
    with pytest.raises(ValueError, match="the run has no end"):
        DeferredWeights(None)
