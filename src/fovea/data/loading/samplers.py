"""Samplers of the training images: an epoch's images and their order are a function of (seed, epoch) alone."""

import logging
import math
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fovea.data.index import Index
from fovea.data.loading.image_weights import read_image_weights
from fovea.data.random_numbers import derive_seed, uniforms

log = logging.getLogger(__name__)

CHUNK = 1 << 20
RANDOM_BITS = 43  # of a 63-bit sort key; the other 20 bits are the class, so there may be a million classes


class Sampler(Protocol):
    """Draws the images of an epoch; created from (index, class_names) of the training images and its own options."""

    def __len__(self) -> int:
        """The number of draws M, the same in every epoch."""

    def draw(self, seed: int, epoch: int) -> Tensor:
        """Return the epoch's images as positions in the index, (M,) int32 or int64; they may repeat."""


class Sequential:
    """Every image once, in the index's own order, in every epoch."""

    def __init__(self, index: Sized, class_names: Sequence[str] = ()) -> None:
        self.size = len(index)

    def __len__(self) -> int:
        return self.size

    def draw(self, seed: int, epoch: int) -> Tensor:
        return torch.arange(self.size, dtype=torch.int32)


class Shuffled(Sequential):
    """Every image once, in a random order."""

    def draw(self, seed: int, epoch: int) -> Tensor:
        return torch.randperm(self.size, generator=generator(seed, epoch), dtype=torch.int32)


class RepeatedAugmentation(Sequential):
    """N / repeats random images of N, each `repeats` times in a row with different augmentations.

    The copies of an image are in the same global batch (unless a batch ends between them), on different ranks.

    Source: Hoffer et al. 2020, https://arxiv.org/abs/1901.09335; epochs of N draws as in DeiT, Touvron et al. 2021,
    https://arxiv.org/abs/2012.12877. Deviation: DeiT pads the draws to a multiple of the number of ranks and cuts them
    to a multiple of 256; here nothing is padded, and an incomplete last batch is dropped.
    """

    def __init__(self, index: Sized, class_names: Sequence[str] = (), repeats: int = 3) -> None:
        """`repeats` is at least 1; at 1 this is Shuffled."""
        super().__init__(index)
        self.repeats = repeats

    def draw(self, seed: int, epoch: int) -> Tensor:
        images = torch.randperm(self.size, generator=generator(seed, epoch))[: -(-self.size // self.repeats)]
        return images.repeat_interleave(self.repeats)[: self.size]


class ClassBalanced:
    """Every class equally often: samples // K times each; the remaining draws go to the classes in turn.

    Within an epoch, no image repeats before all images of its class were drawn. A class with more images than its share
    continues with its other images in the next epochs, until fewer than a share are left; then it is shuffled again.

    A multi-label image counts for each class that is present, so classes that occur together with others are drawn more
    often than their share. Classes without images, and images without a present label, are never drawn.
    """

    def __init__(self, index: Index, class_names: Sequence[str], samples: int | None = None) -> None:
        """`samples` is the length of an epoch; None for the number of images.

        Raises:
            ValueError: no image has a label.
        """
        self.images, counts = images_by_class(index.targets, len(class_names))
        if not len(self.images):
            raise ValueError("sampler=class_balanced: no training image has a present label; use another sampler")
        warn_about_left_out(index.targets, counts, class_names)
        self.counts = counts[counts > 0]  # (K,) only classes with images from here on
        self.class_starts = self.counts.cumsum(0) - self.counts  # (K,) positions in `images`
        self.samples = len(index) if samples is None else samples

    def __len__(self) -> int:
        return self.samples

    def draw(self, seed: int, epoch: int) -> Tensor:
        shares = self._shares(seed, epoch)  # (K,)
        repeats, rest = shares // self.counts, shares % self.counts
        all_images = self.images.repeat_interleave(repeats.repeat_interleave(self.counts))
        random_images = self.images[self._random_positions(rest, seed, epoch)]
        draws = torch.cat([all_images, random_images])
        return draws[torch.randperm(len(draws), generator=generator(seed, epoch))]

    def _shares(self, seed: int, epoch: int) -> Tensor:
        """Return how often each class is drawn in this epoch, (K,); over all epochs, the classes take turns."""
        classes = len(self.counts)
        turns = torch.randperm(classes, generator=torch.Generator().manual_seed(derive_seed(seed)))
        before, after = ((e * self.samples - turns + classes - 1) // classes for e in (epoch, epoch + 1))
        return after - before

    def _random_positions(self, rest: Tensor, seed: int, epoch: int) -> Tensor:
        """Return random positions in `images`, `rest` (K,) of each class, which is fewer than the class has.

        A class is shuffled once for several epochs, each of which takes the next part of its images.
        """
        low, high = self.samples // len(self.counts), -(-self.samples // len(self.counts))  # the two possible shares
        part = torch.maximum(low % self.counts, high % self.counts).clamp(min=1)  # (K,) upper bound of `rest`
        epochs_per_shuffle = self.counts // part
        shuffled = self._shuffle_classes(epoch // epochs_per_shuffle, seed)
        return shuffled[ranges(self.class_starts + epoch % epochs_per_shuffle * part, rest)]

    def _shuffle_classes(self, rounds: Tensor, seed: int) -> Tensor:
        """Return all positions in `images`, class by class, shuffled within each class by seed and its round (K,)."""
        sort_keys = torch.arange(len(self.counts)).repeat_interleave(self.counts).mul_(1 << RANDOM_BITS)
        for start in range(0, len(sort_keys), CHUNK):
            chunk = sort_keys[start : start + CHUNK]
            row = torch.stack([rounds[chunk >> RANDOM_BITS], torch.arange(start, start + len(chunk))], 1)
            random = torch.from_numpy(uniforms(seed, row.numpy(), 1)[:, 0])
            chunk += (random * (1 << RANDOM_BITS)).long()
        return torch.from_numpy(np.argsort(sort_keys.numpy(), kind="stable"))  # stable: the same on every processor


class Weighted:
    """Draws images independently, with replacement, with a probability proportional to the image's weight.

    The weight is the product of the given options:
        power: (n_max / n) ** power, where n is the number of images of the class and n_max that of the largest class.
            1 draws all classes equally often in expectation; 0.5 is the square-root sampling of Mahajan et al. 2018,
            https://arxiv.org/abs/1805.00932.
        class_weights: the weight of the class; 1 for classes that are not given.
        file: the weight of the image, from a CSV file (see `read_image_weights`).

    A multi-label image has the largest weight of its present classes (as in Gupta et al. 2019,
    https://arxiv.org/abs/1908.03195); without a present label, its weight is 1, like that of the largest class.
    """

    def __init__(
        self,
        index: Index,
        class_names: Sequence[str],
        power: float | None = None,
        class_weights: Mapping[str, float] | None = None,
        file: str | None = None,
        samples: int | None = None,
    ) -> None:
        """`samples` is the length of an epoch; None for the number of images.

        Raises:
            ValueError: no option is given, a weight is negative or not a number, a class is unknown, `file` does not
                exist or lacks an image, or all weights are 0.
        """
        if power is None and class_weights is None and file is None:
            raise ValueError(
                "sampler=weighted needs weights: by class frequency: data.sampler.power=0.5; by class: "
                "'data.sampler.class_weights={cat: 2}';\nby image: data.sampler.file=<csv of path,weight>"
            )
        weights = weights_by_class(index.targets, class_names, power or 0.0, class_weights or {})
        if file is not None:
            weights *= read_image_weights(Path(file), index.paths)
        self.cumulative = weights.cumsum(0)  # (N,) float64
        if not 0 < self.cumulative[-1] < math.inf:
            raise ValueError(f"data.sampler: the images' weights sum to {self.cumulative[-1]}: give positive weights")
        excluded = int((weights == 0).sum())
        if excluded:
            log.info("%d of %d training images have weight 0 and are never drawn", excluded, len(weights))
        self.samples = len(index) if samples is None else samples

    def __len__(self) -> int:
        return self.samples

    def draw(self, seed: int, epoch: int) -> Tensor:
        random = generator(seed, epoch)
        values = torch.rand(self.samples, dtype=torch.float64, generator=random).mul_(self.cumulative[-1])
        values.numpy().sort()  # makes searchsorted several times faster; the draws are shuffled below
        draws = torch.searchsorted(self.cumulative, values, right=True)  # torch.multinomial is limited to 2 ** 24
        return draws[torch.randperm(self.samples, generator=random)]


def generator(seed: int, epoch: int) -> torch.Generator:
    """Return the random generator of an epoch."""
    return torch.Generator().manual_seed(derive_seed(seed, epoch))


def images_by_class(targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the images of each class, class by class (P,), and their number per class (classes,); both int64."""
    if targets.ndim == 1:
        return targets.argsort(stable=True), targets.bincount(minlength=classes)
    images, present = (targets == 1).nonzero(as_tuple=True)
    return images[present.argsort(stable=True)], present.bincount(minlength=classes)


def weights_by_class(
    targets: Tensor, class_names: Sequence[str], power: float, class_weights: Mapping[str, float]
) -> Tensor:
    """Return (n_max / n) ** power * class_weights[class], (N,) float64.

    A multi-label image gets the maximum over its present classes, and 1 without one.
    """
    weight_of = {str(name): weight for name, weight in class_weights.items()}  # YAML reads a class named 7 as a number
    unknown = [name for name in weight_of if name not in class_names]
    if unknown:
        known = ", ".join(class_names[:10])
        raise ValueError(f"data.sampler.class_weights: the data has no class {unknown[0]!r}; its classes are {known}")
    invalid = [f"{name}: {weight}" for name, weight in weight_of.items() if not 0 <= weight < math.inf]
    if invalid:
        raise ValueError(f"data.sampler.class_weights: {invalid[0]}: a weight must be a number >= 0")
    images, counts = images_by_class(targets, len(class_names))
    factors = torch.tensor([weight_of.get(name, 1.0) for name in class_names], dtype=torch.float64)
    factors *= (counts.max() / counts.clamp(min=1).double()) ** power  # (K,)
    ones = torch.ones(len(targets), dtype=torch.float64)
    return ones.scatter_reduce_(0, images, factors.repeat_interleave(counts), "amax", include_self=False)


def warn_about_left_out(targets: Tensor, counts: Tensor, class_names: Sequence[str]) -> None:
    """Warn about classes and images that class-balanced sampling never draws; `counts` (K,) are images per class."""
    empty = [name for name, count in zip(class_names, counts.tolist(), strict=True) if not count]
    if empty:
        examples = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        log.warning("class-balanced sampling leaves out %d classes without a training image: %s", len(empty), examples)
    unlabeled = int((~(targets == 1).any(1)).sum()) if targets.ndim == 2 else 0
    if unlabeled:
        log.warning(
            "class-balanced sampling never draws %d of %d images: they have no present label", unlabeled, len(targets)
        )


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate the ranges starts[i], starts[i] + 1, ..., starts[i] + lengths[i] - 1; all int64."""
    offsets = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + (starts - offsets).repeat_interleave(lengths)
