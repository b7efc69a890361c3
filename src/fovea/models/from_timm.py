"""Builds any network of timm by its timm name. timm is an optional dependency: `pip install -e ".[timm]"`.

List: timm.list_models(); accuracies: https://github.com/huggingface/pytorch-image-models/tree/main/results
"""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from fovea.models.weights.fill import MIN_SHARE, load_weights
from fovea.models.weights.head import warnings_for_published

log = logging.getLogger(__name__)

UNSAFE_OPTIONS = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def build_timm(
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
        name: timm's name, with or without the tag of its weights: "resnet50", "resnet50.a1_in1k".
        num_classes: K.
        image_size: height and width of the images, in pixels; passed to networks that are built for one size.
        weights: None; "DEFAULT" for timm's published weights (those of the tag), downloaded once; or a file.
        weights_min_share: the share of the network's weights, without its head, that a file must have.
        class_names: names of the K classes, to compare with the classes of the weights.
        options: passed on to timm.create_model, such as `drop_path_rate`.

    Raises:
        ValueError: timm is not installed; the name, the weights or the file don't exist; or the download failed.
    """
    unsafe = [option for option in UNSAFE_OPTIONS if option in options]
    if unsafe:
        raise ValueError(f"model.{unsafe[0]} is refused: timm could run code in the file it names; use model.weights")
    timm = _import_timm()
    names = timm.list_models(include_tags="." in name)
    if name not in names:
        close = get_close_matches(name, names, n=5) or names[:5]
        raise ValueError(
            f"model.name={name}: timm {timm.__version__} has no such network; similar names: {', '.join(close)}"
        )
    if timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
        options = {"img_size": image_size, **options}
    if weights == "DEFAULT":
        network = _with_published_weights(timm, name, num_classes=num_classes, **options)
        for warning in warnings_for_published(num_classes, network.pretrained_cfg["num_classes"], class_names):
            log.warning("model.weights=DEFAULT: %s", warning)
        return network
    network = timm.create_model(name, num_classes=num_classes, **options)
    if weights is not None:
        load_weights(network, weights, class_names, weights_min_share)
    return network


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError('model=timm: timm is not installed; run pip install -e ".[timm]"') from error
    return timm


def _with_published_weights(timm: Any, name: str, **options: Any) -> Any:
    if not timm.is_model_pretrained(name):
        raise ValueError(f"model.weights=DEFAULT: timm has no weights for {name}; use model.weights=null or a file")
    try:
        network = timm.create_model(name, pretrained=True, **options)
    except OSError as error:
        raise ValueError(
            f"model.weights=DEFAULT: cannot download the weights of {name} ({error})\n"
            "If this machine is offline, download the file elsewhere and give its path as model.weights."
        ) from error
    pretrained = network.pretrained_cfg
    log.info(
        f"weights from timm's {name}, trained on images of {pretrained['input_size'][1:]} pixels "
        f"with mean {pretrained['mean']} and standard deviation {pretrained['std']}"
    )
    return network
