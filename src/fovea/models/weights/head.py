"""Finds the classifier (the last layer) of a network and matches its rows with the classes of a weights file."""

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

SHOWN = 5


def classifier_names(network: nn.Module) -> set[str]:
    """Return the names of the parameters that have one row per class.

    They belong to timm's `get_classifier()`, or, in other networks, to the layer of the last parameter.
    """
    parameters = dict(network.named_parameters())
    inside = {name for prefix in _classifier_prefixes(network) for name in parameters if name.startswith(prefix)}
    last = [tensor for name, tensor in parameters.items() if name in inside][-1]
    return {name for name in inside if parameters[name].shape[:1] == last.shape[:1]}


def _classifier_prefixes(network: Any) -> Iterator[str]:
    """Yield the prefix of each classifier layer's parameter names, such as "fc."."""
    if not hasattr(network, "get_classifier"):
        *_, last = dict(network.named_parameters())
        yield last[: last.rfind(".") + 1]
        return
    found = network.get_classifier()
    layers = {id(layer) for layer in (found if isinstance(found, list | tuple) else [found])}
    yield from (f"{name}." for name, module in network.named_modules() if id(module) in layers)


def match_class_rows(
    own: Mapping[str, Tensor],
    classifier: Collection[str],
    tensors: MutableMapping[str, Tensor],
    file_classes: Sequence[str] | None,
    classes: Sequence[str],
) -> list[str]:
    """Reorder the rows of the file's classifier to the network's class order.

    A class that the file doesn't have keeps the network's own row.

    Args:
        own: the network's tensors.
        classifier: the names of the tensors that have one row per class.
        tensors: the file's tensors; changed in place. If no class matches, the classifier's tensors are removed.
        file_classes: the class names of the file's rows; None if the file has no class names.
        classes: the class names of the network's rows.

    Returns:
        Warnings to log.
    """
    found = [name for name in classifier if name in tensors]
    if not found or file_classes == list(classes):
        return []
    if file_classes is None or any(len(tensors[name]) != len(file_classes) for name in found):
        return [
            "the classifier is loaded unchanged, but the file has no class names to compare with; "
            f"the classes of this data are {_shortened(classes)}"
        ]
    rows = {name: row for row, name in enumerate(file_classes)}
    shared = [k for k, name in enumerate(classes) if name in rows]
    for name in found:
        if not shared:
            del tensors[name]
            continue
        merged = own[name].clone()
        merged[shared] = tensors[name][[rows[classes[k]] for k in shared]].to(merged)
        tensors[name] = merged
    missing = [name for name in classes if name not in rows]
    if not missing:
        return []
    return [
        f"the file's classifier is for other classes: {_shortened(file_classes)}. {len(shared)} of {len(classes)} rows "
        f"are loaded, matched by class name; not loaded: {_shortened(missing)}"
    ]


def warnings_for_published(num_classes: int, published: int, classes: Sequence[str] | None) -> list[str]:
    """Return a warning if a published classifier is loaded for the same number of classes but different ones.

    Published weights for 1000 classes are ImageNet's. Its class names are spelled in several ways, so half of them
    must match.

    Args:
        num_classes: K of the network.
        published: K of the published weights.
        classes: names of the network's classes; None if they aren't known.
    """
    if classes is None or num_classes != published:
        return []
    imagenet = ResNet18_Weights.DEFAULT.meta["categories"]
    equal = sum(a.casefold() == b.casefold() for a, b in zip(imagenet, classes, strict=False))
    if num_classes == len(imagenet) and equal >= num_classes / 2:
        return []
    return [
        "the classifier of the published weights is loaded unchanged, but the classes of this data are "
        f"{_shortened(classes)}"
    ]


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
