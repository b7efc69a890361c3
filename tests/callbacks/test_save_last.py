import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from fovea.callbacks.save_last import SaveLast


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=2)

    val_dataloader = train_dataloader


class Steps(Callback):
    """The global step in last.ckpt after each batch, or None; and a Ctrl-C within a step."""

    def __init__(self, folder: Path, interrupt_at: int | None = None) -> None:
        self.file, self.interrupt_at = folder / "last.ckpt", interrupt_at
        self.seen: list[int | None] = []

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        step = torch.load(self.file, weights_only=True)["global_step"] if self.file.exists() else None
        self.seen.append(step)
        if trainer.global_step == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)


def fit(folder: Path, steps: Steps, every_n_steps: int | None = None, **options: Any) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    saver = SaveLast(str(folder), every_n_steps)
    Trainer(callbacks=[steps, saver], num_sanity_val_steps=0, **quiet | options).fit(Model())


def saved(folder: Path) -> int:
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"]


def test_it_is_written_after_every_epoch(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    fit(tmp_path, steps, max_epochs=2)
    assert steps.seen == [None] * 4 + [4] * 4
    assert saved(tmp_path) == 8


def test_it_is_written_every_so_many_steps(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    fit(tmp_path, steps, every_n_steps=3, max_epochs=2)
    assert steps.seen == [None, None, None, 3, 4, 4, 6, 6]


def test_it_is_written_where_max_steps_or_max_time_ends_the_run_within_an_epoch(tmp_path: Path) -> None:
    fit(tmp_path, Steps(tmp_path), max_steps=3)
    assert saved(tmp_path) == 3


def test_ctrl_c_finishes_the_step_and_keeps_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, Steps(tmp_path, interrupt_at=2), max_epochs=2)
    assert saved(tmp_path) == 3
    assert "with a checkpoint" in caplog.text
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_nothing_is_written_in_a_trial_run(tmp_path: Path) -> None:
    fit(tmp_path, Steps(tmp_path), fast_dev_run=True)
    assert not list(tmp_path.iterdir())
