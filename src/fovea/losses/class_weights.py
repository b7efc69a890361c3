"""Class weights of a loss: from a list, from a mapping by class name, or balanced by the training labels."""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)
Weights = Literal["balanced"] | Sequence[float] | Mapping[str, float] | None
Counts = Mapping[Literal["present", "absent"], Sequence[int]]  # (K,) each: numbers of known training labels
MOST_NAMES = 20  # in a message


def class_weights(weights: Weights, names: Sequence[str] | None, counts: Counts | None) -> Tensor | None:
    """Return (K,) float32, or None for None. Balanced: n / (K n_k) with n_k the images of class k and n the sum of n_k.

    Source of the formula: King and Zeng 2001, as scikit-learn's compute_class_weight("balanced").

    Raises:
        ValueError: see `_weights`.
    """
    present = counts["present"] if counts else []
    balanced = [sum(present) / (len(present) * n) if n else 1.0 for n in present]
    return _weights("class_weights", weights, names, balanced, counts)


def positive_weights(weights: Weights, names: Sequence[str] | None, counts: Counts | None) -> Tensor | None:
    """Return (K,) float32, or None for None. Balanced: known negatives / known positives of each class.

    Raises:
        ValueError: see `_weights`.
    """
    pairs = zip(counts["present"], counts["absent"], strict=True) if counts else []
    balanced = [absent / present if present and absent else 1.0 for present, absent in pairs]
    return _weights("pos_weight", weights, names, balanced, counts)


def _weights(
    key: str, weights: Weights, names: Sequence[str] | None, balanced: Sequence[float], counts: Counts | None
) -> Tensor | None:
    """Return the weights as a tensor and log them.

    `names` is None for a loss that is built outside a run; then a mapping is refused.

    Raises:
        ValueError: the number of weights is not the number of classes, a class is unknown, or a weight is negative or
            no number.
    """
    if weights is None:
        return None
    if weights == "balanced":
        if counts is None:
            raise ValueError(f"loss.{key}=balanced needs the counts of the training labels: loss.class_counts is null")
        _warn_about_undefined(key, names, counts)
        values: list[Any] = list(balanced)
    elif isinstance(weights, Mapping):
        values = _by_name(key, weights, names)
    elif isinstance(weights, Sequence) and not isinstance(weights, str):
        values = list(weights)
    else:
        raise ValueError(f"loss.{key}={weights}: give balanced, a list (a weight per class) or a mapping by name")
    _check(key, values, names)
    _log(key, values, names)
    return torch.tensor(values, dtype=torch.float32)


def _by_name(key: str, weights: Mapping[str, float], names: Sequence[str] | None) -> list[Any]:
    """Return the weights in class order, 1 for a class that is not in the mapping."""
    named = {str(name): weight for name, weight in weights.items()}  # yaml reads a class called 7 as a number
    unknown = [name for name in named if name not in (names or ())]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names or (), n=1)
        hint = f"did you mean {close[0]}?" if close else f"the classes are {', '.join((names or ())[:10])}"
        raise ValueError(f"loss.{key}: the data has no class {unknown[0]!r}: {hint}")
    return [named.get(name, 1.0) for name in names or ()]


def _check(key: str, values: Sequence[Any], names: Sequence[str] | None) -> None:
    if names is not None and len(values) != len(names):
        raise ValueError(
            f"loss.{key} has {len(values)} weights but the data has {len(names)} classes: give one each, in order\n"
            f"{', '.join(names[:MOST_NAMES])}{', ...' if len(names) > MOST_NAMES else ''}; or a mapping by name"
        )
    wrong = [value for value in values if not is_weight(value)]
    if wrong:
        raise ValueError(f"loss.{key}: {wrong[0]} is no weight: give a finite number, 0 or more")
    if not any(values):
        raise ValueError(f"loss.{key}: all weights are 0, so nothing would be learnt; give at least one above 0")


def is_weight(value: Any) -> bool:
    """Return True for a finite number that is 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _warn_about_undefined(key: str, names: Sequence[str] | None, counts: Counts) -> None:
    pairs = zip(counts["present"], counts["absent"], strict=True)
    undefined = [k for k, (n, m) in enumerate(pairs) if not n or (key == "pos_weight" and not m)]
    if undefined:
        some = ", ".join(names[k] if names else str(k) for k in undefined[:10]) + (", ..." * (len(undefined) > 10))
        without = "both a known positive and a known negative" if key == "pos_weight" else "a training image"
        log.warning("loss.%s=balanced: weight 1 for %d classes without %s: %s", key, len(undefined), without, some)


def _log(key: str, values: Sequence[float], names: Sequence[str] | None) -> None:
    """Log the weights; for many classes only the lowest and the highest."""
    pairs = list(zip(names or map(str, range(len(values))), values, strict=True))
    if len(pairs) > MOST_NAMES:
        pairs.sort(key=lambda pair: pair[1])
        pairs = pairs[: MOST_NAMES // 2] + pairs[-MOST_NAMES // 2 :]
    title = f"loss.{key}" + (f", {len(pairs)} of {len(values)}" if len(pairs) < len(values) else "")
    log.info("%s: %s", title, ", ".join(f"{name} {value:.4g}" for name, value in pairs))
