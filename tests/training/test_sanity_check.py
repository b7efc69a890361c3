import copy
import logging
import re
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import TorchSyncBatchNorm
from tasks import make_trainer
from torch import Tensor, distributed, nn
from torchvision import models

from fovea.models.se_resnet import SEResNet
from fovea.training.sanity_check import (
    check_batch,
    check_epochs,
    check_network,
    check_sync_batchnorm,
    check_validation,
    warn_about_few_steps,
    warn_about_growth,
    warn_about_left_out_images,
)


class ToFloat(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float()


class Auxiliary(nn.Module):
    """Returns two outputs in training, like Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))

    def forward(self, images: Tensor) -> Any:
        logits = self.head(images)
        return (logits, logits) if self.training else logits


def small_network(channels: int = 3, outputs: int = 5) -> nn.Sequential:
    layers = [nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, outputs))


def check(network: nn.Module, image_size: int = 16) -> None:
    check_network(network, ToFloat(), image_size, 5, "model.name=custom", f"data.image_size={image_size}")


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (small_network(channels=1), 16, "batch of images with 3 channels and 16 x 16 pixels: RuntimeError: .*1, 3, 3"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 9), small_network(4)),
            8,
            "8 x 8 pixels: .*\nchange data.image_size=8 or the network",
        ),
        (small_network(outputs=1000), 16, r"returns \(B, 1000\), but must return logits \(B, 5\)"),
        (nn.Conv2d(3, 5, 3), 16, r"returns \(B, 5, 14, 14\)"),
        (nn.Sequential(small_network(), nn.Flatten(0)), 16, r"returns \[10\]"),
        (Auxiliary(), 16, "returns a tuple.*\n.*auxiliary heads"),
    ],
    ids=["channels", "too small", "outputs", "a map", "no batch", "auxiliary"],
)
def test_a_network_that_does_not_fit_the_data_is_refused_before_training(
    network: nn.Module, size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check(network, size)
    assert "model.name=custom" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_the_error_of_a_network_of_timm_says_its_usual_image_size() -> None:
    network: Any = nn.Sequential(nn.Conv2d(3, 4, 9), small_network(4))
    network.pretrained_cfg = {"input_size": (3, 224, 224)}
    with pytest.raises(ValueError, match=r"change data.image_size=8 \(usual for it: 224\) or the network"):
        check(network, 8)


@pytest.mark.parametrize(
    "build", [small_network, lambda: models.mobilenet_v3_small(num_classes=5)], ids=["small", "mobilenet"]
)
def test_the_check_changes_neither_statistics_nor_modes_nor_the_random_state(build: Any) -> None:
    network = build()
    next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).eval()  # frozen
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    random = torch.get_rng_state()
    check(network, 32)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == modes
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_check_needs_one_forward_pass() -> None:
    network, passes = small_network(), []
    network.register_forward_hook(lambda *args: passes.append(1))
    check(network)
    assert passes == [1]


NEVER = [{"limit_val_batches": 0}, {"check_val_every_n_epoch": 3, "max_epochs": 2}]
SOMETIMES = [{"check_val_every_n_epoch": 2}, {"limit_val_batches": 1}, {"max_epochs": -1, "check_val_every_n_epoch": 9}]


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    return make_trainer(*callbacks, **{"max_epochs": 2, "enable_checkpointing": True} | options)


@pytest.mark.parametrize("options", NEVER)
def test_early_stopping_and_plateau_schedules_are_refused_without_a_validation(options: dict[str, Any]) -> None:
    setting = next(iter(options))
    with pytest.raises(ValueError, match=f"early stopping follows val/loss, but trainer.{setting}"):
        check_validation(trainer(EarlyStopping("val/loss"), **options), "val/loss", plateau=False)
    with pytest.raises(ValueError, match=f"the plateau schedule follows val/loss, but trainer.{setting}"):
        check_validation(trainer(**options), "val/loss", plateau=True)
    check_validation(trainer(EarlyStopping("train/loss"), **options), "train/loss", plateau=True)


@pytest.mark.parametrize("options", NEVER)
def test_a_best_checkpoint_that_is_never_saved_causes_a_warning(
    tmp_path: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_validation(trainer(ModelCheckpoint(tmp_path, monitor="val/f1"), **options), "val/f1", plateau=False)
    assert len(caplog.messages) == 1
    assert "no best checkpoint is saved by val/f1" in caplog.text


@pytest.mark.parametrize("options", [*SOMETIMES, {"fast_dev_run": True}])
def test_with_a_validation_there_is_no_warning(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    trains = trainer(EarlyStopping("val/loss"), **options)
    caplog.clear()
    check_validation(trains, "val/loss", plateau=True)
    assert not caplog.messages


def test_one_image_per_device_is_refused_for_batch_norm_with_a_larger_batch_size_suggested() -> None:
    with pytest.raises(
        ValueError, match=r"data.batch_size=2 is one image on each of 2 devices.* BatchNorm \(1\)"
    ) as caught:
        check_batch(small_network(), batch_size=2, world_size=2, synced=False)
    assert "data.batch_size=4" in str(caught.value)


def test_one_image_per_device_is_accepted_if_no_layer_normalises_over_the_batch() -> None:
    check_batch(small_network(), batch_size=4, world_size=2, synced=False)
    check_batch(small_network(), batch_size=2, world_size=2, synced=True)
    check_batch(small_network().eval(), batch_size=1, world_size=1, synced=False)  # frozen
    check_batch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), batch_size=1, world_size=1, synced=False)


@pytest.mark.parametrize(
    ("images", "batch", "devices", "message"),
    [
        (120, 64, 1, "56 of 120 training images are left out of each epoch.*data.batch_size=60 leaves out 0"),
        (99, 40, 2, "19 of 99 .*data.batch_size=32 leaves out 3"),
        (120, 8, 1, None),
        (1258, 32, 1, None),
        (72, 64, 1, None),
    ],
)
def test_many_images_left_out_of_an_epoch_cause_a_warning(
    images: int, batch: int, devices: int, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    warn_about_left_out_images(images, [batch], devices)
    assert re.search(message, caplog.text) if message else not caplog.text


def test_the_epoch_that_leaves_out_most_images_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    warn_about_left_out_images(120, [16, 32, 48, 60], 1)
    assert re.search("24 of 120 .* an epoch with batches of 32, .*data.progressive.batch_size", caplog.text)
    caplog.clear()
    warn_about_left_out_images(120, [20, 40, 60], 1)
    assert not caplog.text


@pytest.mark.parametrize(
    ("options", "batches", "message"),
    [
        ({"val_check_interval": 30}, [78, 39, 19], "val_check_interval=30 .* epoch 3 has only 19.*n_epoch=null"),
        ({"val_check_interval": 30}, [19], "val_check_interval=30 .* an epoch has only 19"),
        ({"limit_train_batches": 0.05}, [3, 0, 1], "limit_train_batches=0.05 leaves no batch of epoch 2"),
        ({"val_check_interval": 30, "check_val_every_n_epoch": None}, [78, 19], None),
        ({"val_check_interval": 30, "limit_val_batches": 0}, [78, 19], None),
        ({"val_check_interval": 0.5}, [78, 1], None),
        ({"val_check_interval": 19}, [78, 19], None),
    ],
)
def test_an_epoch_that_is_too_short_for_the_trainer_is_refused_before_the_first(
    options: dict[str, Any], batches: list[int], message: str | None
) -> None:
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        check_epochs(trainer(**options), batches)


@pytest.mark.parametrize(
    ("sizes", "epochs", "last"),
    [([8, 16, 32], 2, 16), ([64, 48, 32], 1, 64), ([8, 16, 32], 3, None), ([8, 32, 32], 2, None), ([32], 1, None)],
)
def test_a_run_that_ends_before_the_full_size_causes_a_warning(
    sizes: list[int], epochs: int, last: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    warn_about_growth(sizes, epochs, "images")
    warn_about_growth(sizes, None, "images")
    texts = [f"epochs=2, but the run ends after {epochs}, with images of {last} instead of 32: lower"] if last else []
    assert len(caplog.messages) == len(texts)
    assert all(text in caplog.text for text in texts)


def test_few_steps_cause_a_warning_with_a_sufficient_number_of_epochs(caplog: pytest.LogCaptureFixture) -> None:
    for steps, epochs in ((100, 10), (None, -1)):
        warn_about_few_steps(steps, 64, epochs)
    assert not caplog.text
    warn_about_few_steps(10, 64, 10)
    assert "only 10 optimizer steps" in caplog.text
    assert "trainer.max_epochs=100 (now 10)" in caplog.text
    assert "data.batch_size=64" in caplog.text


def test_batchnorm_is_synchronised_on_several_gpus_only(caplog: pytest.LogCaptureFixture) -> None:
    check_sync_batchnorm(2, "cuda")
    assert not caplog.messages
    check_sync_batchnorm(1, "cpu")
    assert "no effect on one device" in caplog.text
    with pytest.raises(ValueError, match=r"on 2 CPU processes.*type trainer\.sync_batchnorm=false"):
        check_sync_batchnorm(2, "cpu")


def test_synchronised_batchnorm_has_the_same_names_in_a_checkpoint() -> None:
    trained = SEResNet(num_classes=3, width=16)
    names = [*trained.state_dict()]
    synchronised = TorchSyncBatchNorm().apply(trained)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())
    assert not any(type(module) is nn.BatchNorm2d for module in synchronised.modules())
    assert [*synchronised.state_dict()] == names


def test_torch_has_no_synchronised_batchnorm_on_a_cpu() -> None:
    """If this fails, the check above is no longer needed."""
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        with pytest.raises(ValueError, match="expected input tensor to be on"):
            nn.SyncBatchNorm(3)(torch.zeros(2, 3, 4, 4))
    finally:
        distributed.destroy_process_group()
