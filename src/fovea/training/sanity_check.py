"""Checks before a training for settings that would fail later or have no effect."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

log = logging.getLogger(__name__)
BATCH = 2  # images; BatchNorm can't be trained on one
FEW_STEPS = 100  # optimizer steps in the whole run


def check_validation(trainer: Trainer, monitor: str, plateau: bool) -> None:
    """Check that there is a validation if something depends on its figures.

    Without one, warn that no best checkpoint is saved.

    Args:
        trainer: with its callbacks.
        monitor: the figure that a plateau schedule follows.
        plateau: whether the schedule is a plateau schedule.

    Raises:
        ValueError: early stopping or a plateau schedule follows a validation figure, but there is no validation.
    """
    setting = _no_validation(trainer)
    if setting is None:
        return
    stopping = [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]  # type: ignore[attr-defined]
    follow = [f"early stopping follows {c.monitor}" for c in stopping if c.monitor.startswith("val/")]
    follow += [f"the plateau schedule follows {monitor}"] * (plateau and monitor.startswith("val/"))
    if follow:
        raise ValueError(f"{follow[0]}, but {setting} disables validation: change that, or monitor a train/ figure")
    savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    monitors = sorted({saver.monitor for saver in savers if saver.monitor and saver.monitor.startswith("val/")})
    if monitors:
        log.warning("%s disables validation: no best checkpoint is saved by %s", setting, ", ".join(monitors))


def _no_validation(trainer: Trainer) -> str | None:
    """Return the settings that disable validation, or None."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches=0"
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if every is not None and epochs is not None and 0 <= epochs < every:
        return f"trainer.check_val_every_n_epoch={every} with trainer.max_epochs={epochs}"
    return None


def check_batch(
    network: nn.Module, batch_size: int, world_size: int, synced: bool, key: str = "data.batch_size"
) -> None:
    """Check that BatchNorm is not trained on one image at a time. Frozen layers, in evaluation mode, are no problem.

    Args:
        batch_size: over all devices.
        synced: whether BatchNorm's statistics are computed over all devices.
        key: the key of the config that has the batch size, for the error.

    Raises:
        ValueError: a device has one image per batch, and the network has a trainable BatchNorm layer.
    """
    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [name for name, module in network.named_modules() if isinstance(module, kind) and module.training]
    if not norms or synced or batch_size > world_size:
        return
    raise ValueError(
        f"{key}={batch_size} is one image on each of {world_size} devices, and the network has BatchNorm "
        f"({norms[0]}), which needs the statistics of several images\n"
        f"Give each device two or more: {key}={2 * world_size} (trainer.accumulate_grad_batches doesn't help)"
    )


def check_sync_batchnorm(world_size: int, device: str) -> None:
    """Check that BatchNorm can be synchronised over the devices; warn if there is only one.

    Args:
        world_size: the number of devices.
        device: their type, as torch names it.

    Raises:
        ValueError: the devices are CPU processes, for which torch has no synchronised BatchNorm.
    """
    if world_size == 1:
        log.warning("trainer.sync_batchnorm=true has no effect on one device: BatchNorm sees the whole batch")
    elif device == "cpu":
        raise ValueError(
            f"trainer.sync_batchnorm=true on {world_size} CPU processes: torch synchronises BatchNorm on GPUs only: "
            "type trainer.sync_batchnorm=false"
        )


def check_epochs(trainer: Trainer, batches: Sequence[int]) -> None:
    """Check that no epoch is too short for the trainer, which would stop there with an error of its own.

    Args:
        trainer: with its limits and validations.
        batches: of each epoch of the run, limited.

    Raises:
        ValueError: trainer.limit_train_batches leaves an epoch no batch, or an epoch ends before its first validation.
    """
    epoch, least = min(enumerate(batches, start=1), key=lambda pair: pair[1])
    named = f"epoch {epoch}" if len(set(batches)) > 1 else "an epoch"
    if not least and trainer.limit_train_batches:
        raise ValueError(
            f"trainer.limit_train_batches={trainer.limit_train_batches} leaves no batch of {named}: "
            "raise it, or lower the batch size"
        )
    every = trainer.val_check_interval
    if isinstance(every, int) and every > least and trainer.check_val_every_n_epoch and trainer.limit_val_batches:
        raise ValueError(
            f"trainer.val_check_interval={every} is a number of batches, but {named} has only {least}: lower it, or "
            "count over all epochs with trainer.check_val_every_n_epoch=null"
        )


def warn_about_left_out_images(images: int, batch_sizes: Sequence[int], world_size: int) -> None:
    """Warn if more than an eighth of the training images is left out of an epoch because it doesn't fill a batch.

    Args:
        images: of the training.
        batch_sizes: of each epoch, over all devices.
        world_size: the number of devices.
    """
    batch_size = max(batch_sizes, key=lambda size: images % size)
    left_out = images % batch_size
    if 8 * left_out <= images:
        return
    if len(set(batch_sizes)) > 1:
        log.warning(
            "%d of %d training images are left out of an epoch with batches of %d, as they don't fill a batch "
            "(different ones each time): choose another data.batch_size or data.progressive.batch_size",
            *(left_out, images, batch_size),
        )
        return
    sizes = range(batch_size, batch_size // 2, -1)
    best = min((size for size in sizes if size % world_size == 0), key=lambda size: images % size)
    log.warning(
        "%d of %d training images are left out of each epoch, as they don't fill a batch (different ones each time): "
        "data.batch_size=%d leaves out %d",
        *(left_out, images, best, images % best),
    )


def warn_about_growth(sizes: Sequence[int], epochs: int | None, what: str) -> None:
    """Warn if a run ends before its images or batches have their full size.

    Args:
        sizes: of each epoch; the last one is the full size, which all later epochs have.
        epochs: of the run; None: it has no end.
        what: has the sizes, for the message.
    """
    if epochs and epochs < len(sizes) and sizes[epochs - 1] != sizes[-1]:
        log.warning(
            "data.progressive.epochs=%d, but the run ends after %d, with %s of %d instead of %d: lower "
            "data.progressive.epochs, or raise trainer.max_epochs",
            *(len(sizes) - 1, epochs, what, sizes[epochs - 1], sizes[-1]),
        )


def warn_about_few_steps(steps: int | None, batch_size: int, epochs: int | None) -> None:
    """Warn if the whole run has fewer than FEW_STEPS optimizer steps."""
    if steps is None or not epochs or steps >= FEW_STEPS:
        return
    more = -(-FEW_STEPS * epochs // max(1, steps))
    log.warning(
        "the whole run has only %d optimizer steps. For more steps: trainer.max_epochs=%d (now %d), "
        "or a smaller batch than data.batch_size=%d",
        *(steps, more, epochs, batch_size),
    )


def check_network(
    network: nn.Module, preprocess: nn.Module, image_size: int, num_classes: int, model: str, setting: str
) -> None:
    """Check the network with a batch of zeros, without changing its statistics or the random state.

    Args:
        network: in the mode in which it is trained.
        preprocess: (B, 3, H, W) uint8 -> the network's input.
        image_size: height and width, in pixels.
        num_classes: K, the expected number of logits.
        model: the network's keys and values in the config, for the error.
        setting: the key and value in the config that the image size follows from, for the error.

    Raises:
        ValueError: the network fails on such images, or doesn't return logits (B, num_classes).
    """
    images = torch.zeros(BATCH, 3, image_size, image_size, dtype=torch.uint8)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _unchanged(network):
            output = network(preprocess(images))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ValueError(
            f"the network fails on a batch of images with 3 channels and {image_size} x {image_size} pixels: "
            f"{type(error).__name__}: {first}\nchange {setting}{_usual_size(network)} or the network: {model}"
        ) from error
    if isinstance(output, Tensor) and output.shape == (BATCH, num_classes):
        return
    description = f"a {type(output).__name__}"
    if isinstance(output, Tensor):
        shape = list(output.shape)
        description = f"(B, {', '.join(map(str, shape[1:]))})" if len(shape) > 1 and shape[0] == BATCH else str(shape)
    raise ValueError(
        f"the network returns {description}, but must return logits (B, {num_classes}), one for each class\n"
        f"check model.num_classes, and that auxiliary heads are off: {model}"
    )


def _usual_size(network: nn.Module) -> str:
    """Return the size for which timm publishes a network, which timm's networks know, as words for an error."""
    size = dict(getattr(network, "pretrained_cfg", {})).get("input_size")
    return f" (usual for it: {size[-1]})" if size else ""


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Restore the network's buffers at the end, as a forward pass changes BatchNorm's statistics."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if name in before:
                    buffer.copy_(before[name])
