"""Heat maps of where a network looked, by Grad-CAM.

Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391; computed by torchcam. Deviation: for small images the
maps are those of an earlier layer than the last, see `map_layer`.
"""

import importlib.util
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

log = logging.getLogger(__name__)
SMALLEST_SIDE = 4  # of a map
FEWEST = 3  # convolutions; a transformer has one, which cuts the image into patches and knows no classes


def available() -> bool:
    """Return True if torchcam is installed."""
    return importlib.util.find_spec("torchcam") is not None


@torch.no_grad()
def map_layer(network: nn.Module, images: Tensor) -> str | None:
    """Return the name of the last convolution with a map of at least SMALLEST_SIDE pixels; None for other networks.

    Args:
        network: in evaluation mode.
        images: (B, 3, H, W) float, the network's input.
    """
    called: list[str] = []

    def keep(name: str, output: Tensor) -> None:
        if min(output.shape[2:]) >= SMALLEST_SIDE:
            called.append(name)

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output, name=name: keep(name, output))
        for name, layer in layers
    ]
    network(images[:1])
    for hook in hooks:
        hook.remove()
    return called[-1] if len(called) >= FEWEST else None


def heat_maps(network: nn.Module, images: Tensor, classes: Sequence[int]) -> Tensor | None:
    """Return maps (B, h, w) in [0, 1], high where the image speaks for its class; None if the network has no such map.

    Args:
        network: in evaluation mode.
        images: (B, 3, H, W) float, the network's input.
        classes: the class of each image to explain, B.
    """
    from torchcam.methods import GradCAM

    layer = map_layer(network, images)
    if layer is None:
        log.info("%s has no convolution whose map could show where it looked", type(network).__name__)
        return None
    with torch.enable_grad(), GradCAM(network, layer) as extractor:
        logits = network(images.detach().requires_grad_())  # so that frozen layers have gradients too
        (maps,) = extractor(list(classes), logits)
    return maps.detach().cpu().nan_to_num()  # nan where the gradients are 0


def overlay(image: Tensor, heat: Tensor) -> Tensor:
    """Return the image (3, H, W) uint8 with the heat map (h, w) over it, as (3, H, W) uint8."""
    from torchcam.utils import overlay_mask

    return pil_to_tensor(overlay_mask(to_pil_image(image), to_pil_image(heat.float(), mode="F"), alpha=0.55))
