"""The equal average is that of a plain loop, with torch's BatchNorm update, and a resumed run has the same one."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from fovea.callbacks.ema import EMA
from fovea.callbacks.swa import SWA, averaged_weights
from fovea.data.loading.dataset import Batch
from fovea.models.freeze import freeze
from fovea.training.save_last import SaveLast

BATCHES = 4
TRAIN, VAL = make_batches(BATCHES), make_batches(2, seed=9)


@pytest.mark.parametrize(("after", "every"), [(0, 1), (5, 4), (8, 4), (9, 4), (7, 3)])
def test_the_number_of_averaged_weights_is_a_count_of_steps(after: int, every: int) -> None:
    for step in range(30):
        counted = len([s for s in range(1, step + 1) if s > after and s % every == 0])
        assert averaged_weights(step, after, every) == counted


class Networks(Callback):
    """Records the network after each optimizer step."""

    def __init__(self) -> None:
        self.after: dict[int, nn.Module] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.after[trainer.global_step] = copy.deepcopy(pl_module.network)


class StopAt(Callback):
    """Stops the training after a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


class SaveLastCopied(SaveLast):
    """Shares no tensors between a checkpoint that is not written yet and the average."""

    def _dump(self, *arguments: Any) -> dict[str, Any]:
        return copy.deepcopy(super()._dump(*arguments))


def by_torch(networks: dict[int, nn.Module], steps: list[int], train: list[Batch]) -> nn.Module:
    """Return the average of these steps, as torch's own classes make it; without dropout."""
    average = AveragedModel(networks[steps[0]])
    for step in steps:
        average.update_parameters(networks[step])
    without_dropout = average.module
    for module in without_dropout.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    update_bn([batch.images for batch in train], without_dropout)
    return without_dropout.eval()


def fit(*callbacks: Callback, epochs: int = 5, task: Any = None, **options: Any) -> Any:
    limits = {name: options.pop(name) for name in ("ckpt_path",) if name in options}
    trainer = make_trainer(*callbacks, max_epochs=epochs, **options)
    trainer.fit(task or make_task(), datamodule=Data(TRAIN, VAL), weights_only=True, **limits)
    return trainer


@pytest.mark.parametrize(
    ("after", "every", "accumulate", "steps"),
    [
        (12, None, 1, [16, 20]),  # the ends of epochs
        (12, 3, 1, [15, 18]),
        (0, 1, 3, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),  # two steps an epoch
        (4, None, 3, [6, 8, 10]),
        (19, None, 1, [20]),
    ],
)
def test_the_average_is_torchs_with_its_batch_norm_update(
    after: int, every: int | None, accumulate: int, steps: list[int]
) -> None:
    swa, networks = SWA(after, every), Networks()
    trainer = fit(swa, networks, accumulate_grad_batches=accumulate)
    expected = by_torch(networks.after, steps, TRAIN)
    assert swa.average is not None
    for key, tensor in expected.state_dict().items():
        torch.testing.assert_close(swa.average.state_dict()[key], tensor, rtol=1e-5, atol=1e-6)
    right = sum(int((expected(batch.images).argmax(1) == batch.targets).sum()) for batch in VAL)
    count = sum(len(batch.targets) for batch in VAL)
    assert trainer.callback_metrics["val/swa_accuracy"].item() == pytest.approx(right / count)
    assert trainer.callback_metrics["val/swa_loss"] != trainer.callback_metrics["val/loss"]


@pytest.mark.parametrize(
    ("options", "stop", "steps"),
    [
        ({"check_val_every_n_epoch": 3}, None, [15, 18]),  # validated after step 12
        ({"limit_val_batches": 0}, None, [15, 18]),
        ({"limit_val_batches": 0, "max_steps": 18}, None, [15, 18]),  # within an epoch
        ({"limit_val_batches": 0}, 17, [15]),  # within an epoch too
        ({"limit_val_batches": 0}, 16, [15]),
    ],
)
def test_the_last_checkpoint_has_recomputed_statistics_if_no_validation_followed_the_last_weights(
    tmp_path: Path, options: dict[str, Any], stop: int | None, steps: list[int]
) -> None:
    networks = Networks()
    fit(SWA(12, 3), networks, StopAt(stop), SaveLastCopied(str(tmp_path)), enable_checkpointing=True, **options)
    average = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict_swa"]
    for key, tensor in by_torch(networks.after, steps, TRAIN).state_dict().items():
        torch.testing.assert_close(average[key], tensor, rtol=1e-5, atol=1e-6)


def test_until_the_first_weights_the_average_is_the_trained_network(tmp_path: Path) -> None:
    trainer = fit(SWA(12), epochs=3)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    state = torch.load(tmp_path / "one.ckpt", weights_only=True)
    for key, tensor in state["state_dict_swa"].items():
        assert torch.equal(tensor, state["state_dict"][f"network.{key}"])
    for name in ("loss", "accuracy"):
        assert trainer.callback_metrics[f"val/{name}"] == trainer.callback_metrics[f"val/swa_{name}"]


@pytest.mark.parametrize("stop", [1, 3, 4])  # before, at and after the first averaged weights
def test_a_resumed_run_has_the_average_of_an_uninterrupted_one_bit_for_bit(tmp_path: Path, stop: int) -> None:
    whole, again = SWA(8), SWA(8)
    at_once = fit(whole, EMA(0.9))
    fit(SWA(8), EMA(0.9), epochs=stop).save_checkpoint(tmp_path / "one.ckpt")
    second = fit(again, EMA(0.9), ckpt_path=tmp_path / "one.ckpt")
    assert whole.average is not None
    assert again.average is not None
    for key, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, again.average.state_dict()[key]), key
    for name in ("val/swa_loss", "val/ema_loss", "val/loss"):
        assert at_once.callback_metrics[name] == second.callback_metrics[name]


def test_a_prolonged_run_starts_its_average_anew(tmp_path: Path) -> None:
    fit(SWA(8), epochs=3).save_checkpoint(tmp_path / "one.ckpt")
    swa, networks = SWA(16), Networks()
    fit(swa, networks, epochs=6, ckpt_path=tmp_path / "one.ckpt")
    assert swa.average is not None
    expected = by_torch(networks.after, [20, 24], TRAIN)
    torch.testing.assert_close(swa.average.state_dict()["0.weight"], expected.state_dict()["0.weight"])


@pytest.mark.parametrize("stops", [[20], [20, 24]])  # the second is in the prolonged part
def test_weights_of_before_a_run_was_prolonged_are_not_in_its_average(
    tmp_path: Path, stops: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint's average is of the steps 12, 16 and 20; the prolonged run averages those after step 12."""
    caplog.set_level("INFO")
    fit(SWA(8), epochs=5).save_checkpoint(tmp_path / "20.ckpt")
    assert "anew" not in caplog.text
    networks = Networks()
    for stop, end in zip(stops, [*stops[1:], 28], strict=True):
        swa = SWA(12)
        trainer = fit(swa, networks, epochs=end // 4, ckpt_path=tmp_path / f"{stop}.ckpt")
        trainer.save_checkpoint(tmp_path / f"{end}.ckpt")
    assert swa.average is not None
    expected = by_torch(networks.after, [24, 28], TRAIN)
    for key, tensor in swa.average.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[key], rtol=1e-5, atol=1e-6)
    assert caplog.text.count("the average starts anew at step 20: it is now of every 4 steps after step 20") == 1


def test_an_average_that_is_added_to_a_training_is_of_the_weights_after_the_checkpoint(tmp_path: Path) -> None:
    fit(epochs=3).save_checkpoint(tmp_path / "one.ckpt")
    swa, networks = SWA(4), Networks()
    fit(swa, networks, ckpt_path=tmp_path / "one.ckpt")
    assert swa.average is not None
    expected = by_torch(networks.after, [16, 20], TRAIN)
    torch.testing.assert_close(swa.average.state_dict()["0.weight"], expected.state_dict()["0.weight"])


def states_of(**callbacks: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    task = make_task()
    fit(*callbacks.values(), task=task)
    return task.state_dict(), {name: callback.average.state_dict() for name, callback in callbacks.items()}


def test_the_trained_network_and_an_exponential_average_are_the_same_beside_it() -> None:
    alone, _ = states_of()
    ema_alone, first = states_of(ema=EMA(0.9))
    both, second = states_of(ema=EMA(0.9), swa=SWA(8))
    for key, tensor in alone.items():
        assert torch.equal(tensor, both[key])
        assert torch.equal(tensor, ema_alone[key])
    for key, tensor in first["ema"].items():
        assert torch.equal(tensor, second["ema"][key])


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    net = network()
    freeze(net, ["1"])
    before, swa = copy.deepcopy(net[1].state_dict()), SWA(8)
    fit(swa, task=make_task(network=net))
    assert swa.average is not None
    for key, tensor in before.items():
        assert torch.equal(swa.average.state_dict()[f"1.{key}"], tensor)


def test_a_network_without_batch_norm_reads_no_images_for_it() -> None:
    class NoPass(Data):
        def training_images(self) -> Any:
            raise AssertionError

    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    trainer = make_trainer(SWA(8), max_epochs=4)
    trainer.fit(make_task(network=net), datamodule=NoPass(TRAIN, VAL))
    assert math.isfinite(trainer.callback_metrics["val/swa_loss"])


@pytest.mark.parametrize("options", [{"after_step": -1}, {"after_step": 0, "every_n_steps": 0}])
def test_an_invalid_start_or_interval_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="callbacks.swa"):
        SWA(**options)


def test_a_share_of_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="the run has no end: type a number of steps"):
        fit(SWA(None))
