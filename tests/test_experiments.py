"""The experiments of conf/experiment take two steps on stand-ins, and have the published rates and weight decays."""

import json
from collections.abc import Callable, Iterator
from math import cos, pi
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from conf_groups import GROUPS, composed
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn
from torchvision.models import resnet18

from fovea import build
from fovea.config import run_length
from fovea.config.check import check
from fovea.config.resolvers import CONF, register_resolvers
from fovea.data.progressive import image_sizes
from fovea.optim.learning_rates import learning_rates
from fovea.parts import network_parts, optimization_parts

FAST = ("imagenet_se_resnet50", "imagenet_mobilenet_v2")
NETWORKS = {  # the network's _target_ -> a small one of the same family
    "build_torchvision": ("model.name=resnet18", "model.weights=null"),
    "build_timm": ("model.name=resnet18",),
    "MobileNetV2": ("model.width_mult=0.1",),
    "SEResNet": ("model.width=16",),
    "CifarResNet": ("model.depth=8",),
    "Airbench": ("model.widths=[8,16,16]",),
}
OTHER_NETWORKS = {  # for experiments that the table above does not suit
    "imagenet_se_resnext50": ("model.width=32", "model.cardinality=4"),
    "coco_asl": ("model.name=tresnet_m", "model.weights=null"),
    "voc_asl": ("model.name=tresnet_m", "model.weights=null"),
}
IMAGES = {"imagenet": 1_281_167, "coco": 118_287, "cifar10": 45_000, "folder": 6_400, "voc": 4_510}
TINY = (
    *("data.image_size=32", "data.eval_image_size=32", "data.batch_size=4", "data.num_workers=0"),
    *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=null", "trainer.log_every_n_steps=1"),
    "logger=csv",
)


def small_network(name: str) -> tuple[str, ...]:
    """The overrides that make the experiment's network small."""
    target = composed(f"experiment={name}", "data.root=x").model._target_.rpartition(".")[2]
    return OTHER_NETWORKS.get(name, NETWORKS[target])


def small_data(name: str, cfg: DictConfig, folder: Path) -> Iterator[str]:
    """The overrides that replace the experiment's data by the folder's."""
    several_labels = cfg.monitor.endswith("mAP")
    yield from (f"data={'multilabel_csv' if several_labels else 'folder'}", f"data.root='{folder}'", *TINY)
    if several_labels:
        files = sorted(folder.rglob("*.png"))
        rows = [f"{file.relative_to(folder)},{n % 2},{n % 3 % 2}" for n, file in enumerate(files)]
        (folder / "labels.csv").write_text("\n".join(["path,cat,dog", *rows]))
    if cfg.data.progressive.start is not None:
        yield from ("data.progressive.start=16", "data.progressive.step=16")
    if cfg.data.folds is not None:
        yield "data.fold=0"
    if "teacher" in cfg.objective:
        torch.save(resnet18(num_classes=3).state_dict(), folder / "teacher.pth")
        yield from ("objective.teacher.name=resnet18", f"objective.teacher.weights='{folder}/teacher.pth'")


def two_steps(name: str, folder: Path, run: Path) -> dict[str, Any]:
    """Train the experiment on stand-ins for two optimizer steps, and return the figures that were logged."""
    words = [f"experiment={name}", *small_network(name)]
    words += small_data(name, composed(f"experiment={name}", "data.root=x"), folder)
    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", words)
    with open_dict(cfg):
        for key in ("train_list", "val_list"):  # of voc_asl's own data
            cfg.data.read.pop(key, None)
    run.mkdir()
    cfg.run_dir = str(run)
    check(cfg, "train")
    data = build.datamodule(cfg)
    task = build.task(cfg)
    build.check_loss(task, data, data.splits)
    trainer = build.trainer(cfg)
    trainer.fit_loop.epoch_loop.max_steps = 2  # later than the schedule, whose length is that of the whole run
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 2
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in GROUPS["experiment"]],
)
def test_an_experiment_takes_two_steps(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    figures = two_steps(name, folder, tmp_path / "run")
    assert "train/loss_step" in figures
    assert torch.tensor(list(figures.values())).isfinite().all()


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_an_experiment_begins_with_its_command_and_what_to_expect(name: str) -> None:
    lines = (CONF / "experiment" / f"{name}.yaml").read_text("utf-8").partition("defaults:")[0].splitlines()
    assert lines[1].startswith(f"# python src/train.py experiment={name}")
    starts = [line.removeprefix("# ").partition(": ")[0] for line in lines]
    facts = ["Published", "Assumes", "Cost", "Measured by this project"]
    assert [start for start in starts if start in facts] == facts


@pytest.mark.slow
@pytest.mark.parametrize(("folds", "typed"), [(5, ()), (3, ("data.folds=3",))])
def test_the_experiment_with_folds_tests_every_image_once(
    invoke: Callable[..., tuple[int, str, str]], folder: Path, tmp_path: Path, folds: int, typed: tuple[str, ...]
) -> None:
    words = ("experiment=folder_folds", f"data.root='{folder}'", *TINY, *small_network("folder_folds"), *typed)
    code, _, err = invoke("train", *words, "trainer.max_epochs=3", "report=false", f"hydra.sweep.dir={tmp_path}/folds")
    assert code == 0, err
    (pooled,) = json.loads((tmp_path / "folds" / "folds.json").read_text())
    images = sum(len(list((folder / split).rglob("*.png"))) for split in ("train", "val"))  # test is in no fold
    assert (pooled["folds"], pooled["images"]) == (folds, images)


def optimized(name: str) -> tuple[DictConfig, nn.Module, Any, Any]:
    """(config, network without memory, its optimizer, schedule) of the experiment for the length of its own data."""
    cfg = composed(f"experiment={name}", "data.root=x")
    images = IMAGES[name.partition("_")[0]]
    cfg.epoch_images = images
    run_length.fill_in(cfg, [images // cfg.data.batch_size])
    if "weights" in cfg.model:
        cfg.model.weights = None
    with torch.device("meta"):
        network = network_parts.network(cfg.model, cfg.class_names)
    configured = optimization_parts.optimization(cfg, network).configure(network)
    return cfg, network, configured["optimizer"], configured["lr_scheduler"]["scheduler"]


THIRTIES = {0: 0.1, 29: 0.1, 30: 0.01, 60: 0.001, 89: 0.001}
SIX_HUNDRED = {0: 0.005, 1: 0.104, 4: 0.401, 5: 0.5}
SIX_HUNDRED |= {epoch: 0.25 * (1 + cos(pi * (epoch - 5) / 595)) for epoch in (124, 300, 599)}
RATES: dict[str, dict[int, float]] = {  # experiment -> {epoch, from 0: the published rate in its first step}
    "imagenet_resnet50": THIRTIES,
    "imagenet_resnext50": THIRTIES | {90: 1e-4, 99: 1e-4},
    "imagenet_mobilenet_v2": {0: 0.045, 1: 0.0441, 100: 0.045 * 0.98**100, 299: 0.045 * 0.98**299},
    "imagenet_se_resnet50": {0: 0.6, 30: 0.06, 60: 0.006, 90: 0.0006},
    "imagenet_se_resnext50": {0: 0.6, 30: 0.06, 60: 0.006, 90: 0.0006},
    **dict.fromkeys(("imagenet_resnet50_v2", "imagenet_resnext50_v2", "imagenet_mobilenet_v2_v2"), SIX_HUNDRED),
    "imagenet_resnet50_rsb_a1": {0: 1e-4, 300: 2.5e-3} | {e: 2.5e-3 * (1 + cos(pi * e / 600)) for e in (5, 500, 599)},
    "imagenet_resnet50_rsb_a2": {0: 1e-4, 150: 2.5e-3} | {e: 2.5e-3 * (1 + cos(pi * e / 300)) for e in (5, 200, 299)},
    "imagenet_resnet50_rsb_a3": {0: 1e-4, 50: 4e-3} | {e: 4e-3 * (1 + cos(pi * e / 100)) for e in (5, 75, 99)},
    "imagenet_resnet50_ffcv": {0: 1.7e-4, 1: 0.850085, 2: 1.7, 9: 0.85, 15: 1.7 / 14},
    "imagenet_distillation": {0: 0.1, 30: 0.01, 60: 0.001, 90: 1e-4, 99: 1e-4},
    "cifar10_fast": {
        0: 0.2 * 1.465,
        2: 1.465 * (0.2 + 0.8 * 90 / 123.2),
        **{epoch: 1.465 * (1 - 0.93 * (45 * epoch - 123.2) / (539 - 123.2)) for epoch in (3, 6, 11)},
    },
    "cifar10_lt": {0: 0.02, 1: 0.04, 4: 0.1, 159: 0.1, 160: 1e-3, 179: 1e-3, 180: 1e-5, 199: 1e-5},
    "cifar10_resnet18": {0: 0.1, 59: 0.1, 60: 0.02, 120: 0.004, 160: 8e-4, 199: 8e-4},
}
SLOW_RATES = {  # schedules of 20,000 steps and more
    "imagenet_resnet18_ffcv": {0: 5e-5, 1: 0.250025, 2: 0.5, 9: 0.25, 15: 0.5 / 14},
    "coco_asl": {0: 4e-6, 8: (4e-6 + 1e-4) / 2, 16: 1e-4, 40: 5e-5 * (1 + cos(pi * 24 / 64))},
}


@pytest.mark.parametrize(
    ("name", "published"),
    [*RATES.items(), *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW_RATES.items())],
)
def test_the_learning_rates_of_epochs_are_the_published_ones(name: str, published: dict[int, float]) -> None:
    cfg, _, _, schedule = optimized(name)
    by_epoch = cfg.scheduler.interval == "epoch"
    epoch = 1 if by_epoch else cfg.schedule_epoch
    last = max(published) * epoch + 1
    rates = learning_rates(schedule, "step", last, int)  # of each unit of the schedule
    for number, rate in published.items():
        assert np.atleast_1d(rates[number * epoch])[0] == pytest.approx(rate, rel=1e-3), number


ALL = {"conv1.weight": 1.0, "layer2.0.downsample.1.weight": 1.0, "bn1.weight": 1.0, "fc.weight": 1.0, "fc.bias": 1.0}
WEIGHTS = ALL | {"layer2.0.downsample.1.weight": 0.0, "bn1.weight": 0.0, "fc.bias": 0.0}
WEIGHTS_AND_HEAD = WEIGHTS | {"fc.bias": 1.0}
DECAYS: dict[str, tuple[float, dict[str, float]]] = {  # experiment -> weight decay, and its factor for some parameters
    "imagenet_resnet50": (1e-4, ALL),
    "imagenet_resnext50": (1e-4, ALL),
    "imagenet_mobilenet_v2": (4e-5, {"features.0.0.weight": 1.0, "features.0.1.weight": 1.0, "classifier.1.bias": 1.0}),
    "imagenet_se_resnet50": (1e-4, {"conv1.weight": 1.0, "bn1.weight": 1.0, "fc.bias": 1.0}),
    "imagenet_se_resnext50": (1e-4, {"conv1.weight": 1.0, "bn1.weight": 1.0, "fc.bias": 1.0}),
    "imagenet_resnet50_v2": (2e-5, WEIGHTS_AND_HEAD),
    "imagenet_resnext50_v2": (2e-5, WEIGHTS_AND_HEAD),
    "imagenet_mobilenet_v2_v2": (
        2e-5,
        {"features.0.0.weight": 1.0, "features.0.1.weight": 0.0, "classifier.1.bias": 1.0},
    ),
    "imagenet_resnet50_rsb_a1": (0.01, WEIGHTS),
    "imagenet_resnet50_rsb_a2": (0.02, WEIGHTS),
    "imagenet_resnet50_rsb_a3": (0.02, WEIGHTS),
    "imagenet_resnet18_ffcv": (5e-5, WEIGHTS_AND_HEAD | {"layer2.0.downsample.1.weight": 1.0}),
    "imagenet_resnet50_ffcv": (1e-4, WEIGHTS_AND_HEAD | {"layer2.0.downsample.1.weight": 1.0}),
    "imagenet_distillation": (1e-4, ALL),
    "cifar10_fast": (1.362e-3, {"groups.0.conv1.weight": 1.0, "groups.2.norm2.bias": 1 / 64, "head.weight": 1.0}),
    "cifar10_resnet18": (5e-4, {"conv1.weight": 1.0, "bn1.weight": 1.0, "fc.bias": 1.0}),
    "cifar10_lt": (2e-4, {"conv1.weight": 1.0, "bn1.weight": 1.0, "fc.bias": 1.0}),
    "coco_asl": (1e-4 / 128, {"head.fc.weight": 1.0, "head.fc.bias": 0.0}),  # of a loss that is 128 times as large
}


@pytest.mark.parametrize("name", DECAYS)
def test_the_weight_decay_of_each_parameter_is_the_published_one(name: str) -> None:
    _, network, optimizer, _ = optimized(name)
    decay, factors = DECAYS[name]
    found = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(network.named_parameters())
    assert {key: found[id(parameters[key])] for key in factors} == pytest.approx(
        {key: decay * factor for key, factor in factors.items()}
    )


SGD_V1: dict[str, Any] = {"optimizer.momentum": 0.9, "data.batch_size": 256}
V2: dict[str, Any] = {
    **{"data.image_size": 176, "augment.eval.crop.resize": 232, "data.eval_image_size": 224, "trainer.max_epochs": 600},
    **{"loss.label_smoothing": 0.1, "mixing.mixup_alpha": 0.2, "mixing.cutmix_alpha": 1.0, "data.batch_size": 1024},
    **{"data.sampler.repeats": 4, "optimizer.momentum": 0.9, "optimizer.nesterov": False},
    "callbacks.ema.decay": (1 - 2e-5 * 1024 * 32 / 600) ** (1 / 32),
}
RSB: dict[str, Any] = {
    "mixing.cutmix_alpha": 1.0,
    "mixing.probability": 1.0,
    "data.batch_size": 2048,
    "augment.eval.crop.resize": 235,
}
RSB |= {"optimizer.max_grad_norm": 1.0, "loss._target_": "fovea.losses.bce.BinaryCrossEntropy"}
SENET = {"data.batch_size": 1024, "optimizer.momentum": 0.9, "trainer.max_epochs": 100}
FFCV = {"loss.label_smoothing": 0.1, "data.eval_image_size": 256, "optimizer.momentum": 0.9, "trainer.max_epochs": 16}
RAND_AUGMENT = "augment.train.transforms[0].transforms[0].magnitude"  # torchvision's 31 magnitudes are timm's 10
A3 = RSB | {RAND_AUGMENT: 18, "mixing.mixup_alpha": 0.1, "loss.target_threshold": 0.2, "loss.label_smoothing": 0.0}
A2 = A3 | {RAND_AUGMENT: 21, "data.sampler.repeats": 3, "model.drop_path_rate": 0.05, "data.image_size": 224}
ASL = {"loss.gamma_neg": 4.0, "loss.gamma_pos": 0.0, "loss.clip": 0.05, "data.image_size": 448, "data.batch_size": 128}
ASL |= {"callbacks.ema.decay": 0.9997}
OTHERS: dict[str, dict[str, Any]] = {  # experiment -> other published values, by their keys
    "imagenet_resnet50": SGD_V1 | {"trainer.max_epochs": 90},
    "imagenet_resnext50": SGD_V1 | {"trainer.max_epochs": 100},
    "imagenet_mobilenet_v2": SGD_V1 | {"trainer.max_epochs": 300},
    "imagenet_resnet50_v2": V2 | {"model.name": "resnet50"},
    "imagenet_resnext50_v2": V2 | {"model.name": "resnext50_32x4d"},
    "imagenet_mobilenet_v2_v2": V2 | {"model.dropout": 0.2, "model.width_mult": 1.0},
    "imagenet_resnet50_rsb_a1": A2
    | {"mixing.mixup_alpha": 0.2, "loss.label_smoothing": 0.1, "loss.target_threshold": None},
    "imagenet_resnet50_rsb_a2": A2,
    "imagenet_resnet50_rsb_a3": A3 | {"data.image_size": 160, "data.eval_image_size": 224},
    "imagenet_se_resnet50": SENET | {"model.depth": 50},
    "imagenet_se_resnext50": SENET | {"model.depth": 50, "model.cardinality": 32},
    "imagenet_distillation": SGD_V1
    | {"objective.alpha": 0.5, "objective.temperature": 1.0, "objective.teacher.name": "resnet34"},
    "imagenet_resnet18_ffcv": FFCV | {"data.batch_size": 1024},
    "imagenet_resnet50_ffcv": FFCV | {"data.batch_size": 4096},
    "cifar10_fast": {"optimizer.lr": 11.5 * 1000 / (1024 * (1 + 1 / (1 - 0.85))), "optimizer.momentum": 0.85},
    "cifar10_resnet18": {
        **{"optimizer.momentum": 0.9, "optimizer.nesterov": True, "data.batch_size": 128, "trainer.max_epochs": 200},
        **{"augment.train.crop.padding": 4, "augment.train.transforms[0].scale": [1 / 4, 1 / 4]},  # 16 of 32 pixels
    },
    "cifar10_lt": {"optimizer.momentum": 0.9, "data.batch_size": 128, "trainer.max_epochs": 200, "model.depth": 32},
    "coco_asl": ASL,
    "voc_asl": ASL | {"optimizer.lr": 1e-4},
    "folder_finetuning": {"callbacks.unfreeze.frozen_epochs": [["backbone", 2]]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_values_are_the_published_ones(name: str) -> None:
    cfg = composed(f"experiment={name}", "data.root=x")
    found = {key: OmegaConf.select(cfg, key) for key in OTHERS[name]}
    plain = {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()
    }
    assert plain == {
        key: pytest.approx(value, rel=1e-3) if isinstance(value, float) else value
        for key, value in OTHERS[name].items()
    }


def test_fine_tuning_has_a_smaller_rate_for_each_layer_below_the_classifier() -> None:
    _, network, optimizer, _ = optimized("folder_finetuning")
    found = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(network.named_parameters())
    layers = ["fc.weight", "layer4.2.conv1.weight", "layer4.1.conv1.weight", "layer4.0.conv1.weight"]
    assert [found[id(parameters[layer])] for layer in layers] == pytest.approx([1e-3, 7.5e-4, 5.625e-4, 4.21875e-4])


def test_ffcv_grows_its_images_before_epoch_12() -> None:
    data = composed("experiment=imagenet_resnet50_ffcv", "data.root=x").data
    size = image_sizes(data.progressive, data.image_size)
    assert size is not None
    assert [size(epoch) for epoch in range(16)] == [160] * 12 + [192] * 4


def test_every_experiment_with_a_published_recipe_is_compared_with_it() -> None:
    without = {
        "cifar10_small",
        "cifar10_fast_muon",
        "cifar10_lt_small",
        "folder_finetuning",
        "folder_folds",
        "voc_asl",
    }  # voc_asl has the values of coco_asl
    assert {*RATES, *SLOW_RATES} == DECAYS.keys() == set(GROUPS["experiment"]) - without
