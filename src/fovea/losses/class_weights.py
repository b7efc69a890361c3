"""Weights of classes in a loss: from a list, a mapping by class name, or balanced by the training labels."""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)
Weights = Literal["balanced"] | Sequence[float] | Mapping[str, float] | None
Counts = Mapping[Literal["present", "absent"], Sequence[int]]  # of each class among the known training labels
MOST_SAID = 20


def class_weights(said: Weights, names: Sequence[str] | None, counts: Counts | None) -> Tensor | None:
    """(K,) float32, or None; balanced: n / (K n_k), n_k the images of class k and n their sum over the classes.

    Source of the formula: King and Zeng 2001, as scikit-learn's compute_class_weight("balanced").

    Raises:
        ValueError: see `_weights`.
    """
    present = counts["present"] if counts else []
    balanced = [sum(present) / (len(present) * n) if n else 1.0 for n in present]
    return _weights("class_weights", said, names, balanced, counts)


def positive_weights(said: Weights, names: Sequence[str] | None, counts: Counts | None) -> Tensor | None:
    """(K,) float32, or None; balanced: known negatives / positives of each class.

    Raises:
        ValueError: see `_weights`.
    """
    pairs = zip(counts["present"], counts["absent"], strict=True) if counts else []
    balanced = [absent / present if present and absent else 1.0 for present, absent in pairs]
    return _weights("pos_weight", said, names, balanced, counts)


def _weights(
    key: str, said: Weights, names: Sequence[str] | None, balanced: Sequence[float], counts: Counts | None
) -> Tensor | None:
    """Raises ValueError: a list has not one weight a class, a class is unknown, or a weight is negative or no number.

    Without the classes' names (a loss that is built for itself) only a list can be given.
    """
    if said is None:
        return None
    if said == "balanced":
        if counts is None:
            raise ValueError(f"loss.{key}=balanced needs the training labels' counts: loss.class_counts is null")
        _say_undefined(key, names, counts)
        values: list[Any] = list(balanced)
    elif isinstance(said, Mapping):
        values = _by_name(key, said, names)
    elif isinstance(said, Sequence) and not isinstance(said, str):
        values = list(said)
    else:
        raise ValueError(f"loss.{key}={said}: give balanced, a list with a weight for each class, or a mapping by name")
    _check(key, values, names)
    _say(key, values, names)
    return torch.tensor(values, dtype=torch.float32)


def _by_name(key: str, said: Mapping[str, float], names: Sequence[str] | None) -> list[Any]:
    """1 for a class that is not named."""
    named = {str(name): weight for name, weight in said.items()}  # a class called 7 is typed as a number
    strange = [name for name in named if name not in (names or ())]
    if strange:
        near = difflib.get_close_matches(strange[0], names or (), n=1)
        there = f"did you mean {near[0]}?" if near else f"there are {', '.join((names or ())[:10])}"
        raise ValueError(f"loss.{key}: there is no class {strange[0]!r} in the data: {there}")
    return [named.get(name, 1.0) for name in names or ()]


def _check(key: str, values: Sequence[Any], names: Sequence[str] | None) -> None:
    if names is not None and len(values) != len(names):
        raise ValueError(
            f"loss.{key} has {len(values)} weights and the data {len(names)} classes: give one for each, in the order\n"
            f"{', '.join(names[:MOST_SAID])}{', ...' if len(names) > MOST_SAID else ''}; or a mapping by name"
        )
    wrong = [value for value in values if not is_weight(value)]
    if wrong:
        raise ValueError(f"loss.{key}: {wrong[0]} is no weight: a weight is a finite number from 0 on")
    if not any(values):
        raise ValueError(f"loss.{key}: all weights are 0, so nothing would be learnt")


def is_weight(value: Any) -> bool:
    """Whether it is a finite number from 0 on."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _say_undefined(key: str, names: Sequence[str] | None, counts: Counts) -> None:
    pairs = zip(counts["present"], counts["absent"], strict=True)
    places = [k for k, (n, m) in enumerate(pairs) if not n or (key == "pos_weight" and not m)]
    if places:
        some = ", ".join(names[k] if names else str(k) for k in places[:10]) + (", ..." if len(places) > 10 else "")
        without = "a known positive and a known negative" if key == "pos_weight" else "a training image"
        log.warning("loss.%s=balanced: weight 1 for %d classes without %s: %s", key, len(places), without, some)


def _say(key: str, values: Sequence[float], names: Sequence[str] | None) -> None:
    """Of many classes the lowest and the highest weights."""
    pairs = list(zip(names or map(str, range(len(values))), values, strict=True))
    if len(pairs) > MOST_SAID:
        pairs.sort(key=lambda pair: pair[1])
        pairs = pairs[: MOST_SAID // 2] + pairs[-MOST_SAID // 2 :]
    what = f"loss.{key}" + (f", {len(pairs)} of {len(values)}" if len(pairs) < len(values) else "")
    log.info("%s: %s", what, ", ".join(f"{name} {value:.4g}" for name, value in pairs))
