"""The classifier of a network: which tensors it has, and which of its rows a file's classifier may fill."""

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

SHOWN = 5


def names(network: nn.Module) -> set[str]:
    """The tensors with a row for each class: of timm's `get_classifier`, else of the last parameter's layer."""
    parameters = dict(network.named_parameters())
    inside = {name for prefix in _layers(network) for name in parameters if name.startswith(prefix)}
    last = [tensor for name, tensor in parameters.items() if name in inside][-1]
    return {name for name in inside if parameters[name].shape[:1] == last.shape[:1]}


def _layers(network: Any) -> Iterator[str]:
    """What the classifier's names begin with."""
    if not hasattr(network, "get_classifier"):
        *_, last = dict(network.named_parameters())
        yield last[: last.rfind(".") + 1]
        return
    found = network.get_classifier()
    layers = {id(layer) for layer in (found if isinstance(found, list | tuple) else [found])}
    yield from (f"{name}." for name, module in network.named_modules() if id(module) in layers)


def take_rows(
    own: Mapping[str, Tensor],
    classifier: Collection[str],
    fitting: MutableMapping[str, Tensor],
    theirs: Sequence[str] | None,
    ours: Sequence[str],
) -> list[str]:
    """Puts the file's rows, in `fitting`, in the order of our classes; rows of other classes become the network's own.

    Args:
        own: the network's tensors.
        classifier: the names of those that have a row for each class.
        fitting: the file's tensors; changed in place. Where no class is the same, the classifier's are taken out.
        theirs: the classes of the file's rows; None where it doesn't say them.
        ours: the classes of the network's rows.

    Returns:
        What to warn about.
    """
    taken = [name for name in classifier if name in fitting]
    if not taken or theirs == list(ours):
        return []
    if theirs is None or any(len(fitting[name]) != len(theirs) for name in taken):
        return [
            f"the classifier is taken over as it is, and the file doesn't name its classes; here they are {_few(ours)}"
        ]
    rows = {name: row for row, name in enumerate(theirs)}
    known = [k for k, name in enumerate(ours) if name in rows]
    for name in taken:
        if not known:
            del fitting[name]
            continue
        mixed = own[name].clone()
        mixed[known] = fitting[name][[rows[ours[k]] for k in known]].to(mixed)
        fitting[name] = mixed
    fresh = [name for name in ours if name not in rows]
    if not fresh:
        return []
    return [
        f"the classifier was made for other classes: {_few(theirs)}. {len(known)} of {len(ours)} rows are taken over "
        f"by their classes' names; left fresh: {_few(fresh)}"
    ]


def doubt_of_published(num_classes: int, made_for: int, ours: Sequence[str] | None) -> list[str]:
    """What to warn about where a classifier of published weights is taken over for as many classes.

    Those for 1000 classes are ImageNet's, whose names are spelled in several ways: half of them the same will do.
    """
    if ours is None or num_classes != made_for:
        return []
    imagenet = ResNet18_Weights.DEFAULT.meta["categories"]
    alike = sum(a.casefold() == b.casefold() for a, b in zip(imagenet, ours, strict=False))
    if num_classes == len(imagenet) and alike >= num_classes / 2:
        return []
    return [f"the classifier of the published weights is taken over as it is, and the classes here are {_few(ours)}"]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
