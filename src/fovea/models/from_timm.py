"""Every network of timm (an extra: `pip install -e ".[timm]"`), by its name there.

List: timm.list_models(); accuracies: https://github.com/huggingface/pytorch-image-models/tree/main/results
"""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from fovea.models.head import doubt_of_published
from fovea.models.weights import MIN_SHARE, load_weights

log = logging.getLogger(__name__)

FROM_ELSEWHERE = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def build_timm(
    name: str,
    num_classes: int,
    image_size: int = 224,
    weights: str | None = None,
    weights_min_share: float = MIN_SHARE,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """Builds the network with a head for `num_classes`; where the weights have another count, the head is fresh.

    Args:
        name: as in timm, with or without the tag of its weights: "resnet50", "resnet50.a1_in1k".
        num_classes: K.
        image_size: height and width of the images, in pixels; passed to networks that are built for one size.
        weights: None, "DEFAULT" for timm's (those of the tag), which are downloaded once, or a file.
        weights_min_share: what part of the network without its head a file must have.
        class_names: what the classes are, to compare with those of the weights.
        options: passed on to timm.create_model, such as `drop_path_rate`.

    Raises:
        ValueError: timm is not installed; no such name, weights or file; a download that failed.
    """
    unsafe = [option for option in FROM_ELSEWHERE if option in options]
    if unsafe:
        raise ValueError(
            f"model.{unsafe[0]}: timm would load what that names, maybe running code in it; use model.weights"
        )
    timm = _timm()
    names = timm.list_models(include_tags="." in name)
    if name not in names:
        close = get_close_matches(name, names, n=5) or names[:5]
        raise ValueError(f"model.name={name}: no network of timm {timm.__version__}; close: {', '.join(close)}")
    if timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
        options = {"img_size": image_size, **options}
    if weights == "DEFAULT":
        network = _with_published_weights(timm, name, num_classes=num_classes, **options)
        for doubt in doubt_of_published(num_classes, network.pretrained_cfg["num_classes"], class_names):
            log.warning("model.weights=DEFAULT: %s", doubt)
        return network
    network = timm.create_model(name, num_classes=num_classes, **options)
    if weights is not None:
        load_weights(network, weights, class_names, weights_min_share)
    return network


def _timm() -> Any:
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
            f"model.weights=DEFAULT: cannot download those of {name} ({error})\n"
            "Without a network: fetch the file elsewhere and give its path as model.weights."
        ) from error
    made_for = network.pretrained_cfg
    log.info(
        f"weights from timm's {name}, trained on images of {made_for['input_size'][1:]} pixels "
        f"with mean {made_for['mean']} and standard deviation {made_for['std']}"
    )
    return network
