import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from fovea.training.save_last import SaveLast


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
        return torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=2)  # type: ignore[arg-type]  # rows are items

    val_dataloader = train_dataloader


class Batches:
    """A data loader that fails at batch `fails_at`, as if a file were missing."""

    def __init__(self, count: int, fails_at: int) -> None:
        self.count, self.fails_at = count, fails_at

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.fails_at):
            yield torch.ones(2, 1)
        if self.fails_at < self.count:
            raise OSError("no such file")


class Steps(Callback):
    """Records the step in last.ckpt after each batch, and raises a signal in a step or a validation."""

    def __init__(self, folder: Path, number: int = 0, step: int | None = None, validating: bool = False) -> None:
        self.file, self.number, self.step, self.validating = folder / "last.ckpt", number, step, validating
        self.seen: list[int | None] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.seen.append(saved(self.file.parent) if self.file.exists() else None)
        if trainer.global_step == self.step and not self.validating:
            signal.raise_signal(self.number)

    def on_validation_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and self.validating:
            signal.raise_signal(self.number)


def fit(folder: Path, steps: Steps, every_n_steps: int | None = None, ckpt_path: Any = None, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = quiet | {"accelerator": "cpu", "num_sanity_val_steps": 0} | options
    saver = SaveLast(str(folder), every_n_steps)
    trainer = Trainer(callbacks=[steps, saver], **options)
    trainer.fit(Model(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def saved(folder: Path) -> int:
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"]


def test_last_is_written_at_the_start_and_after_every_epoch(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    fit(tmp_path, steps, max_epochs=2)
    assert steps.seen == [0] * 4 + [4] * 4
    assert saved(tmp_path) == 8


def test_last_is_written_every_n_steps_and_the_one_before_is_kept(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    fit(tmp_path, steps, every_n_steps=3, max_epochs=2)
    assert steps.seen == [0, 0, 0, 3, 4, 4, 6, 6]
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True)["global_step"] == 6


def test_last_is_written_every_n_minutes_but_never_within_an_accumulated_step(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    trainer = Trainer(
        callbacks=[steps, SaveLast(str(tmp_path), every_n_minutes=1e-9)],
        accumulate_grad_batches=2,
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Model())
    assert steps.seen == [0, 0, 1, 1]


def test_last_is_written_when_max_steps_ends_the_run_within_an_epoch_and_resumes_within_it(tmp_path: Path) -> None:
    fit(tmp_path, Steps(tmp_path), max_steps=3)
    assert saved(tmp_path) == 3
    steps = Steps(tmp_path)
    trainer = fit(tmp_path, steps, max_steps=6, ckpt_path=tmp_path / "last.ckpt")
    assert steps.seen == [3, 4, 4]
    assert trainer.current_epoch == 2  # Lightning counts the incomplete epoch too


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_after_a_signal_the_step_is_finished_and_saved_and_the_exit_code_has_the_signals_number(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, Steps(tmp_path, number, step=3), max_epochs=2)
    assert (saved(tmp_path), stop.value.code) == (3, 128 + number)
    assert "with a checkpoint" in caplog.text
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("step", "validating"), [(4, False), (4, True), (2, True)])
def test_after_a_signal_before_or_in_a_validation_a_resumed_run_begins_with_that_validation(
    step: int, validating: bool, tmp_path: Path
) -> None:
    interval = 2 if step == 2 else None
    with pytest.raises(SystemExit):
        fit(tmp_path, Steps(tmp_path, signal.SIGTERM, step, validating), max_epochs=2, val_check_interval=interval)
    assert saved(tmp_path) == step

    validated = []

    class Watch(Steps):
        def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
            validated.append((trainer.global_step, args[3]))

    steps = Watch(tmp_path)
    fit(tmp_path, steps, max_epochs=2, val_check_interval=interval, ckpt_path=tmp_path / "last.ckpt")
    assert validated[:4] == [(step, batch) for batch in range(4)]
    assert len(steps.seen) == 8 - step


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    class Twice(Steps):
        def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 2:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                pytest.fail("not reached")

    with pytest.raises(SystemExit) as stop:
        fit(tmp_path, Twice(tmp_path), max_epochs=2)
    assert (saved(tmp_path), stop.value.code) == (0, 130)


def test_an_error_between_batches_or_in_a_validation_is_saved_and_one_within_a_step_is_not(
    tmp_path: Path,
) -> None:
    class Failing(Model):
        fails_in = ""

        def train_dataloader(self) -> Any:
            return Batches(4, fails_at=2 if self.fails_in == "data" else 4)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            if batch_idx == 2 and self.fails_in == "step":
                raise OSError("a step")
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Tensor, batch_idx: int) -> None:
            if self.fails_in == "validation":
                raise OSError("a validation")

    for place, step in {"data": 2, "step": 0, "validation": 4}.items():
        model, folder = Failing(), tmp_path / place
        model.fails_in = place
        trainer = Trainer(callbacks=[SaveLast(str(folder))], max_epochs=1, num_sanity_val_steps=0, logger=False,
                          enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")  # fmt: skip
        with pytest.raises(OSError, match="a step|no such file|a validation"):
            trainer.fit(model)
        assert saved(folder) == step, place


def test_nothing_is_written_in_a_trial_run(tmp_path: Path) -> None:
    fit(tmp_path, Steps(tmp_path), fast_dev_run=True)
    assert not list(tmp_path.iterdir())


def test_a_signal_in_a_validation_is_saved_if_the_last_step_of_the_epoch_has_fewer_batches(tmp_path: Path) -> None:
    steps = Steps(tmp_path, signal.SIGTERM, step=2, validating=True)
    with pytest.raises(SystemExit):
        fit(tmp_path, steps, max_epochs=2, accumulate_grad_batches=3)
    assert (saved(tmp_path), len(steps.seen)) == (2, 4)


def test_a_run_that_starts_from_another_runs_checkpoint_writes_its_own_at_once(tmp_path: Path) -> None:
    fit(tmp_path / "first", Steps(tmp_path / "first"), max_epochs=1)
    steps = Steps(tmp_path / "second")
    fit(tmp_path / "second", steps, max_epochs=2, ckpt_path=tmp_path / "first" / "last.ckpt")
    assert steps.seen == [4] * 4
