"""Builds any classification network of torchvision.models by its torchvision name.

List and accuracies: https://pytorch.org/vision/stable/models.html#classification
Deviations: GoogLeNet and Inception v3 are built without their auxiliary heads, so that they return plain logits in
training too, and always rescale ImageNet-normalised pixels to the range that their published weights expect.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn
from torchvision import models

from fovea.models.preprocessing import Preprocessing, known_interpolation
from fovea.models.weights.fill import MIN_SHARE, fill, load_weights
from fovea.models.weights.head import warnings_for_published
from fovea.models.weights.weights_file import Weights, is_path

MAXVIT_SIZE = 224  # pixels; windows of 7 x 7 at a 4th, 8th, 16th and 32nd of the size


def build_torchvision(
    name: str,
    num_classes: int,
    image_size: int = 224,
    weights: str | None = None,
    weights_min_share: float = MIN_SHARE,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Build the network with a head for `num_classes`.

    The head starts at random if the weights are for another number of classes.

    Args:
        name: the name in torchvision.models, such as "resnet50".
        num_classes: K.
        image_size: height and width of the images, in pixels; only ViTs and MaxViT depend on it. A ViT's
            position embeddings are interpolated from those of its weights.
        weights: None; one of torchvision's names for published weights ("DEFAULT", "IMAGENET1K_V1", ...),
            downloaded once; or a file.
        weights_min_share: the share of the network's weights, without its head, that the file must have.
        class_names: names of the K classes, to compare with the classes of the weights.
        options: passed on to torchvision's function, such as `dropout` or `stochastic_depth_prob`.

    Raises:
        ValueError: the name, the weights or the file don't exist; the network doesn't support the image size; or the
            download failed.
    """
    _check_name(name)
    arguments = _arguments(name, image_size) | options
    try:
        network = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    except ValueError as error:
        if name.startswith("maxvit") and image_size % MAXVIT_SIZE:
            raise ValueError(
                f"data.image_size={image_size}: {name} needs a multiple of {MAXVIT_SIZE} pixels"
            ) from error
        raise
    if weights is None:
        return network
    if _is_file(name, weights):
        load_weights(network, weights, class_names, weights_min_share)
        return network
    chosen = _published(name, weights)
    report = fill(network, _download(chosen, weights), min_share=weights_min_share)
    report.warnings.extend(warnings_for_published(num_classes, len(chosen.meta["categories"]), class_names))
    report.log()
    return network


def torchvision_preprocessing(name: str, weights: str) -> Preprocessing | None:
    """Return the preprocessing of published weights, their `transforms`; None for a file.

    Raises:
        ValueError: torchvision has no such network, or no such weights for it.
    """
    _check_name(name)
    if _is_file(name, weights):
        return None
    chosen = _published(name, weights)
    transforms = chosen.transforms()
    (size,), (resize,) = transforms.crop_size, transforms.resize_size
    interpolation = known_interpolation(transforms.interpolation.value, str(chosen))
    return Preprocessing(size, size, resize, interpolation, list(transforms.mean), list(transforms.std))


def _check_name(name: str) -> None:
    names = models.list_models(module=models)
    if name not in names:
        close = get_close_matches(name, names, n=5) or names
        raise ValueError(
            f"model.name={name}: torchvision has no such classification network; it has {', '.join(close)}"
        )


def _is_file(name: str, weights: str) -> bool:
    return weights not in models.get_model_weights(name).__members__ and is_path(weights)


def _arguments(name: str, image_size: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "transform_input": True, "init_weights": True}
    if name.startswith("maxvit"):
        return {"input_size": (image_size, image_size)}
    if name.startswith("vit"):
        patch = _patch_size(name)
        if image_size % patch:
            raise ValueError(f"data.image_size={image_size}: {name} needs a multiple of its patch size, {patch} pixels")
        return {"image_size": image_size}
    return {}


def _published(name: str, weights: str) -> models.WeightsEnum:
    published = models.get_model_weights(name)
    if weights not in published.__members__:
        raise ValueError(
            f"model.weights={weights}: {name} has {', '.join(published.__members__)}; or give a weights file"
        )
    chosen = published[weights]
    if chosen.meta["categories"] is None:  # VGG16's IMAGENET1K_FEATURES; its missing values are nan
        others = ", ".join(one.name for one in published if one.meta["categories"])
        raise ValueError(f"model.weights={weights}: values of its classifier are missing; {name} has {others} too")
    return chosen


def _download(chosen: models.WeightsEnum, weights: str) -> Weights:
    try:
        tensors = chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:
        raise ValueError(
            f"model.weights={weights}: cannot download {chosen.url} ({error})\n"
            "If this machine is offline, download that file elsewhere and give its path as model.weights."
        ) from error
    return Weights(tensors, str(chosen))


def _patch_size(name: str) -> int:
    return int(name.rpartition("_")[2])  # vit_b_16
