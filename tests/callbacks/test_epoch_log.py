import logging
from pathlib import Path

import pytest
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer

from fovea.callbacks.epoch_log import EpochLog
from fovea.callbacks.throughput import Throughput
from fovea.training.save_best import SaveBest


class Seen(Callback):
    """Records the figures at the end of the training."""

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
    figures = "  ".join(f"{name} {seen.figures[name]:.4g}" for name in shown)
    assert lines[-1].startswith(f"epoch 2/2  {figures}  time ")


def test_an_epoch_without_a_validation_shows_no_figures_of_an_earlier_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fovea"):
        trainer = make_trainer(EpochLog(), max_epochs=3, check_val_every_n_epoch=2)
        trainer.fit(make_task(), datamodule=Data(make_batches(2), make_batches(1)))
    lines = [message for message in caplog.messages if message.startswith("epoch ")]
    assert ["val/loss" in line for line in lines] == [False, True, False]


def test_a_validation_within_an_epoch_has_a_line_and_each_new_best_one_is_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = SaveBest(str(tmp_path), "val/accuracy", "max")
    with caplog.at_level(logging.INFO, logger="fovea"):
        trainer = make_trainer(EpochLog(), saver, max_epochs=4, val_check_interval=2, enable_checkpointing=True)
        trainer.fit(make_task(), datamodule=Data(make_batches(3), make_batches(2, seed=9)))
    lines = [message for message in caplog.messages if message.startswith("epoch ")]
    counts = ["0.67/4", "1/4", "1.67/4", "2/4", "2.67/4", "3/4", "3.67/4", "4/4"]
    assert [line.split()[1] for line in lines] == counts
    validations = [dict(part.split() for part in line.split("  ") if " " in part) for line in lines[::2]]
    keys = [(float(figures["val/accuracy"]), -float(figures["val/loss"])) for figures in validations]
    best_so_far = [key == max(keys[: n + 1]) and key not in keys[:n] for n, key in enumerate(keys)]
    assert [line.endswith("  best") for line in lines] == [mark for best in best_so_far for mark in (best, False)]
    assert not all(best_so_far)


def test_the_terminal_gets_a_table_with_one_header(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fovea"):
        trainer = make_trainer(EpochLog(), max_epochs=-1, max_steps=7)
        trainer.fit(make_task(), datamodule=Data(make_batches(3), make_batches(1)))
    shown = [record.screen.plain for record in caplog.records if hasattr(record, "screen")]
    header = ["train", "val", "epoch", "step", "loss", "loss", "accuracy", "time"]
    assert shown[0].split()[: len(header)] == header
    assert [text.split()[-6:][:2] for text in shown] == [["1", "3/7"], ["2", "6/7"], ["3", "7/7"]]
    assert [len(text.splitlines()) for text in shown] == [3, 1, 1]
