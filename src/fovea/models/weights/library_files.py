"""Adapts a weights file as torchvision and timm do before loading: renames old keys, resamples position embeddings.

Position embeddings are resampled by the libraries' own functions: `interpolate_embeddings` (torchvision's ViT) and
`checkpoint_filter_fn` (each timm module with such networks has its own).
"""

import re
import sys
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import DenseNet, GoogLeNet, Inception3, VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings


def adapt(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as the network's library would load them, unchanged if it is from neither library.

    Raises:
        ValueError: timm can't convert the tensors for this network.
    """
    tensors = dict(tensors)
    if isinstance(network, DenseNet):  # published files call denselayer1.norm1 `denselayer1.norm.1`
        return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name): t for name, t in tensors.items()}
    if isinstance(network, GoogLeNet | Inception3) and not network.aux_logits:
        return {name: t for name, t in tensors.items() if not re.match(r"aux\d\.|AuxLogits\.", name)}
    if isinstance(network, VisionTransformer) and "encoder.pos_embedding" in tensors:
        # (1, 1 + old grid, C) -> (1, 1 + new grid, C), bicubic
        return dict(interpolate_embeddings(network.image_size, network.patch_size, tensors))
    return _adapt_for_timm(network, tensors)


def _adapt_for_timm(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    module = type(network).__module__
    convert = getattr(sys.modules[module], "checkpoint_filter_fn", None) if module.startswith("timm.models.") else None
    if convert is None or _fits(network, tensors):
        return tensors
    try:
        return dict(convert(dict(tensors), network))
    except Exception as error:  # written for timm's own files, it may raise anything for others
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"timm can't convert these tensors for this network ({reason})") from error


def _fits(network: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    own = network.state_dict()
    return all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in own.items())
