"""What an epoch consists of: orders of the training images, each a function of (seed, epoch) alone."""

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
from fovea.data.random_numbers import mix, uniforms

log = logging.getLogger(__name__)

CHUNK = 1 << 20
RANDOM_BITS = 43  # of a sorting key of 63; the rest tells up to a million classes apart


class Order(Protocol):
    """The images of an epoch. An order is made from (index, class_names) of the training images and its options."""

    def __len__(self) -> int:
        """M, the same for every epoch."""

    def draw(self, seed: int, epoch: int) -> Tensor:
        """(M,) int32 or int64 places in the index; one may come several times."""


class InOrder:
    """Every image once, in the index's own order, in every epoch."""

    def __init__(self, index: Sized, class_names: Sequence[str] = ()) -> None:
        self.size = len(index)

    def __len__(self) -> int:
        return self.size

    def draw(self, seed: int, epoch: int) -> Tensor:
        return torch.arange(self.size, dtype=torch.int32)


class Shuffled(InOrder):
    """Every image once, in a random order."""

    def draw(self, seed: int, epoch: int) -> Tensor:
        return torch.randperm(self.size, generator=generator(seed, epoch), dtype=torch.int32)


class RepeatedAugmentation(InOrder):
    """N / repeats random images of N, each `repeats` times in a row, differently augmented.

    So the copies of an image meet in a global batch (but for the few that its end divides), on different ranks.

    Source: Hoffer et al. 2020, https://arxiv.org/abs/1901.09335; an epoch of N draws is DeiT's, Touvron et al. 2021,
    https://arxiv.org/abs/2012.12877. Deviation: DeiT pads the draws to a multiple of the number of ranks and cuts them
    to a multiple of 256; here nothing is padded, and what doesn't fill a batch is left out.
    """

    def __init__(self, index: Sized, class_names: Sequence[str] = (), repeats: int = 3) -> None:
        """`repeats` is at least 1; at 1 this is Shuffled."""
        super().__init__(index)
        self.repeats = repeats

    def draw(self, seed: int, epoch: int) -> Tensor:
        images = torch.randperm(self.size, generator=generator(seed, epoch))[: -(-self.size // self.repeats)]
        return images.repeat_interleave(self.repeats)[: self.size]


class ClassBalanced:
    """Every class equally often: samples // K times, and where that leaves a rest, once more by turns.

    Within an epoch no image of a class comes twice before all of them came once. A class with more images than its
    share goes on with others in the next epoch, until fewer are left than a share; then it begins anew.

    An image of several labels stands for each class that is present, so that classes come more often than their share
    where they accompany others. Classes without an image, and images without a label present, are left out.
    """

    def __init__(self, index: Index, class_names: Sequence[str], samples: int | None = None) -> None:
        """`samples` is the length of an epoch; None for the number of images.

        Raises:
            ValueError: no image has a label.
        """
        self.images, counts = images_by_class(index.targets, len(class_names))
        if not len(self.images):
            raise ValueError("class-balanced sampling: no training image has a label that is present")
        say_left_out(index.targets, counts, class_names)
        self.counts = counts[counts > 0]  # (K,) from here on of classes with images
        self.firsts = self.counts.cumsum(0) - self.counts  # (K,) where in `images` a class begins
        self.samples = len(index) if samples is None else samples

    def __len__(self) -> int:
        return self.samples

    def draw(self, seed: int, epoch: int) -> Tensor:
        shares = self._shares(seed, epoch)  # (K,)
        whole, part = shares // self.counts, shares % self.counts
        all_of_them = self.images.repeat_interleave(whole.repeat_interleave(self.counts))
        some = self.images[self._some(part, seed, epoch)]
        draws = torch.cat([all_of_them, some])
        return draws[torch.randperm(len(draws), generator=generator(seed, epoch))]

    def _shares(self, seed: int, epoch: int) -> Tensor:
        """(K,) How often each class is drawn: dealt out one by one, round after round, over all epochs."""
        classes = len(self.counts)
        turns = torch.randperm(classes, generator=torch.Generator().manual_seed(mix(seed)))
        before, after = ((e * self.samples - turns + classes - 1) // classes for e in (epoch, epoch + 1))
        return after - before

    def _some(self, part: Tensor, seed: int, epoch: int) -> Tensor:
        """Random places in `images`, `part` (K,) of each class: fewer than it has.

        A class of n images is put into a random order that serves for n // part epochs, the next part of it for each.
        """
        less, more = self.samples // len(self.counts), -(-self.samples // len(self.counts))  # the shares that there are
        most = torch.maximum(less % self.counts, more % self.counts).clamp(min=1)  # (K,) that `part` ever is
        serves = self.counts // most
        shuffled = self._shuffled_within(epoch // serves, seed)
        return shuffled[ranges(self.firsts + epoch % serves * most, part)]

    def _shuffled_within(self, rounds: Tensor, seed: int) -> Tensor:
        """All places in `images`, class by class, in an order that follows from the class's one of `rounds` (K,)."""
        keys = torch.arange(len(self.counts)).repeat_interleave(self.counts).mul_(1 << RANDOM_BITS)
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            row = torch.stack([rounds[chunk >> RANDOM_BITS], torch.arange(start, start + len(chunk))], 1)
            random = torch.from_numpy(uniforms(seed, row.numpy(), 1)[:, 0])
            chunk += (random * (1 << RANDOM_BITS)).long()
        return torch.from_numpy(np.argsort(keys.numpy(), kind="stable"))  # else ties differ from processor to processor


class Weighted:
    """Drawn independently, with replacement, with a probability proportional to the image's weight.

    The weight is the product of what is given:
        power: (n_max / n) ** power, n being the images of its class and n_max those of the largest. 1 draws the
            classes equally often in expectation, 0.5 is the square-root sampling of Mahajan et al. 2018,
            https://arxiv.org/abs/1805.00932.
        class_weights: its class's; 1 for a class that is not named.
        file: its own, from a CSV file (see `read_image_weights`).

    An image of several labels counts as the class present that weighs most (as in Gupta et al. 2019,
    https://arxiv.org/abs/1908.03195), one without a label present weighs 1, as images of the largest class do.
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
            ValueError: nothing is given to weigh by, a weight is negative or no number, a class is unknown, `file` is
                not there or lacks an image, or all weights are 0.
        """
        if power is None and class_weights is None and file is None:
            raise ValueError(
                "sampler=weighted: weigh by what? By class frequency: data.sampler.power=0.5; by class: "
                "'data.sampler.class_weights={cat: 2}';\nby image: data.sampler.file=<csv of path,weight>"
            )
        weights = weights_by_class(index.targets, class_names, power or 0.0, class_weights or {})
        if file is not None:
            weights *= read_image_weights(Path(file), index.paths)
        self.ends = weights.cumsum(0)  # (N,) float64: image n owns what lies between ends[n - 1] and ends[n]
        if not 0 < self.ends[-1] < math.inf:
            raise ValueError(f"data.sampler: the images' weights sum to {self.ends[-1]}: nothing can be drawn by them")
        never = int((weights == 0).sum())
        if never:
            log.info("%d of %d training images have weight 0 and are never drawn", never, len(weights))
        self.samples = len(index) if samples is None else samples

    def __len__(self) -> int:
        return self.samples

    def draw(self, seed: int, epoch: int) -> Tensor:
        random = generator(seed, epoch)
        places = torch.rand(self.samples, dtype=torch.float64, generator=random).mul_(self.ends[-1])
        places.numpy().sort()  # they are found several times faster; their order is drawn below
        draws = torch.searchsorted(self.ends, places, right=True)  # torch.multinomial ends at 2 ** 24 images
        return draws[torch.randperm(self.samples, generator=random)]


def generator(seed: int, epoch: int) -> torch.Generator:
    """What an epoch's order is drawn from."""
    return torch.Generator().manual_seed(mix(seed, epoch))


def images_by_class(targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Class by class the images in which it is present (P,), and how many these are (classes,); both int64."""
    if targets.ndim == 1:
        return targets.argsort(stable=True), targets.bincount(minlength=classes)
    images, present = (targets == 1).nonzero(as_tuple=True)
    return images[present.argsort(stable=True)], present.bincount(minlength=classes)


def weights_by_class(
    targets: Tensor, class_names: Sequence[str], power: float, class_weights: Mapping[str, float]
) -> Tensor:
    """(N,) float64: (n_max / n) ** power * class_weights[class]; the largest of an image's classes, 1 without one."""
    named = {str(name): weight for name, weight in class_weights.items()}  # a class called 7 is typed as a number
    strange = [name for name in named if name not in class_names]
    if strange:
        there = ", ".join(class_names[:10])
        raise ValueError(f"data.sampler.class_weights: there is no class {strange[0]!r} in the data. There are {there}")
    wrong = [f"{name}: {weight}" for name, weight in named.items() if not 0 <= weight < math.inf]
    if wrong:
        raise ValueError(f"data.sampler.class_weights: {wrong[0]}: a weight is a number from 0 on")
    images, counts = images_by_class(targets, len(class_names))
    factors = torch.tensor([named.get(name, 1.0) for name in class_names], dtype=torch.float64)
    factors *= (counts.max() / counts.clamp(min=1).double()) ** power  # (K,)
    ones = torch.ones(len(targets), dtype=torch.float64)
    return ones.scatter_reduce_(0, images, factors.repeat_interleave(counts), "amax", include_self=False)


def say_left_out(targets: Tensor, counts: Tensor, class_names: Sequence[str]) -> None:
    """Warn of what class-balanced sampling never draws; `counts` (K,) are the classes' images."""
    empty = [name for name, count in zip(class_names, counts.tolist(), strict=True) if not count]
    if empty:
        some = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        log.warning("class-balanced sampling leaves out %d classes without a training image: %s", len(empty), some)
    without = int((~(targets == 1).any(1)).sum()) if targets.ndim == 2 else 0
    if without:
        log.warning(
            "class-balanced sampling never draws %d of %d images: no label of theirs is present", without, len(targets)
        )


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """starts[0], starts[0] + 1, ... (lengths[0] of them), starts[1], ...; all int64."""
    begins = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + (starts - begins).repeat_interleave(lengths)
