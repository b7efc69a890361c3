"""What would fail or do nothing in a training is found before it begins."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

log = logging.getLogger(__name__)
BATCH = 2  # images; BatchNorm can't be trained on one
FEW_STEPS = 100  # of the optimizer, in a whole run


def check_validation(trainer: Trainer, monitor: str, plateau: bool) -> None:
    """Refuse what follows a figure of the validation where there is none, and warn that no best checkpoint is kept.

    Args:
        trainer: with its callbacks.
        monitor: what a plateau schedule follows.
        plateau: whether the schedule is one.

    Raises:
        ValueError: naming what follows such a figure, and the setting that leaves the validation out.
    """
    why = _no_validation(trainer)
    if why is None:
        return
    stopping = [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]  # type: ignore[attr-defined]
    follow = [f"early stopping follows {c.monitor}" for c in stopping if c.monitor.startswith("val/")]
    follow += [f"the plateau schedule follows {monitor}"] * (plateau and monitor.startswith("val/"))
    if follow:
        raise ValueError(f"{follow[0]}, and {why} leaves no validation: change that, or monitor a figure of train/")
    keepers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    unknown = sorted({keeper.monitor for keeper in keepers if keeper.monitor and keeper.monitor.startswith("val/")})
    if unknown:
        log.warning("%s leaves no validation: no checkpoint is kept as the best by %s", why, ", ".join(unknown))


def _no_validation(trainer: Trainer) -> str | None:
    """The settings with which no validation comes, or None."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    if trainer.limit_val_batches == 0:
        return "trainer.limit_val_batches=0"
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if every is not None and epochs is not None and 0 <= epochs < every:
        return f"trainer.check_val_every_n_epoch={every} with trainer.max_epochs={epochs}"
    return None


def check_batch(network: nn.Module, batch_size: int, world_size: int, synced: bool) -> None:
    """Refuse to train BatchNorm on one image at a time. Layers in evaluation mode, which are frozen, don't mind.

    Args:
        batch_size: over all devices.
        synced: whether BatchNorm's statistics are over all devices.

    Raises:
        ValueError: naming the first such layer, and the batch size that will do.
    """
    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [name for name, module in network.named_modules() if isinstance(module, kind) and module.training]
    if not norms or synced or batch_size > world_size:
        return
    raise ValueError(
        f"data.batch_size={batch_size} is one image on each of {world_size} devices, and the network has BatchNorm "
        f"({norms[0]}), which normalises by the statistics of several images\n"
        f"Give each device two or more: data.batch_size={2 * world_size} (trainer.accumulate_grad_batches doesn't help)"
    )


def say_left_out(images: int, batch_size: int, world_size: int) -> None:
    """Warn where more than an eighth of an epoch's images doesn't fill a batch."""
    left_out = images % batch_size
    if 8 * left_out <= images:
        return
    near = range(batch_size, batch_size // 2, -1)
    best = min((size for size in near if size % world_size == 0), key=lambda size: images % size)
    log.warning(
        "%d of %d training images are left out of each epoch, as they don't fill a batch (others each time): "
        "data.batch_size=%d leaves out %d",
        *(left_out, images, best, images % best),
    )


def say_few_steps(steps: int | None, batch_size: int, epochs: int | None) -> None:
    """Warn where the whole run has less than FEW_STEPS optimizer steps."""
    if steps is None or not epochs or steps >= FEW_STEPS:
        return
    more = -(-FEW_STEPS * epochs // max(1, steps))
    log.warning(
        "the whole run has %d optimizer steps, few to learn from. For more: trainer.max_epochs=%d (%d now), "
        "or a smaller batch than data.batch_size=%d",
        *(steps, more, epochs, batch_size),
    )


def check_network(network: nn.Module, preprocess: nn.Module, image_size: int, num_classes: int, model: str) -> None:
    """Pass a batch of zeros through the network; its statistics and the random state stay as they are.

    Args:
        network: in training mode its training outputs are looked at.
        preprocess: (B, 3, H, W) uint8 -> the network's input.
        image_size: height and width, in pixels.
        num_classes: that the logits must be for.
        model: the config's keys of the network, for the error.

    Raises:
        ValueError: the network can't take such images, or doesn't give logits (B, num_classes).
    """
    images = torch.zeros(BATCH, 3, image_size, image_size, dtype=torch.uint8)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _unchanged(network):
            output = network(preprocess(images))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ValueError(
            f"the network fails on a batch of images with 3 channels and {image_size} x {image_size} pixels: "
            f"{type(error).__name__}: {first}\nchange data.image_size={image_size} or the network: {model}"
        ) from error
    if isinstance(output, Tensor) and output.shape == (BATCH, num_classes):
        return
    given = f"a {type(output).__name__}"
    if isinstance(output, Tensor):
        shape = list(output.shape)
        given = f"(B, {', '.join(map(str, shape[1:]))})" if len(shape) > 1 and shape[0] == BATCH else str(shape)
    raise ValueError(
        f"the network gives {given}, and logits (B, {num_classes}) are needed, one for each class of the data\n"
        f"check model.num_classes, and that no auxiliary heads are on: {model}"
    )


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Put the buffers back at the end: BatchNorm's statistics follow what it sees."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if name in before:
                    buffer.copy_(before[name])
