"""Published weights bring their own preprocessing: the section `pretrained` of train.yaml, and the keys that follow it.

A key that follows it refers to it, as in `${pretrained:image_size,224}`. A typed value, or that of a yaml, replaces the
reference, so it wins. The section is filled in once, before the data are read, and kept in the run's config.yaml.
"""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import ListConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

SECTION = "pretrained"
NAMES_WEIGHTS = ("model.name", "model.weights")
FOLLOWS = {  # key of the config -> key of the section
    "data.image_size": "image_size",
    "data.eval_image_size": "eval_image_size",
    "augment.eval.crop.resize": "resize",
    "augment.train.crop.interpolation": "interpolation",
    "augment.eval.crop.interpolation": "interpolation",
    "preprocess.mean": "mean",
    "preprocess.std": "std",
}
REFERENCE = re.compile(r"\$\{(pretrained|eval_size_for|resize_for):")  # the resolvers below
USUAL_CROP_RATIO = 0.875  # 224 of 256 pixels


def pretrained(key: str, default: Any, *, _root_: BaseContainer) -> Any:
    """Return the weights' own value of a key, or the default if there are no published weights."""
    value = _own(_root_, key)
    if value is not None:
        return value
    return ListConfig(default) if isinstance(default, list) else default  # OmegaConf.resolve refuses a plain list


def eval_size_for(image_size: int, *, _root_: BaseContainer) -> int:
    """Return the weights' own size of evaluated images if the training has their own size too, else `image_size`."""
    evaluated: int | None = _own(_root_, "eval_image_size")
    return image_size if evaluated is None or image_size != _own(_root_, "image_size") else evaluated


def resize_for(size: int, *, _root_: BaseContainer) -> int:
    """Return the short side, in pixels, for a center crop of `size`: in the weights' own ratio, else 256 for 224."""
    resize, evaluated = _own(_root_, "resize"), _own(_root_, "eval_image_size")
    return round(size / USUAL_CROP_RATIO if None in (resize, evaluated) else size * resize / evaluated)


def _own(root: BaseContainer, key: str) -> Any:
    return OmegaConf.select(root, f"{SECTION}.{key}")  # None in runs of earlier versions, which have no such section


def fill_in(cfg: Any, own: Mapping[str, Any]) -> str | None:
    """Set the section to the weights' preprocessing.

    Args:
        cfg: the config of a run. A saved run keeps what its first start has set; one of an earlier version has no such
            section and stays as it is.
        own: a value for each key of the section.

    Returns:
        Two lines for the log: which keys have the weights' values, and which have not. None if nothing was set.
    """
    section = OmegaConf.select(cfg, SECTION)
    if section is None or all(section[key] is not None for key in own):
        return None
    section.update({key: value for key, value in own.items() if section[key] is None})
    written = {place: _written(cfg, place) for place in FOLLOWS if OmegaConf.select(cfg, place) is not None}
    taken, kept = [], []
    for place, text in written.items():
        value, of_weights = OmegaConf.select(cfg, place), own[FOLLOWS[place]]
        follows = REFERENCE.search(text)
        if follows and value == of_weights:
            taken.append(f"{place}={value}")
        else:
            why = "follows the image size" if follows else "typed or set by a yaml"
            kept.append(f"{place}={value} ({why}; the weights have {of_weights})")
    return f"taken: {', '.join(taken) or 'nothing'}" + (f"\nnot taken: {', '.join(kept)}" if kept else "")


def _written(cfg: Any, place: str) -> str:
    """Return a value as it is written, with its reference."""
    *sections, key = place.split(".")
    section: Any = OmegaConf.to_container(OmegaConf.select(cfg, ".".join(sections)))
    return str(section[key])


def is_open(cfg: Any, place: str) -> bool:
    """Return True if published weights may still change the value: it follows the section, which is not filled in."""
    return (
        OmegaConf.select(cfg, "model.weights") is not None
        and _own(cfg, FOLLOWS[place]) is None
        and bool(REFERENCE.search(_written(cfg, place)))
    )
