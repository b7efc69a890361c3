"""Progressive resizing: training images grow with the epoch, which makes the first epochs of a training faster.

Sources: Howard 2018, https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html; Tan and Le 2021 (EfficientNetV2),
https://arxiv.org/abs/2104.00298, without their growing regularization.
"""

from collections.abc import Mapping
from typing import Any


class GrowingSize:
    """The image size of an epoch: a function of the epoch alone, so that a resumed run goes on with the same sizes.

    start + step * round((full - start) * epoch / epochs / step), at most full; full from epoch `epochs` on.
    """

    def __init__(self, start: int, full: int, epochs: int, step: int = 32) -> None:
        """Args:
        start: pixels in the first epoch.
        full: pixels from epoch `epochs` on.
        epochs: the number of epochs before the full size.
        step: the difference between two sizes, except before the last.

        Raises:
            ValueError: start is not below full, or a number is not positive.
        """
        if not 0 < start < full or epochs < 1 or step < 1:
            raise ValueError(
                "growing images need 0 < start < full, epochs >= 1 and step >= 1, not "
                f"{start=}, {full=}, {epochs=}, {step=}"
            )
        self.start, self.full, self.epochs, self.step = start, full, epochs, step

    def __call__(self, epoch: int) -> int:
        """Return the image size of the epoch, counted from 0."""
        if epoch >= self.epochs:
            return self.full
        steps = round((self.full - self.start) * epoch / self.epochs / self.step)
        return min(self.full, self.start + self.step * steps)

    def sizes(self) -> list[int]:
        """Return all sizes, in rising order."""
        return sorted({self(epoch) for epoch in range(self.epochs + 1)})


def growing_size(options: Mapping[str, Any] | None, full: int) -> GrowingSize | None:
    """Return the sizes for the section `data.progressive`; None if it is missing or its `start` is null."""
    if not options or options["start"] is None:
        return None
    return GrowingSize(options["start"], full, options["epochs"], options["step"])
