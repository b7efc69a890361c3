"""Chooses images of a split to look at, and reads them whole and as the network gets them."""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from fovea.data.loading.batch_samplers import occurrences_before
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.decode import UnreadableImage
from fovea.data.store.encode import shrink, upright_size


def choose(targets: Tensor, count: int, seed: int) -> list[int]:
    """Return the positions of up to `count` random images, ordered by class.

    With one label for each image no class is chosen twice before every class is chosen once.

    Args:
        targets: (N,) class indices, or (N, K) labels.
        count: >= 0.
        seed: the result depends on the arguments alone.
    """
    if targets.ndim == 2 or not len(targets):
        return choose_any(len(targets), count, seed)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    earlier = occurrences_before(targets[order].long())  # (N,) images of the same class before each image
    chosen = order[earlier.argsort(stable=True)[:count]].sort().values
    return chosen[targets[chosen].argsort(stable=True)].tolist()


def choose_any(images: int, count: int, seed: int) -> list[int]:
    """Return the positions of up to `count` of N `images`, all equally likely, in rising order."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values.tolist()


def whole(dataset: ImageDataset, position: int, side: int) -> Tensor | None:
    """Return the whole image, its long side shrunk to at most `side`: (3, H, W) uint8; None if it is unreadable."""
    try:
        return shrink(dataset.pixels(position), None, side)
    except UnreadableImage:
        return None


def as_trained(dataset: ImageDataset, position: int, epochs: int, side: int) -> list[Tensor]:
    """Return what the network gets of an image in each of the first epochs, shrunk to at most `side` pixels.

    Args:
        dataset: its augmentation is applied, with its seed.
        position: the image's number in the index.
        epochs: the number of results, each (3, S, S) uint8.
        side: of the results.

    Raises:
        UnreadableImage: the image cannot be read, and the dataset does not skip it.
    """
    batches = [dataset.__getitems__([(epoch, position, 0)]) for epoch in range(epochs)]
    return [shrink(image, None, side) for batch in batches for image in batch.images]


def sizes(dataset: ImageDataset, positions: Sequence[int]) -> Tensor:
    """Return upright heights and widths (n, 2) int64 of the images whose header can be read; nothing is decoded."""
    found: list[tuple[int, ...]] = []
    for position in positions:
        with suppress(UnreadableImage):
            image = dataset.read(position)
            found.append(tuple(image.shape[1:]) if isinstance(image, Tensor) else upright_size(image, ""))
    return torch.tensor(found, dtype=torch.long).view(-1, 2)
