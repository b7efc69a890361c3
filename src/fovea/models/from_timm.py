"""Builds any network of timm by its timm name. timm is an optional dependency: `pip install -e ".[timm]"`.

List: timm.list_models(); accuracies: https://github.com/huggingface/pytorch-image-models/tree/main/results
"""

import logging
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from fovea.models.preprocessing import Preprocessing, known_interpolation
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
        image_size: height and width of the images, in pixels; passed to networks that are built for one size, where
            timm interpolates the position embeddings of its weights if it can.
        weights: None; "DEFAULT" for timm's published weights (those of the tag), downloaded once; or a file.
        weights_min_share: the share of the network's weights, without its head, that a file must have.
        class_names: names of the K classes, to compare with the classes of the weights.
        options: passed on to timm.create_model, such as `drop_path_rate`.

    Raises:
        ValueError: timm is not installed; the name, the weights or the file don't exist; the network or its weights
            don't support the image size; or the download failed.
    """
    unsafe = [option for option in UNSAFE_OPTIONS if option in options]
    if unsafe:
        raise ValueError(f"model.{unsafe[0]} is refused: timm could run code in the file it names; use model.weights")
    timm = _import_timm()
    _check_name(timm, name)
    options["num_classes"] = num_classes
    if weights == "DEFAULT":
        _check_published(timm, name)
        network = _with_published_weights(timm, name, image_size, **options)
        for warning in warnings_for_published(num_classes, network.pretrained_cfg["num_classes"], class_names):
            log.warning("model.weights=DEFAULT: %s", warning)
        return network
    network = _of_size(timm, name, image_size, **options)
    if weights is not None:
        load_weights(network, weights, class_names, weights_min_share)
    return network


def timm_preprocessing(name: str, weights: str) -> Preprocessing | None:
    """Return the preprocessing of the published weights, as timm's resolve_data_config says; None for a file.

    Images are cropped as in timm.data.transforms_imagenet_eval: from the side floor(size / crop_pct).

    Raises:
        ValueError: timm is not installed, or has no such network or no weights for it.
    """
    if weights != "DEFAULT":
        return None
    timm = _import_timm()
    _check_name(timm, name)
    _check_published(timm, name)
    from timm.data import resolve_data_config

    published, source = timm.models.get_pretrained_cfg(name).to_dict(), f"timm's {name}"
    training, evaluation = (resolve_data_config(pretrained_cfg=published, use_test_size=test) for test in (False, True))
    (_, *trained), (_, *evaluated), mode = training["input_size"], evaluation["input_size"], evaluation["crop_mode"]
    if mode != "center":
        log.warning("%s: images were made square with crop_mode=%s; here their middle is cropped", source, mode)
    if len({*trained}) > 1 or len({*evaluated}) > 1:
        log.warning("%s: images had %s pixels; here they are squares of the shorter side", source, tuple(evaluated))
    size = min(evaluated)
    return Preprocessing(
        image_size=min(trained),
        eval_image_size=size,
        resize=math.floor(size / evaluation["crop_pct"]),
        interpolation=known_interpolation(evaluation["interpolation"], source),
        mean=[float(mean) for mean in evaluation["mean"]],
        std=[float(std) for std in evaluation["std"]],
    )


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError('model=timm: timm is not installed; run pip install -e ".[timm]"') from error
    return timm


def _check_name(timm: Any, name: str) -> None:
    names = timm.list_models(include_tags="." in name)
    if name not in names:
        close = get_close_matches(name, names, n=5) or names[:5]
        raise ValueError(
            f"model.name={name}: timm {timm.__version__} has no such network; similar names: {', '.join(close)}"
        )


def _check_published(timm: Any, name: str) -> None:
    if not timm.is_model_pretrained(name):
        raise ValueError(f"model.weights=DEFAULT: timm has no weights for {name}; use model.weights=null or a file")


def _of_size(timm: Any, name: str, image_size: int, **options: Any) -> Any:
    """Build the network for images of this size, if it is one that works with one size only."""
    if not timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
        return timm.create_model(name, **options)
    usual = timm.models.get_pretrained_cfg_value(name, "input_size")[-1]
    try:
        return timm.create_model(name, **{"img_size": image_size, **options})
    except OSError:  # Hugging Face's is a ValueError too
        raise
    except (AssertionError, ValueError, RuntimeError) as error:
        mismatch = re.search(r"size mismatch for [\w.]+", str(error))
        if image_size == usual or (isinstance(error, RuntimeError) and not mismatch):
            raise
        use = "use the published weights of" if options.get("pretrained") else "build"
        reason = mismatch[0] if mismatch else " ".join(str(error).split())[:200]
        raise ValueError(
            f"data.image_size={image_size}: timm can't {use} {name} at this size ({reason}); "
            f"type data.image_size={usual}, its usual size"
        ) from error


def _with_published_weights(timm: Any, name: str, image_size: int, **options: Any) -> Any:
    try:
        return _of_size(timm, name, image_size, pretrained=True, **options)
    except OSError as error:
        raise ValueError(
            f"model.weights=DEFAULT: cannot download the weights of {name} ({error})\n"
            "If this machine is offline, download the file elsewhere and give its path as model.weights."
        ) from error
