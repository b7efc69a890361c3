"""Every classification network of torchvision.models, by its name there.

List and accuracies: https://pytorch.org/vision/stable/models.html#classification
Deviations: GoogLeNet and Inception v3 come without their auxiliary heads, so that they return plain logits in
training too, and always rescale ImageNet-normalised pixels to the range their published weights expect.
"""

import logging
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from fovea.models.weights import SUFFIXES, Weights, fill, match_names, read_weights

log = logging.getLogger(__name__)


def build_torchvision(
    name: str, num_classes: int, image_size: int = 224, weights: str | None = None, **options: Any
) -> nn.Module:
    """Builds the network with a head for `num_classes`; where the weights have another count, the head is fresh.

    Args:
        name: as in torchvision.models, such as "resnet50".
        num_classes: K.
        image_size: height and width of the images, in pixels; only ViTs and MaxViT depend on it. A ViT's
            positions are interpolated from those of its weights.
        weights: None, one of torchvision's names for published weights ("DEFAULT", "IMAGENET1K_V1", ...), which
            are downloaded once, or a file.
        options: passed on to torchvision's function, such as `dropout` or `stochastic_depth_prob`.

    Raises:
        ValueError: no such name, weights or file; an image size the network can't take; a download that failed.
    """
    names = models.list_models(module=models)
    if name not in names:
        close = get_close_matches(name, names, n=5) or names
        raise ValueError(f"model.name={name}: no classification network of torchvision; it has {', '.join(close)}")
    arguments = _arguments(name, image_size) | options
    found = None if weights is None else _find_weights(name, weights)
    network = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    if found is not None:
        tensors = match_names(network, _with_todays_names(name, found.tensors))
        tensors = _for_image_size(name, image_size, tensors)
        log.info(fill(network, Weights(tensors, found.source)).table())
    return network


def _arguments(name: str, image_size: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "transform_input": True, "init_weights": True}
    if name.startswith("maxvit"):
        return {"input_size": (image_size, image_size)}
    if name.startswith("vit"):
        patch = _patch_size(name)
        if image_size % patch:
            raise ValueError(f"data.image_size={image_size}: {name} needs a multiple of its patches' {patch} pixels")
        return {"image_size": image_size}
    return {}


def _find_weights(name: str, weights: str) -> Weights:
    if Path(weights).suffix in SUFFIXES:
        return read_weights(weights)
    published = models.get_model_weights(name)
    if weights not in published.__members__:
        raise ValueError(
            f"model.weights={weights}: {name} has {', '.join(published.__members__)}; "
            f"or give a file ending in {' '.join(SUFFIXES)}"
        )
    chosen = published[weights]
    try:
        tensors = chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:
        raise ValueError(
            f"model.weights={weights}: cannot download {chosen.url} ({error})\n"
            "Without a network: fetch that file elsewhere and give its path as model.weights."
        ) from error
    return Weights(tensors, str(chosen))


def _with_todays_names(name: str, tensors: Any) -> dict[str, Tensor]:
    """DenseNet's published files say `denselayer1.norm.1` for `denselayer1.norm1`, as torchvision's loader knows."""
    if not name.startswith("densenet"):
        return dict(tensors)
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): value for key, value in tensors.items()}


def _for_image_size(name: str, image_size: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if not name.startswith("vit") or "encoder.pos_embedding" not in tensors:
        return tensors
    # (1, 1 + old grid, C) -> (1, 1 + new grid, C), bicubic
    return models.vision_transformer.interpolate_embeddings(image_size, _patch_size(name), tensors)


def _patch_size(name: str) -> int:
    return int(name.rpartition("_")[2])  # vit_b_16
