"""Progressive resizing: the image size and the batch size of a training as functions of the epoch alone.

Sources: of images: Howard 2018, https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html; Tan and Le 2021
(EfficientNetV2), https://arxiv.org/abs/2104.00298, without their growing regularization. Of batches: Smith et al. 2018,
https://arxiv.org/abs/1711.00489. Deviation: batches grow in equal steps, not by a factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progression:
    """A number that goes from one value to another, as a function of the epoch alone: a resumed run goes on with it.

    first + step * round((last - first) * epoch / epochs / step), but never beyond last; last from epoch `epochs` on.

    Attributes:
        first: in the first epoch.
        last: from epoch `epochs` on; it may be below `first`.
        epochs: >= 0; with 0, every epoch has `last`.
        step: the difference between two values, >= 1, except before `last`.
    """

    first: int
    last: int
    epochs: int = 0
    step: int = 1

    def __call__(self, epoch: int) -> int:
        """Return the value of the epoch, counted from 0."""
        if epoch >= self.epochs:
            return self.last
        value = self.first + self.step * round((self.last - self.first) * epoch / self.epochs / self.step)
        return min(value, self.last) if self.last > self.first else max(value, self.last)

    def of_epochs(self) -> list[int]:
        """Return the value of each epoch; the last one holds for all later epochs."""
        return [self(epoch) for epoch in range(self.epochs + 1)]


def from_to(values: Sequence[int]) -> str:
    """Return "<first> to <last>" for the values of all epochs, or the only one if both are the same."""
    return f"{values[-1]:,}" if values[0] == values[-1] else f"{values[0]:,} to {values[-1]:,}"


def image_sizes(options: Mapping[str, Any] | None, full: int) -> Progression | None:
    """Return the sizes for the section `data.progressive`; None if it is missing or its `start` is null.

    Raises:
        ValueError: start is not below the full size, or a number is not positive.
    """
    if not options or options["start"] is None:
        return None
    start, epochs, step = (options[key] for key in ("start", "epochs", "step"))
    if not 0 < start < full or epochs < 1 or step < 1:
        raise ValueError(
            "growing images need 0 < start < full, epochs >= 1 and step >= 1, not "
            f"{start=}, {full=}, {epochs=}, {step=}"
        )
    return Progression(start, full, epochs, step)


def batch_sizes(options: Mapping[str, Any] | None, full: int) -> Progression:
    """Return the global batch sizes for the section `data.progressive` and data.batch_size, `full`.

    They change by the smaller one of the first and the full batch, so that the devices that can share both can share
    every batch between them too.
    """
    first = options.get("batch_size") if options else None  # missing in runs of earlier versions
    if first is None:
        return Progression(full, full)
    assert options is not None
    return Progression(first, full, options["epochs"], step=min(first, full))
