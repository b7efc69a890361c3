"""From a checked config to the parts that a program runs."""

import logging
import math
import warnings
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose

from fovea.callbacks.progress import Progress
from fovea.config import saved
from fovea.config.schema import check_monitor
from fovea.data.datamodule import ImageDataModule
from fovea.data.dataset import Batch, ImageDataset
from fovea.data.index import Index
from fovea.data.loader import batch_loader
from fovea.data.sampler import EvalBatches
from fovea.task import ClassificationTask

# Lightning's news of its set-up; `summary` says what matters of it.
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)
for message in (
    "LeafSpec",  # Lightning's own use of torch
    "does not have many workers",  # data.num_workers is the user's word
    "log_every_n_steps",
    "not empty",  # a resumed run's folder isn't
    "Be aware that when using `ckpt_path`",  # evaluating needs none of the training's callbacks
    "You are using a custom batch sampler",
    "You're resuming from a checkpoint that ended before the epoch",  # TrainLoader knows its place
    "could not find the monitored key",  # where max_steps ends before a validation; a wrong name is refused before
    "was called before the ``update``",  # on a rank that has no image left
):
    warnings.filterwarnings("ignore", message=f".*{message}")


def datamodule(cfg: DictConfig) -> ImageDataModule:
    """Read the data's index, and fill in the config's root keys that follow from it."""
    augment = instantiate(cfg.augment, _convert_="all")
    data: ImageDataModule = instantiate(
        cfg.data, seed=cfg.seed, augment=augment, class_names=cfg.class_names, _convert_="all"
    )
    cfg.task, cfg.num_classes, cfg.class_names = data.task, data.num_classes, list(data.class_names)
    cfg.steps_per_epoch, cfg.total_steps = steps(data.batches_per_epoch, cfg.trainer)
    return data


def files_loader(cfg: DictConfig, index: Index, rank: int, world_size: int) -> DataLoader[Batch]:
    """This rank's share of images without labels, as the run evaluates images."""
    transform = Compose(instantiate(cfg.augment.eval, _convert_="all"))
    data = cfg.data
    dataset = ImageDataset(index, transform, data.image_size, background=data.background, on_error="skip")
    return batch_loader(dataset, EvalBatches(len(index), data.batch_size, rank, world_size), data.num_workers, False)


def steps(batches: int, trainer: Any) -> tuple[int, int | None]:
    """Optimizer steps of an epoch and of the whole run; None where it has no end."""
    limit = trainer.limit_train_batches
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    epochs = 1000 if trainer.max_epochs is None and trainer.max_steps < 0 else trainer.max_epochs  # Lightning's default
    by_epochs = per_epoch * epochs if epochs is not None and epochs >= 0 else None
    ends = [end for end in (by_epochs, trainer.max_steps if trainer.max_steps >= 0 else None) if end is not None]
    return per_epoch, min(ends, default=None)


def task(cfg: DictConfig) -> ClassificationTask:
    """The network with its loss, metrics, optimizer and schedule; the network's weights follow from the seed."""
    torch.manual_seed(cfg.seed)
    loss = instantiate(cfg.loss)
    if cfg.task == "multilabel" and isinstance(loss, nn.CrossEntropyLoss):
        raise ValueError("loss=cross_entropy is for one label an image and the data has several: use loss=bce")
    metrics = {name: metric for name, metric in instantiate(cfg.metrics).items() if metric is not None}
    check_monitor(cfg.monitor, [*metrics, "loss"])
    scheduler = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(scheduler, dict)
    interval = scheduler.pop("interval")
    return ClassificationTask(
        task=cfg.task,
        network=instantiate(cfg.model, _convert_="all").to(memory_format=torch.channels_last),
        preprocess=instantiate(cfg.preprocess),
        loss=loss,
        metrics=metrics,
        per_class_metrics=instantiate(cfg.per_class_metrics),
        optimizer=instantiate(cfg.optimizer, _convert_="all"),
        parameter_groups=instantiate(cfg.parameter_groups),
        scheduler=instantiate(scheduler, _convert_="all"),
        interval=interval,
        monitor=cfg.monitor,
        config=saved.plain(cfg),
    )


def trainer(cfg: DictConfig, *, alone: bool = False) -> Trainer:
    """Lightning's Trainer with the run's callbacks and loggers; `alone`, without them, to look at a finished run."""
    callbacks = [Progress()] if alone else [instantiate(node) for node in cfg.callbacks.values()]
    loggers = [] if alone else [instantiate(node) for node in cfg.logger.values()]
    options = {"fast_dev_run": False, "limit_test_batches": None} if alone else {}
    return instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, _convert_="all", **options)


def summary(cfg: DictConfig, data: ImageDataModule, task: ClassificationTask, trainer: Trainer) -> str:
    """What is about to happen, in three lines.

    Raises:
        ValueError: the batch doesn't suit the data or the number of devices.
    """
    world = trainer.world_size
    batches = data.train_batches(trainer.global_rank, world)
    sizes = ", ".join(f"{len(index):,} {split}" for split, index in data.splits.items())
    parameters = sum(p.numel() for p in task.network.parameters())
    devices = f"{world} x {trainer.strategy.root_device.type}"
    left_out = batches.size - len(batches) * data.batch_size
    return (
        f"data: {sizes} images of {data.image_size} px; {data.num_classes} classes, {data.task}\n"
        f"network: {type(task.network).__name__}, {parameters:,} parameters; monitor {cfg.monitor} ({cfg.mode})\n"
        f"batch: {data.batch_size} over {devices} = {data.batch_size // world} each; "
        f"{len(batches)} batches an epoch" + (f", {left_out} images left out, others each epoch" if left_out else "")
    )
