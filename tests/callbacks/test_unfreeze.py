"""Parts of a network are trained from their epoch on, also in a resumed run and on two ranks."""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR
from two_ranks import on_two_ranks, two_devices

from fovea.callbacks.unfreeze import Unfreeze, epochs_by_name
from fovea.models.freeze import freeze
from fovea.optim.parameter_groups import by_patterns, no_decay_on_norms_and_biases

BATCHES, VALIDATION = make_batches(4, size=6), make_batches(1, seed=9)
HEAD, NORM, CONVOLUTION = {"5.weight", "5.bias"}, {"1.weight", "1.bias"}, {"0.weight"}
STATISTICS = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
IN_TURN = [("1", 1), ("backbone", 2)]  # the head, then the norm, then all


class Changed(Callback):
    """The names of the tensors that each epoch has changed."""

    def __init__(self) -> None:
        self.before: dict[str, Tensor] = {}
        self.epochs: list[set[str]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.before = copy.deepcopy(pl_module.network.state_dict())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        after = pl_module.network.state_dict()
        self.epochs.append({name for name in after if not torch.equal(after[name], self.before[name])})


class Save(Callback):
    """A checkpoint after a number of steps."""

    def __init__(self, file: Path, step: int) -> None:
        self.file, self.step = file, step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.file)


def task(**options: Any) -> Any:
    options = {"parameter_groups": no_decay_on_norms_and_biases} | options
    return make_task(optimizer=functools.partial(AdamW, lr=0.01, weight_decay=0.1), **options)


def fit(model: Any, *callbacks: Any, ckpt_path: Path | None = None, **options: Any) -> dict[str, Tensor]:
    trainer = make_trainer(*callbacks, **{"max_epochs": 4} | options)
    trainer.fit(model, datamodule=Data(BATCHES, VALIDATION), ckpt_path=ckpt_path, weights_only=True)
    return model.network.state_dict()


def test_each_part_and_its_statistics_change_from_its_epoch_on(caplog: pytest.LogCaptureFixture) -> None:
    changed = Changed()
    with caplog.at_level("INFO"):
        fit(task(), Unfreeze(IN_TURN), changed)
    norm = HEAD | NORM | STATISTICS
    assert changed.epochs == [HEAD, norm, norm | CONVOLUTION, norm | CONVOLUTION]
    total = sum(parameter.numel() for parameter in network().parameters())
    head = sum(parameter.numel() for parameter in network()[5].parameters())
    assert f"from epoch 1 on, {head} of {total} parameters are trained" in caplog.text
    assert f"from epoch 3 on, {total} of {total} parameters are trained" in caplog.text


def test_once_all_are_trained_every_module_is_in_training_mode_again() -> None:
    model = task()
    fit(model, Unfreeze(IN_TURN))
    assert all(module.training for module in model.network.modules())
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_the_epochs_with_a_frozen_backbone_equal_those_of_freeze() -> None:
    frozen = network()
    freeze(frozen, "backbone")
    expected = fit(task(network=frozen))
    found = fit(task(), Unfreeze([("backbone", 4)]))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("step", [2, 4, 6, 9, 13])
def test_a_run_that_is_resumed_at_any_step_ends_with_the_same_weights(step: int, tmp_path: Path) -> None:
    whole = fit(task(), Unfreeze(IN_TURN), Save(tmp_path / "stopped.ckpt", step))
    resumed = fit(task(), Unfreeze(IN_TURN), ckpt_path=tmp_path / "stopped.ckpt")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


class Rates(Callback):
    """The learning rate of each parameter in each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        names = {parameter: name for name, parameter in pl_module.network.named_parameters()}
        groups = trainer.optimizers[0].param_groups
        rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
        if batch_idx == 0:
            self.epochs.append(rates)


@pytest.mark.parametrize("step", [4, 6, 9])
def test_a_run_that_is_prolonged_while_a_part_is_frozen_keeps_the_rates_of_all_parts(step: int, tmp_path: Path) -> None:
    """The groups are in another order without the frozen parameters, which have the highest rate."""
    factors = [("5", 0.1), ("1", 0.3), ("0", 1.0)]

    def model(length: int) -> Any:
        options: dict[str, Any] = {
            "lr": 0.01,
            "weight_decay": 0.1,
            "lr_multipliers": factors,
            "weight_decay_multipliers": [],
        }
        groups = functools.partial(by_patterns, **options)
        schedule = functools.partial(LinearLR, start_factor=1.0, end_factor=0.1, total_iters=length)
        return task(parameter_groups=groups, schedule=schedule, config={"scheduler": {"length": length}})

    whole, resumed = Rates(), Rates()
    fit(model(8), Unfreeze(IN_TURN), whole, max_epochs=8)
    fit(model(4), Unfreeze(IN_TURN), Save(tmp_path / "stopped.ckpt", step))
    fit(model(8), Unfreeze(IN_TURN), resumed, ckpt_path=tmp_path / "stopped.ckpt", max_epochs=8)
    later = [pytest.approx(rates) for rates in whole.epochs[-(-step // len(BATCHES)) :]]
    assert resumed.epochs[-len(later) :] == later


def test_what_freeze_has_frozen_stays_frozen() -> None:
    net = network()
    freeze(net, "1")
    changed = Changed()
    fit(task(network=net), Unfreeze([("0", 2)]), changed)
    assert changed.epochs == [HEAD, HEAD, HEAD | CONVOLUTION, HEAD | CONVOLUTION]


def of_rank(rank: int) -> list[set[str]]:
    changed = Changed()
    batches = [one._replace(images=one.images[rank::2], targets=one.targets[rank::2]) for one in BATCHES]
    trainer = make_trainer(Unfreeze(IN_TURN), changed, max_epochs=3, **two_devices())
    trainer.fit(task(), datamodule=Data(batches))
    return changed.epochs


def test_on_two_ranks_the_same_parts_are_trained(tmp_path: Path) -> None:
    norm = HEAD | NORM | STATISTICS
    assert on_two_ranks(of_rank, tmp_path) == [[HEAD, norm, norm | CONVOLUTION]] * 2


def test_a_part_that_is_never_trained_causes_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    fit(task(), Unfreeze([("backbone", 4)]))
    assert "the run has 4 epochs, so what is frozen for 4 is never trained" in caplog.text


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        ([("9", 1)], r"callbacks\.unfreeze\.frozen_epochs=9: the network has no such module"),
        ([("backbone", 0)], r"\[backbone, 0\]: give at least one epoch"),
        ([("backbone", 1), ("1", 2)], r"\[1, 2\]: no trainable parameter is left"),
        ([("*", 1)], "every parameter would be frozen"),
    ],
)
def test_names_that_freeze_nothing_or_everything_are_refused(frozen: list[tuple[str, int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        epochs_by_name(network(), frozen)


def test_a_parameter_that_two_modules_share_is_known_by_its_first_name() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3))
    net[1].weight = net[0].weight
    assert epochs_by_name(net, [("0", 1), ("1", 2)]) == {"0.weight": 1, "0.bias": 1, "1.bias": 2}
