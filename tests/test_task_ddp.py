"""What two ranks must agree on: BatchNorm's statistics that are evaluated, and a step that is left out or stops."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor
from two_ranks import on_two_ranks, two_devices

from fovea.callbacks.ema import EMA
from fovea.callbacks.finite_loss import finite_loss
from fovea.callbacks.swa import SWA
from fovea.data.loading.dataset import Batch
from fovea.models.freeze import freeze
from fovea.optim.parameter_groups import no_decay_on_norms_and_biases

TRAIN, VAL = 5, 3


def shared_out(batches: list[Batch], rank: int) -> list[Batch]:
    """Every second image of each; of three images two and one."""
    return [Batch._make([*(part[rank::2] for part in one[:3]), one.unreadable]) for one in batches]


def val_batches() -> list[Batch]:
    """The last one is rank 0's alone."""
    return [*make_batches(VAL - 1, size=3, seed=50), *make_batches(1, size=1, seed=60)]


def data_of(rank: int, bad: int | None = None) -> Data:
    """Of rank 1 alone, a batch is bad."""
    train = shared_out(make_batches(TRAIN, size=8), rank)
    if bad is not None and rank == 1:
        train[bad] = train[bad]._replace(images=train[bad].images * torch.nan)
    return Data(train, shared_out(val_batches(), rank)[: VAL - rank])


class Keep(Callback):
    """The figures of the last validation, and a checkpoint of that moment."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.figures: dict[str, float] = {}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        known = trainer.callback_metrics.items()
        self.figures = {name: value.item() for name, value in known if name.startswith("val/")}
        trainer.save_checkpoint(self.file, weights_only=False)


def evaluated(rank: int, folder: Path) -> dict[str, float]:
    """While gradients are accumulated DDP leaves the ranks' statistics alone, before a validation too."""
    keep = Keep(folder / "two.ckpt")
    middle: dict[str, Any] = {"accumulate_grad_batches": 3, "val_check_interval": 2}
    trainer = make_trainer(EMA(decay=0.7), keep, max_epochs=1, **middle, **two_devices())
    trainer.fit(make_task(), datamodule=data_of(rank))
    return keep.figures


class Weights(Callback):
    """After each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.states.append(copy.deepcopy(pl_module.network.state_dict()))


def skipped(rank: int, folder: Path) -> list[dict[str, Tensor]]:
    weights = Weights()
    trainer = make_trainer(finite_loss("skip", str(folder)), weights, max_epochs=1, **two_devices())
    trainer.fit(make_task(), datamodule=data_of(rank, bad=1))
    return weights.states


def stopped(rank: int, folder: Path) -> str:
    trainer = make_trainer(finite_loss("stop", str(folder)), max_epochs=1, **two_devices())
    with pytest.raises(ValueError, match="not finite|the loss is") as caught:
        trainer.fit(make_task(), datamodule=data_of(rank, bad=1))
    return str(caught.value)


def frozen(rank: int, folder: Path) -> dict[str, Tensor]:
    """DDP would wait for the gradient of a parameter that is frozen after it has wrapped the network."""
    task = make_task(parameter_groups=no_decay_on_norms_and_biases)
    freeze(task.network, ["backbone"])
    make_trainer(max_epochs=1, **two_devices()).fit(task, datamodule=data_of(rank))
    return copy.deepcopy(task.network.state_dict())


def averaged(rank: int, folder: Path) -> dict[str, Any]:
    """The equal average of three steps, with the mean over them of the trained weights, and each rank's images."""
    swa, weights, data = SWA(2, 1), Weights(), data_of(rank)
    make_trainer(swa, weights, max_epochs=1, **two_devices()).fit(make_task(), datamodule=data)
    assert swa.average is not None
    return {"average": swa.average.state_dict(), "trained": weights.states, "images": [*data.training_images()]}


WORK = (evaluated, skipped, stopped, frozen, averaged)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")

    def work(rank: int) -> dict[str, Any]:
        return {function.__name__: function(rank, folder) for function in WORK}

    return folder, on_two_ranks(work, folder)


def test_figures_are_those_of_the_weights_that_are_saved(seen: Any) -> None:
    folder, ranks = seen
    assert ranks[0]["evaluated"] == ranks[1]["evaluated"]
    trainer = make_trainer(EMA())
    trainer.validate(
        make_task(), datamodule=Data([], val_batches()), ckpt_path=folder / "two.ckpt", weights_only=True, verbose=False
    )
    alone = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert set(alone) == {"val/loss", "val/accuracy", "val/ema_loss", "val/ema_accuracy"}
    assert ranks[0]["evaluated"] == pytest.approx(alone, abs=1e-6)


def test_all_skip_a_step_that_is_bad_on_one(seen: Any) -> None:
    _, ranks = seen
    first, second = (rank["skipped"] for rank in ranks)
    parameters = [key for key in first[0] if "running" not in key and "tracked" not in key]
    for step in range(TRAIN):
        assert all(torch.equal(first[step][key], second[step][key]) for key in parameters), step
    for states in (first, second):
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert not torch.equal(states[1]["0.weight"], states[2]["0.weight"])
        assert all(tensor.isfinite().all() for tensor in states[-1].values())


def test_all_stop_with_the_same_words(seen: Any) -> None:
    _, ranks = seen
    assert "the loss is nan at step 2 " in ranks[0]["stopped"]
    assert ranks[0]["stopped"] == ranks[1]["stopped"]


def test_what_is_frozen_stays_as_it_was_and_the_rest_is_trained_alike(seen: Any) -> None:
    _, ranks = seen
    before, (first, second) = make_task().network.state_dict(), (rank["frozen"] for rank in ranks)
    for name, tensor in before.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], tensor) == (not name.startswith("5.")), name


def test_ranks_have_the_same_average_with_the_statistics_of_the_batches_of_both(seen: Any) -> None:
    _, ranks = seen
    first, second = (rank["averaged"] for rank in ranks)
    for name, tensor in first["average"].items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, second["average"][name]), name
    net = make_task().network.eval()
    for name, parameter in net.named_parameters():
        parameter.data = torch.stack([state[name] for state in first["trained"][2:]]).mean(0)
        torch.testing.assert_close(first["average"][name], parameter.data)
    seen_by_norm = [net[0](images) for images in (*first["images"], *second["images"])]
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen_by_norm]).mean(0)
    var = torch.stack([x.var((0, 2, 3)) for x in seen_by_norm]).mean(0)
    torch.testing.assert_close(first["average"]["1.running_mean"], mean)
    torch.testing.assert_close(first["average"]["1.running_var"], var)
