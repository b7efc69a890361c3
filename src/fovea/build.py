"""Builds the parts that a program runs from a checked config."""

import functools
import logging
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from fovea.callbacks.progress import Progress
from fovea.config import pretrained, run_length, saved
from fovea.config.check import check_growing_images
from fovea.config.keys import names
from fovea.config.schema import check_monitor
from fovea.data.index import UNKNOWN, Index, class_counts, unknown_kind
from fovea.data.loading.batch_samplers import EvalBatchSampler, TrainBatchSampler
from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.loading.dataset import ImageDataset
from fovea.data.loading.loader import BatchLoader
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import whole_square
from fovea.data.progressive import from_to, image_sizes
from fovea.distributed.ranks import check_world
from fovea.distributed.threads import busy_warning, load_average
from fovea.models.freeze import freeze
from fovea.models.test_time_augmentation import AveragedViews
from fovea.parts import loss_parts, network_parts, objective_parts, optimization_parts, trainer_parts
from fovea.parts.partial_keys import check_keys
from fovea.parts.trainer_parts import builds
from fovea.runs.checkpoint import SafeCheckpointIO
from fovea.runs.figure_names import AVERAGES, average_of, prefix
from fovea.speed.gradient_checkpointing import checkpoint_blocks
from fovea.task import ClassificationTask
from fovea.training import class_means, loss_check, metric_check, sanity_check
from fovea.training.monitor import mode_of

log = logging.getLogger(__name__)

# Messages of Lightning's about its set-up; `summary` logs the relevant ones.
for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.WARNING)
for message in (
    "LeafSpec",  # Lightning's own use of torch
    "does not have many workers",  # data.num_workers is the user's choice
    "log_every_n_steps",
    "not empty",  # the folder of a resumed run
    "Be aware that when using `ckpt_path`",  # evaluating needs none of the training's callbacks
    "You are using a custom batch sampler",
    "You're resuming from a checkpoint that ended before the epoch",  # TrainLoader resumes within the epoch
    "could not find the monitored key",  # max_steps may end before a validation; wrong names are errors earlier
    "`training_step` returned `None`",  # on_nan=skip, or a batch without a readable image; both are logged
    "in eval mode at the start of training",  # frozen layers; `summary` logs their number of parameters
    "functional.all_gather is deprecated",  # Lightning's own use of torch
    "was called before the ``update``",  # on a rank that has no image left
):
    warnings.filterwarnings("ignore", message=f".*{message}")


def datamodule(cfg: DictConfig, to_train: bool = True) -> ImageDataModule:
    """Read the data's index, and fill in the config's root keys that follow from it and from published weights.

    Args:
        cfg: its keys `pretrained`, `task`, `num_classes`, `class_names` and, for a training, counts and lengths are
            set.
        to_train: False accepts data that can only be evaluated, and does not set counts and lengths.
    """
    _fill_in_pretrained(cfg)
    augment = instantiate(cfg.augment, _convert_="all")
    data: ImageDataModule = instantiate(
        cfg.data,
        seed=cfg.seed,
        augment=augment,
        class_names=cfg.class_names,
        to_train=to_train,
        _convert_="all",
    )
    check_keys("data.sampler", data.make_sampler)
    if cfg.task not in (None, data.task):
        raise ValueError(f"the run is {cfg.task} and the data is {data.task}: choose a {cfg.task} dataset")
    cfg.task, cfg.num_classes, cfg.class_names = data.task, data.num_classes, list(data.class_names)
    if to_train:
        if cfg.class_counts is None:  # a saved run keeps its balanced class weights
            cfg.class_counts = class_counts(data.splits["train"].targets, data.num_classes)
        images = len(data.splits["train"] if cfg.trainer.overfit_batches else data.train_sampler)
        if cfg.epoch_images is None:  # a saved run keeps its batch size
            cfg.epoch_images = images if data.least_epoch is None else min(images, data.least_epoch)
            _lower_batch(cfg, data)
        run_length.fill_in(cfg, [images // size for size in data.batch_sizes.of_epochs()])
    return data


def _fill_in_pretrained(cfg: DictConfig) -> None:
    """Set the preprocessing of published weights, if the network has such weights, and log which keys follow it."""
    own = network_parts.preprocessing(cfg.model)
    text = pretrained.fill_in(cfg, own._asdict()) if own else None
    if text:
        log.info("preprocessing of model.name=%s model.weights=%s\n%s", cfg.model.name, cfg.model.weights, text)
    check_growing_images(cfg)


def _lower_batch(cfg: DictConfig, data: ImageDataModule) -> None:
    """Set the data's batch size to cfg.data.batch_size, which may be lower now that the number of images is known."""
    usual, data.batch_size = data.batch_size, cfg.data.batch_size
    if data.batch_size < usual:
        log.warning(
            "there are few training images: data.batch_size is %d instead of %d, so that an epoch has %d batches. "
            "Type data.batch_size= to change it; a smaller batch may need a smaller optimizer.lr",
            *(data.batch_size, usual, cfg.epoch_images // data.batch_size),
        )


def average_views(cfg: DictConfig, task: ClassificationTask, augment: Augment) -> Augment:
    """Make the task average over the views of test-time augmentation that cfg.tta names.

    Args:
        cfg: its key `tta` is used.
        task: its evaluations and predictions are changed.
        augment: of evaluated images.

    Returns:
        The augmentation of the images that the views are made from.

    Raises:
        ValueError: the augmentation leaves no room for five crops.
    """
    if cfg.tta == "none":
        return augment
    size, is_multilabel = augment.crop.size, cfg.task == "multilabel"
    task.averaged_views = partial(AveragedViews, kind=cfg.tta, size=size, multilabel=is_multilabel)
    log.info("test-time augmentation: probabilities are averaged over the views of tta=%s", cfg.tta)
    return augment if "five_crop" not in cfg.tta else Augment(whole_square(augment.crop), augment.transforms)


def files_loader(cfg: DictConfig, task: ClassificationTask, index: Index, rank: int, world_size: int) -> BatchLoader:
    """Make the loader of this rank's share of images without labels, cropped as for an evaluation by the task."""
    data, augment = cfg.data, average_views(cfg, task, instantiate(cfg.augment.eval, _convert_="all"))
    dataset = ImageDataset(index, augment, background=data.background, on_error="skip")
    return BatchLoader(dataset, EvalBatchSampler(len(index), data.batch_size, rank, world_size), data.num_workers)


def task(cfg: DictConfig, to_train: bool = True) -> ClassificationTask:
    """Build the network with its loss, objective, metrics, optimizer and schedule; its weights depend on the seed.

    Args:
        cfg: the config.
        to_train: False leaves out the objective, which may need files that an evaluation doesn't.
    """
    seed_everything(cfg.seed, verbose=False)
    loss = loss_parts.loss(cfg)
    built = metrics(cfg)
    check_monitor(cfg.monitor, [*built, "loss"], AVERAGES)  # `trainer` checks whether weights are averaged
    cfg.mode = mode_of(cfg.monitor, cfg.mode, built)
    network = _network(cfg)
    return ClassificationTask(
        task=cfg.task,
        network=network,
        preprocess=instantiate(cfg.preprocess),
        mixing=instantiate(cfg.mixing, _convert_="all"),
        loss=loss,
        objective=functools.partial(objective_parts.objective, cfg) if to_train else None,
        metrics=built,
        per_class_metrics=instantiate(cfg.per_class_metrics),
        optimization=optimization_parts.optimization(cfg, network),
        seed=cfg.seed,
        config=saved.plain(cfg),
        logit_shift=loss_parts.shift_of_logits(cfg),
    )


def metrics(cfg: DictConfig) -> dict[str, Metric]:
    """Build the metrics, by name; those that are null in the config are left out."""
    return {name: metric for name, metric in instantiate(cfg.metrics).items() if metric is not None}


def tested_metrics(cfg: DictConfig) -> dict[str, Metric]:
    """Build the metrics of the predictions, with their names in results.json."""
    return named_as_tested(metrics(cfg), cfg.monitor)


def named_as_tested(built: Mapping[str, Metric], monitor: str) -> dict[str, Metric]:
    """Return metrics with the names of the network that predicts: `ema_accuracy` if the monitor is of averages."""
    before = prefix(average_of(monitor))
    return {f"{before}{name}": metric for name, metric in built.items()}


def check_network(cfg: DictConfig, task: ClassificationTask, to_train: bool = True) -> None:
    """Run the network on a batch of zeros of each image size; that of training images only `to_train`.

    Raises:
        ValueError: it fails, or its output is not (B, K) logits.
    """
    keys = [key for key in ("_target_", "name", "num_classes") if key in cfg.model]
    model = ", ".join(f"model.{key}={cfg.model[key]}" for key in keys)
    full, evaluated = cfg.data.image_size, cfg.data.get("eval_image_size", cfg.data.image_size)
    sizes = {evaluated: f"data.eval_image_size={evaluated}"}
    if to_train:
        growing = image_sizes(cfg.data.get("progressive"), full)
        sizes |= dict.fromkeys(growing.of_epochs(), f"data.progressive.start={growing.first}") if growing else {}
        sizes[full] = f"data.image_size={full}"
    for size, setting in sizes.items():
        sanity_check.check_network(task.network, task.preprocess, size, cfg.num_classes, model, setting)


def check_batch(cfg: DictConfig, data: ImageDataModule, task: ClassificationTask, trainer: Trainer) -> None:
    """Warn about images that are left out, and about steps that are too few or not reached.

    Raises:
        ValueError: each device would get batches of one image, and the network has BatchNorm; or BatchNorm can't be
            synchronised.
    """
    world, keys = trainer.world_size, cfg.trainer
    if keys.sync_batchnorm:
        sanity_check.check_sync_batchnorm(world, trainer.strategy.root_device.type)
    batches, sizes = data.train_batches(trainer.global_rank, world), data.batch_sizes
    for key, size in (("data.batch_size", sizes.last), ("data.progressive.batch_size", sizes.first)):
        sanity_check.check_batch(task.network, size, world, synced=keys.sync_batchnorm and world > 1, key=key)
    epochs = run_length.run_length(cfg, batches.batches_of_epochs).epochs
    in_run = slice(epochs)
    sanity_check.check_epochs(trainer, run_length.limited(batches.batches_of_epochs[in_run], keys))
    sanity_check.warn_about_left_out_images(batches.size, sizes.of_epochs()[in_run], world)
    typed = (keys.fast_dev_run, keys.overfit_batches, keys.limit_train_batches is not None, keys.max_steps >= 0)
    if cfg.total_steps is not None and keys.max_steps > cfg.total_steps and not keys.fast_dev_run:
        log.warning(
            "trainer.max_steps=%d is not reached: trainer.max_epochs=%s ends the run after %d steps; "
            "with trainer.max_epochs=-1 only trainer.max_steps ends it",
            *(keys.max_steps, keys.max_epochs, cfg.total_steps),
        )
    if not any(typed):
        sanity_check.warn_about_growth(data.augment["train"].sizes, epochs, "images")
        sanity_check.warn_about_growth(sizes.of_epochs(), epochs, "batches")
        sanity_check.warn_about_few_steps(cfg.total_steps, data.batch_size, keys.max_epochs)


def warn_if_busy(trainer: Trainer) -> None:
    """Warn if a training on the CPU would probably be faster with fewer threads, because of other programs."""
    if trainer.strategy.root_device.type == "cpu":
        text = busy_warning(torch.get_num_threads(), trainer.num_devices, load_average(), os.cpu_count() or 1)
        if text:
            log.warning(text)


def check_validation(cfg: DictConfig, trainer: Trainer) -> None:
    """Raise ValueError if early stopping or a plateau schedule needs a validation that never happens."""
    sanity_check.check_validation(trainer, cfg.monitor, plateau=builds(cfg.scheduler, ReduceLROnPlateau))


def check_loss(task: ClassificationTask, data: ImageDataModule, splits: Collection[str]) -> None:
    """Raise ValueError if the task's loss can't handle the splits' labels, mixed for train (training/loss_check.py)."""
    unknown = [unknown_kind(data.splits[split].targets) for split in splits]
    loss_check.check_loss(task.loss, data.num_classes, max(unknown, key=UNKNOWN.index))
    if "train" in splits and data.task == "multiclass":
        loss_check.check_mixed(task.loss, task.mix, data.num_classes, data.image_size)


def check_metrics(cfg: DictConfig, data: ImageDataModule, splits: Iterable[str]) -> None:
    """Warn about metrics that count classes without an image in a split as wrong (training/metric_check.py).

    Raises:
        ValueError: a metric is for another kind of labels.
    """
    metric_check.check_accepted(metrics(cfg), data.task == "multilabel", data.num_classes)
    lacking = {}
    for split in splits:
        present = class_counts(data.splits[split].targets, data.num_classes)["present"]
        names = [name for name, count in zip(data.class_names, present, strict=True) if not count]
        if names:
            lacking[split] = f"{split} has no image of {class_means.shortened(names)}"
    if lacking:
        small = cfg.copy()
        small.num_classes = metric_check.CLASSES
        built = {}
        for name, node in small.metrics.items():
            with suppress(InstantiationException):  # its arguments may fit the data's number of classes only
                built[str(name)] = instantiate(node)
        built = {name: metric for name, metric in built.items() if metric is not None}
        metric_check.check_metrics(built, data.task == "multilabel", "; ".join(lacking.values()))


def _network(cfg: DictConfig) -> nn.Module:
    """Build the network in channels-last layout, the fastest for convolutions; L-BFGS can't flatten such gradients."""
    scale = OmegaConf.select(cfg, "cosine_scale")  # a run of an earlier version has no such key
    network = network_parts.network(cfg.model, cfg.class_names, scale)
    network = network if optimization_parts.is_lbfgs(cfg.optimizer) else network.to(memory_format=torch.channels_last)
    if cfg.freeze:
        freeze(network, cfg.freeze)
        if "started_from" not in cfg and not any(OmegaConf.select(cfg, key) for key in names("starts")):
            log.warning(
                "freeze=%s, but the network starts from random weights, so the frozen layers stay random. "
                "For trained weights: weights=<file>, or model.weights=DEFAULT if the model has them",
                cfg.freeze,
            )
    if OmegaConf.select(cfg, "gradient_checkpointing"):
        checkpoint_blocks(network)
    return network


def trainer(cfg: DictConfig, *, alone: bool = False) -> Trainer:
    """Build Lightning's Trainer with the run's callbacks and loggers.

    Args:
        cfg: the config.
        alone: for an evaluation: without loggers, and without callbacks except those that average weights or compile.
    """
    torch.use_deterministic_algorithms(False)  # Lightning keeps both settings from an earlier job of the sweep
    torch.backends.cudnn.benchmark = False
    callbacks = (
        [Progress(), *trainer_parts.averages(cfg), *trainer_parts.compiling(cfg)]
        if alone
        else trainer_parts.callbacks(cfg)
    )
    loggers = [] if alone else trainer_parts.loggers(cfg)
    parts: dict[str, Any] = {"callbacks": trainer_parts.wanted(callbacks, cfg.trainer, loggers), "logger": loggers}
    if OmegaConf.select(cfg, "data.progressive.batch_size"):
        parts["reload_dataloaders_every_n_epochs"] = 1  # Lightning then counts the batches of every epoch
    built = _trainer_of(cfg.trainer, parts)
    check_world(built.world_size)
    return built


def _trainer_of(keys: DictConfig, parts: dict[str, Any]) -> Trainer:
    """Build the Trainer with parts that replace `keys`; they include callbacks and loggers.

    Raises:
        ValueError: the machine lacks the accelerator or has fewer devices.
    """
    parts |= {
        "plugins": [*(instantiate(keys.plugins, _convert_="all") or []), SafeCheckpointIO()],
        # without a callback that saves, Lightning would add its own
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in parts["callbacks"]),
        "profiler": trainer_parts.profiler(keys.profiler),
    }
    try:
        built: Trainer = instantiate(keys, **parts, _convert_="all")
    except InstantiationException as error:
        if not isinstance(error.__cause__, MisconfigurationException):
            raise
        typed = f"trainer.accelerator={keys.accelerator} trainer.devices={keys.devices}"
        raise ValueError(
            f"{typed}: {error.__cause__}\nThis machine has {torch.cuda.device_count()} GPUs; trainer=cpu needs none"
        ) from error
    return built


def summary(cfg: DictConfig, data: ImageDataModule, task: ClassificationTask, trainer: Trainer) -> str:
    """Return lines about the data, the network, the batches and a scaled learning rate.

    Raises:
        ValueError: the batch size doesn't fit the data or the number of devices.
    """
    world = trainer.world_size
    batches = data.train_batches(trainer.global_rank, world)
    sizes = ", ".join(f"{len(index):,} {split}" for split, index in data.splits.items())
    parameters = sum(p.numel() for p in task.network.parameters())
    frozen = sum(p.numel() for p in task.network.parameters() if not p.requires_grad)
    device = trainer.strategy.root_device.type
    threads = torch.get_num_threads()
    of_threads = f" of {threads} thread{'s' * (threads > 1)}" if device == "cpu" else ""
    devices = f"{world} x {device}{of_threads}"
    scaled = optimization_parts.scaling_text(cfg)
    return (
        f"data: {sizes} images of {data.image_size} px"
        + (f", growing from {data.growing.first} px in {data.growing.epochs} epochs" if data.growing else "")
        + (f", evaluated at {data.eval_image_size} px" if data.eval_image_size != data.image_size else "")
        + f"; {data.num_classes} classes, {data.task}\n"
        f"network: {type(task.network).__name__}, {parameters:,} parameters"
        + (f", {frozen:,} of them frozen" if frozen else "")
        + f"; monitor {cfg.monitor} ({cfg.mode})\n"
        + _batches_text(batches, devices)
        + (f"\n{scaled}" if scaled else "")
    )


def _batches_text(batches: TrainBatchSampler, devices: str) -> str:
    sizes, counts = batches.batch_sizes, batches.batches_of_epochs
    change = "growing" if sizes.first < sizes.last else "shrinking"
    goes = f", {change} to {sizes.last:,} in {sizes.epochs} epochs," if sizes.first != sizes.last else ""
    left_out = {batches.size - count * size for count, size in zip(counts, sizes.of_epochs(), strict=True)}
    most = f"{'up to ' * (len(left_out) > 1)}{max(left_out)}"
    return (
        f"batch: {sizes.first:,}{goes} over {devices} = {from_to(batches.rank_batch_sizes)} each; "
        f"{from_to(counts)} batches an epoch"
        + (f", {most} images left out, different ones each epoch" if max(left_out) else "")
    )
