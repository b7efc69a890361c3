"""After a batch with a NaN loss no checkpoint has bad weights, and a skipped step changes nothing."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor, nn
from torch.optim import LBFGS, Adam

from fovea.callbacks import finite_loss as module
from fovea.callbacks.ema import EMA
from fovea.callbacks.finite_loss import all_finite, finite_loss
from fovea.data.loading.dataset import Batch
from fovea.training.save_best import SaveBest
from fovea.training.save_last import SaveLast


def with_bad(batches: list[Batch], *places: int, value: float = torch.nan) -> list[Batch]:
    """Return the batches with images at these indices that give a loss that is not finite."""
    return [one._replace(images=one.images * value) if i in places else one for i, one in enumerate(batches)]


class Saved(Callback):
    """Asserts that the weights in last.ckpt and best.ckpt are finite, before each batch and after an exception."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: set[int] = set()

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        for file in self.folder.glob("*.ckpt"):
            state = torch.load(file, weights_only=True)
            assert all(t.isfinite().all() for t in state["state_dict"].values())
            assert all(t.isfinite().all() for t in state.get("state_dict_ema", {}).values())
            self.steps.add(state["global_step"])

    def on_exception(self, trainer: Any, *_: Any) -> None:
        self.on_train_batch_start(trainer)


def test_the_error_names_step_epoch_learning_rate_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    saved, batches = Saved(tmp_path), make_batches(30)
    savers = [SaveLast(str(tmp_path), every_n_steps=4), SaveBest(str(tmp_path), "val/accuracy", "max")]
    trainer = make_trainer(
        finite_loss("stop", str(tmp_path)), saved, EMA(), *savers, max_epochs=1, enable_checkpointing=True
    )
    with pytest.raises(ValueError, match="the loss is nan at step 14 ") as caught:
        trainer.fit(make_task(), datamodule=Data(with_bad(batches, 13), batches[:2]))
    message = str(caught.value)
    assert "(epoch 1), learning rate 0.1\n" in message
    assert str(tmp_path / "last.ckpt") in message
    assert "on_nan=skip" in message
    assert max(saved.steps) == 12
    assert trainer.global_step <= 20


def test_the_learning_rate_is_that_of_the_step(tmp_path: Path) -> None:
    halving = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)  # noqa: E731
    task = make_task(schedule=halving, interval="step")
    with pytest.raises(ValueError, match="step 3 .*learning rate 0.025\nlast good checkpoint: none yet"):
        make_trainer(finite_loss("stop", str(tmp_path)), max_epochs=1).fit(
            task, datamodule=Data(with_bad(make_batches(6), 2))
        )


@pytest.mark.parametrize("bad", [3, 4])
def test_no_epoch_ends_and_no_validation_begins_on_a_bad_loss(tmp_path: Path, bad: int) -> None:
    """The validation is between steps 4 and 5, and the epoch ends after step 5."""
    saved, batches = Saved(tmp_path), make_batches(5)
    savers = [SaveLast(str(tmp_path)), SaveBest(str(tmp_path), "val/accuracy", "max")]
    options: dict[str, Any] = {"max_epochs": 3, "val_check_interval": 4, "enable_checkpointing": True}
    trainer = make_trainer(finite_loss("stop", str(tmp_path)), saved, *savers, **options)
    with pytest.raises(ValueError, match=f"step {bad + 1} "):
        trainer.fit(make_task(), datamodule=Data(with_bad(batches, bad), batches[:2]))
    assert trainer.global_step == bad + 1
    assert max(saved.steps, default=0) <= bad


def test_weights_that_are_not_finite_are_not_saved_though_the_loss_was(tmp_path: Path) -> None:
    class Explode(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            if trainer.global_step == 3:
                pl_module.network[0].weight.grad[0] = torch.inf

    saved = Saved(tmp_path)
    callbacks = [finite_loss("stop", str(tmp_path)), saved, Explode(), SaveLast(str(tmp_path), every_n_steps=1)]
    with pytest.raises(ValueError, match="the weights are not finite"):
        make_trainer(*callbacks, max_epochs=1, enable_checkpointing=True).fit(
            make_task(), datamodule=Data(make_batches(6))
        )
    assert max(saved.steps) == 3


def test_all_finite_sees_nan_and_infinity_in_parameters_and_buffers() -> None:
    network = nn.BatchNorm1d(2)
    assert all_finite(network)
    for tensor in (network.weight.data, network.running_var):
        assert tensor is not None
        for value in (torch.nan, torch.inf, -torch.inf):
            tensor[1] = value
            assert not all_finite(network)
        tensor[1] = 1
    assert all_finite(network)


def fitted(tmp_path: Path, batches: list[Batch], *more: Callback, on_nan: Any = "skip", **options: Any) -> Any:
    """Train one epoch; return the task, the average's state and the trainer."""
    ema = EMA(decay=0.5)
    task = make_task(optimizer=lambda p: Adam(p, lr=0.01))
    trainer = make_trainer(finite_loss(on_nan, str(tmp_path)), ema, *more, max_epochs=1, **options)
    trainer.fit(task, datamodule=Data(batches))
    assert ema.average is not None
    return task, ema.average.state_dict(), trainer


class Traces(Callback):
    """Records weights, BatchNorm buffers, optimizer state and average after each step."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        optimizer = trainer.optimizers[0].state_dict()["state"]
        average = trainer.callbacks[1].average.state_dict()
        self.states.append(copy.deepcopy((pl_module.network.state_dict(), optimizer, average)))


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    items = first.items() if isinstance(first, dict) else enumerate(first)
    return all(same(value, second[key]) for key, value in items)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_skipped_step_changes_nothing(tmp_path: Path, value: float) -> None:
    traces = Traces()
    task, _, trainer = fitted(tmp_path, with_bad(make_batches(4), 2, value=value), traces)
    assert same(traces.states[1], traces.states[2])
    assert not same(traces.states[2], traces.states[3])
    assert trainer.global_step == 4
    assert all_finite(task.network)


def test_with_accumulation_the_whole_step_is_skipped_for_any_bad_batch(tmp_path: Path) -> None:
    for bad in (3, 4, 5):
        traces = Traces()
        fitted(tmp_path, with_bad(make_batches(9), bad), traces, accumulate_grad_batches=3)
        assert same(traces.states[2], traces.states[5]), bad
        assert not same(traces.states[5], traces.states[8])


def test_the_training_figures_do_not_include_the_skipped_batch(tmp_path: Path) -> None:
    _, _, trainer = fitted(tmp_path, with_bad(make_batches(4), 2))
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_the_first_skipped_step_and_their_count_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fitted(tmp_path, with_bad(make_batches(6), 2, 4))
    messages = [record.message for record in caplog.records if record.name == module.__name__]
    assert len(messages) == 2
    assert "the loss is nan at step 3, learning rate 0.01" in messages[0]
    assert "epoch 1: 2 steps were skipped" in messages[1]


def test_too_many_skipped_steps_in_a_row_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IN_A_ROW", 3)
    fitted(tmp_path, with_bad(make_batches(7), 0, 1, 3, 4, 6))
    with pytest.raises(ValueError, match="3 steps in a row"):
        fitted(tmp_path, with_bad(make_batches(7), 0, 1, 3, 4, 5))


def test_lbfgs_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(finite_loss("skip", str(tmp_path)), max_epochs=1)
    with pytest.raises(ValueError, match="LBFGS"):
        trainer.fit(make_task(optimizer=LBFGS), datamodule=Data(make_batches(2)))


def test_a_run_resumed_after_skipped_steps_equals_one_that_was_not_stopped(tmp_path: Path) -> None:
    batches = with_bad(make_batches(6), 1, 4)
    whole, average, _ = fitted(tmp_path, batches)

    class Stop(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                raise KeyboardInterrupt

    saver = SaveLast(str(tmp_path), every_n_steps=2)
    with pytest.raises(SystemExit):
        fitted(tmp_path, batches, Stop(), saver, enable_checkpointing=True)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert 2 <= state["global_step"] <= 3
    ema, task = EMA(decay=0.5), make_task(optimizer=lambda p: Adam(p, lr=0.01))
    make_trainer(finite_loss("skip", str(tmp_path)), ema, max_epochs=1).fit(
        task, datamodule=Data(batches), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert same(whole.network.state_dict(), task.network.state_dict())
    assert ema.average is not None
    assert same(average, ema.average.state_dict())


def test_the_run_stops_after_an_epoch_without_a_step_that_was_not_skipped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all steps of the epoch were skipped, at step 4"):
        fitted(tmp_path, with_bad(make_batches(4), 0, 1, 2, 3))


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_a_validation_loss_that_is_not_finite_stops_the_run_before_it_chooses_the_best(
    tmp_path: Path, on_nan: Any
) -> None:
    best = SaveBest(str(tmp_path), "val/loss", "min")
    trainer = make_trainer(finite_loss(on_nan, str(tmp_path)), best, max_epochs=1, enable_checkpointing=True)
    with pytest.raises(ValueError, match="the validation loss is nan after training at step 4 "):
        trainer.fit(make_task(), datamodule=Data(make_batches(4), with_bad(make_batches(2), 1)))
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.slow
def test_the_command_line_prints_the_error_in_a_few_lines(
    invoke: Callable[..., Any], runs: Callable[[], list[Path]], folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_epochs=3")
    code, _, err = invoke("train", *data, "optimizer.lr=1e30")
    assert code == 2
    assert "optimizer.lr" in err
    assert "learning rate 1e+30" in err
    assert len(err.strip().splitlines()) < 10
    code, _, err = invoke("train", *data, "on_nan=never")
    assert code == 2
    assert "on_nan=never" in err
