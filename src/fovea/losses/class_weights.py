"""Class weights of a loss: from a list, from a mapping by class name, or computed from the training labels."""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

log = logging.getLogger(__name__)
Weights = str | Sequence[float] | Mapping[str, float] | None
Counts = Mapping[Literal["present", "absent"], Sequence[int]]  # (K,) each: numbers of known training labels
MOST_NAMES = 20  # in a message
BETA = 0.9999  # the paper's and LDAM's value for long-tailed CIFAR


def class_weights(weights: Weights, names: Sequence[str] | None, counts: Counts | None) -> Tensor | None:
    """Return (K,) float32, or None for None.

    `balanced` is n / (K n_k) with n_k the images of class k and n the sum of n_k; `effective:<beta>` is
    `effective_weights`, with BETA if no beta is given.

    Source of balanced: King and Zeng 2001, as scikit-learn's compute_class_weight("balanced").

    Raises:
        ValueError: see `_weights`; or beta is not in [0, 1).
    """
    present = counts["present"] if counts else []
    kind, beta = _kind("class_weights", weights)
    computed = {
        "balanced": [sum(present) / (len(present) * n) if n else 1.0 for n in present],
        "effective": effective_weights(present, BETA if beta is None else beta),
    }
    return _weights("class_weights", weights, names, computed.get(kind), counts)


def effective_weights(counts: Sequence[int], beta: float) -> list[float]:
    """Return w_k = c (1 - beta) / (1 - beta^n_k), with c so that the mean is 1; 1 for classes without images.

    (1 - beta^n) / (1 - beta) is the effective number of n images: 1 for beta=0, n for beta near 1.

    Source: Cui et al. 2019, https://arxiv.org/abs/1901.05555.

    Args:
        counts: n, (K,).
        beta: in [0, 1).
    """
    inverse = [(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts]
    mean = sum(inverse) / max(1, sum(n > 0 for n in counts))
    return [value / mean if value else 1.0 for value in inverse]


def _kind(key: str, weights: Weights) -> tuple[str, float | None]:
    """Return ("balanced", None), ("effective", beta or None), or ("", None) for weights that are not computed."""
    kind, _, beta = weights.partition(":") if isinstance(weights, str) else ("", "", "")
    if kind != "effective" or not beta:
        return (kind if not beta else ""), None
    try:
        value = float(beta)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise ValueError(f"loss.{key}={weights}: beta={beta} is not a number from 0 to less than 1, such as {BETA}")
    return kind, value


def positive_weights(weights: Weights, names: Sequence[str] | None, counts: Counts | None) -> Tensor | None:
    """Return (K,) float32, or None for None. Balanced: known negatives / known positives of each class.

    Raises:
        ValueError: see `_weights`.
    """
    pairs = zip(counts["present"], counts["absent"], strict=True) if counts else []
    balanced = [absent / present if present and absent else 1.0 for present, absent in pairs]
    return _weights("pos_weight", weights, names, balanced if weights == "balanced" else None, counts)


def _weights(
    key: str, weights: Weights, names: Sequence[str] | None, computed: Sequence[float] | None, counts: Counts | None
) -> Tensor | None:
    """Return the weights as a tensor and log them.

    `names` is None for a loss that is built outside a run; then a mapping is refused. `computed` are the weights that
    were computed from the labels; None if they come from `weights` itself.

    Raises:
        ValueError: the number of weights is not the number of classes, a class is unknown, or a weight is negative or
            no number.
    """
    if weights is None:
        return None
    if computed is not None:
        if counts is None:
            raise ValueError(f"loss.{key}={weights} needs the counts of the training labels: loss.class_counts is null")
        _warn_about_undefined(key, weights, names, counts)
        values: list[Any] = list(computed)
    elif isinstance(weights, Mapping):
        values = _by_name(key, weights, names)
    elif isinstance(weights, Sequence) and not isinstance(weights, str):
        values = list(weights)
    else:
        words = "balanced, effective" if key == "class_weights" else "balanced"
        raise ValueError(f"loss.{key}={weights}: give {words}, a list (a weight per class) or a mapping by name")
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


def _warn_about_undefined(key: str, weights: Weights, names: Sequence[str] | None, counts: Counts) -> None:
    pairs = zip(counts["present"], counts["absent"], strict=True)
    undefined = [k for k, (n, m) in enumerate(pairs) if not n or (key == "pos_weight" and not m)]
    if undefined:
        some = ", ".join(names[k] if names else str(k) for k in undefined[:10]) + (", ..." * (len(undefined) > 10))
        without = "both a known positive and a known negative" if key == "pos_weight" else "a training image"
        log.warning("loss.%s=%s: weight 1 for %d classes without %s: %s", key, weights, len(undefined), without, some)


def _log(key: str, values: Sequence[float], names: Sequence[str] | None) -> None:
    """Log the weights; for many classes only the lowest and the highest."""
    pairs = list(zip(names or map(str, range(len(values))), values, strict=True))
    if len(pairs) > MOST_NAMES:
        pairs.sort(key=lambda pair: pair[1])
        pairs = pairs[: MOST_NAMES // 2] + pairs[-MOST_NAMES // 2 :]
    title = f"loss.{key}" + (f", {len(pairs)} of {len(values)}" if len(pairs) < len(values) else "")
    log.info("%s: %s", title, ", ".join(f"{name} {value:.4g}" for name, value in pairs))
