import logging

import pytest
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer

from fovea.callbacks.epoch_log import EpochLog
from fovea.callbacks.throughput import Throughput


class Seen(Callback):
    """What is known when the training is over."""

    def on_fit_end(self, trainer: object, pl_module: object) -> None:
        self.figures = {name: value.item() for name, value in trainer.callback_metrics.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", [True, False])
def test_each_epoch_has_a_line_with_the_figures_of_all_callbacks_whatever_their_order(
    first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks, seen = [EpochLog(), Throughput()], Seen()
    with caplog.at_level(logging.INFO, logger="fovea"):
        trainer = make_trainer(*(callbacks if first else callbacks[::-1]), seen, max_epochs=2)
        trainer.fit(make_task(), datamodule=Data(make_batches(3), make_batches(2, seed=9)))
    lines = [message for message in caplog.messages if message.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    shown = ("train/loss", "train/images_per_second", "val/accuracy", "val/loss")
    assert lines[-1] == "epoch 2/2  " + "  ".join(f"{name} {seen.figures[name]:.4g}" for name in shown)


def test_an_epoch_without_a_validation_shows_no_earlier_ones_figures(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fovea"):
        trainer = make_trainer(EpochLog(), max_epochs=3, check_val_every_n_epoch=2)
        trainer.fit(make_task(), datamodule=Data(make_batches(2), make_batches(1)))
    assert ["val/loss" in message for message in caplog.messages] == [False, True, False]
