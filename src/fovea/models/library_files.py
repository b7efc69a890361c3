"""What torchvision and timm change in a file's tensors before they load them: older names, another image size.

Position embeddings are resampled by the libraries' own functions: `interpolate_embeddings` (torchvision's ViT) and
timm's `checkpoint_filter_fn`, of which each module with such networks has one.
"""

import re
import sys
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import DenseNet, GoogLeNet, Inception3, VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings


def adapted(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the network's library would load them; as they are where the network is of neither library.

    Raises:
        ValueError: the library can't resample them for the network's image size.
    """
    tensors = dict(tensors)
    if isinstance(network, DenseNet):  # published files say `denselayer1.norm.1` for `denselayer1.norm1`
        return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name): t for name, t in tensors.items()}
    if isinstance(network, GoogLeNet | Inception3) and not network.aux_logits:
        return {name: t for name, t in tensors.items() if not re.match(r"aux\d\.|AuxLogits\.", name)}
    if isinstance(network, VisionTransformer) and "encoder.pos_embedding" in tensors:
        # (1, 1 + old grid, C) -> (1, 1 + new grid, C), bicubic
        return dict(interpolate_embeddings(network.image_size, network.patch_size, tensors))
    return _as_timm_does(network, tensors)


def _as_timm_does(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    module = type(network).__module__
    change = getattr(sys.modules[module], "checkpoint_filter_fn", None) if module.startswith("timm.models.") else None
    if change is None or _fits(network, tensors):
        return tensors
    try:
        return dict(change(dict(tensors), network))
    except Exception as error:  # made for timm's published files, it may raise anything for another network's
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"timm can't fit them to this network ({reason})") from error


def _fits(network: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    own = network.state_dict()
    return all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in own.items())
