"""A trained network that another network learns from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Teacher:
    """Computes a trained network's logits, without gradients, for images as another network gets them.

    It is not a module: assigned to one it would be among its parameters, and so in its checkpoints. It follows the
    images to their device and number format.
    """

    def __init__(
        self, network: nn.Module, image_size: int | None = None, rescale: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Args:
        network: images -> logits (B, K); it is frozen, and its layers run in evaluation mode.
        image_size: images of another height or width are resized to this one, in pixels; None: never.
        rescale: (scale, shift), each (3, 1, 1): the network gets images * scale + shift; None: the images.
        """
        self.network = network.eval().requires_grad_(False)
        self.image_size, self.rescale = image_size, rescale
        self.place: tuple[torch.device, torch.dtype] | None = None  # where the network is

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float -> (B, K)."""
        if (images.device, images.dtype) != self.place:
            self.place = images.device, images.dtype
            self.network.to(*self.place)
            self.rescale = self.rescale and (self.rescale[0].to(*self.place), self.rescale[1].to(*self.place))
        if self.rescale is not None:
            images = images * self.rescale[0] + self.rescale[1]
        if self.image_size is not None and images.shape[-2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        logits: Tensor = self.network(images)
        return logits


def rescaling(mean: Tensor, std: Tensor, of_teacher: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return (scale, shift) that turn x = (u - mean) / std into (u - mean') / std' = x * scale + shift.

    Args:
        mean: per channel, (3, 1, 1), as is `std`.
        std: of the images that the student gets.
        of_teacher: (mean', std').
    """
    return std / of_teacher[1], (mean - of_teacher[0]) / of_teacher[1]
