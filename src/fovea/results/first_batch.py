"""Makes a training's first batch again, as it entered the network, to be looked at in the report and in TensorBoard."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.pixels.normalize import Normalize
from fovea.task import ClassificationTask
from fovea.training.step_seed import seed_step

MOST = 16  # images


class Entered(NamedTuple):
    """Images (B, 3, H, W) uint8 as they can be looked at, and what their targets say, as text."""

    images: Tensor
    labels: list[str]


@torch.no_grad()
def entered(task: ClassificationTask, data: ImageDataModule) -> Entered:
    """Return the first MOST images of rank 0's first batch, after augmentation, preprocessing and mixing.

    With mixing the whole batch is made, because each image is combined with another one. Random states are not changed.
    Images that can't be read are left out.
    """
    mixes = not isinstance(task.mixing, v2.Identity)
    batch, device = _augmented(data, None if mixes else MOST), task.device
    if not len(batch.images):
        return Entered(batch.images, [])
    gpus = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(gpus, device_type=device.type if gpus else "cuda"):
        seed_step(task.seed, 0, 0, device)
        images, target = task.mix(task.preprocess(batch.images.to(device)), batch.targets.to(device))
    labels = [_label_text(row, data.class_names) for row in target[:MOST].cpu()]
    return Entered(_visible(images[:MOST], task.preprocess), labels)


def _augmented(data: ImageDataModule, most: int | None) -> Batch:
    batches = data.train_batches(0, data.trainer.world_size if data.trainer else 1)
    batches.start_at(0, 0)
    dataset = ImageDataset(data.splits["train"], data.augment["train"], data.seed, "skip", data.background)
    return dataset.__getitems__(next(iter(batches))[:most])


def _visible(images: Tensor, preprocess: nn.Module) -> Tensor:
    """Return (B, 3, H, W) uint8 of the network's input: the inverse of Normalize, or the range of other inputs."""
    if isinstance(preprocess, Normalize):
        images = images * preprocess.std + preprocess.mean
    else:
        images = 255 * (images - images.amin()) / (images.amax() - images.amin()).clamp(min=1e-6)
    return images.round().clamp(0, 255).to(torch.uint8).cpu()


def _label_text(target: Tensor, names: Sequence[str]) -> str:
    """Return the class name, or the names with their shares if they are mixed, or those of several labels."""
    if target.ndim == 0:
        return names[int(target)]
    present = [(float(share), name) for share, name in zip(target, names, strict=True) if share > 0]
    return ", ".join(name if share == 1 else f"{name} {share:.2f}" for share, name in sorted(present, reverse=True))
