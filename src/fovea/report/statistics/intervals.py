"""Confidence intervals of metrics, and of their differences between two classifiers, by bootstrap over images.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 (percentile interval) and 16.

The images are divided in a random order into at most MOST_GROUPS groups: with no more images than that, each is a group
of its own, as in the usual bootstrap. Each metric's state is computed once for each group. A resample draws as many
groups as there are, with replacement, and adds up or concatenates their states, so a metric need not be updated again.

Limits:
- They say how the figure would vary with other test images of the same kind, for this network. They don't include how
  it varies between trainings with other seeds.
- Images are taken as independent. If several show the same object or patient, the intervals are too narrow.
- With few images of a class, macro averages and mean average precision are biased in resamples, as these repeat some of
  the images and lack others. The interval is then shifted, so the figure itself may lie near its end.
- Near 0 or 1, or with few images, percentile intervals are too narrow: without an error the interval is [1, 1].
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat, dim_zero_sum

from fovea.report.prediction_file import Predictions

log = logging.getLogger(__name__)
MOST_GROUPS, FEWEST_GROUPS = 500, 50
RESAMPLES, FEWEST_RESAMPLES = 500, 100
MOST_SUMMED = 50_000_000  # numbers of a metric's states, over all groups
MOST_CONCATENATED = 10_000_000  # numbers of a metric's concatenated states
AT_FULL_COUNT = 400_000  # of these; with more, there are fewer resamples, so that it takes no longer
COVERAGE = 0.95

State = dict[str, Tensor | list[Tensor]]  # by name: (G, ...) of states that are added, else one tensor for each group


class Interval(NamedTuple):
    """A metric on all images, and the 95 % confidence interval: the 2.5th and 97.5th percentile of the resamples."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much larger a metric is for the second classifier, with its 95 % confidence interval.

    Attributes:
        value: on all images, second minus first.
        low: 2.5th percentile of the resamples.
        high: 97.5th percentile.
        p_value: two-sided, of the hypothesis of no difference: twice the share of resamples on the other side of 0, and
            never below 2 / (resamples + 1).
    """

    value: float
    low: float
    high: float
    p_value: float


def confidence_intervals(
    metrics: Mapping[str, Metric], probabilities: Tensor, labels: Tensor, seed: int = 0
) -> dict[str, Interval | None]:
    """Return each metric's interval, the same for the same seed.

    It is None:
    - for fewer than two images, or if the metric is nan for all of them or for most resamples (resamples with nan are
      left out otherwise);
    - if a state of the metric is neither a tensor that is summed over ranks nor a list that is concatenated, or if it
      wraps another metric;
    - if the work would be too large: the summed states have more than MOST_SUMMED / FEWEST_GROUPS numbers, or the
      concatenated ones more than MOST_CONCATENATED (exact mean average precision has two for each image and class).
      Above a tenth of the first and AT_FULL_COUNT of the second, there are fewer groups or resamples;
    - with a warning, if the metric fails.

    Args:
        metrics: by name; each computes a scalar. They are copied.
        probabilities: (N, K) float32.
        labels: (N,) class indices; or (N, K): 1 present, 0 absent, -1 unknown.
        seed: of the groups and the resamples.
    """
    found: dict[str, Interval | None] = {}
    for name, metric in metrics.items():
        values = _values_or_warning(name, metric, [probabilities], labels, seed)
        found[name] = None if values is None else _interval(values[0])
    return found


def computed(metric: Metric, predictions: Predictions) -> float:
    """Return a metric of predictions. It is computed by this process alone, which may be the only rank to do so."""
    metric = _of_one_process(metric)
    metric.update(predictions.probabilities, predictions.labels)
    return float(metric.compute())


def paired_differences(
    metrics: Mapping[str, Metric], one: Tensor, other: Tensor, labels: Tensor, seed: int = 0
) -> dict[str, Difference | None]:
    """Return how much each metric differs between two classifiers on the same images; None as `confidence_intervals`.

    Both have the same resamples, so what makes images easy or hard for both does not widen the interval.

    Args:
        metrics: by name; each computes a scalar. They are copied.
        one: (N, K) float32 probabilities of the first classifier.
        other: (N, K) of the second.
        labels: (N,) class indices; or (N, K): 1 present, 0 absent, -1 unknown.
        seed: of the groups and the resamples.
    """
    found: dict[str, Difference | None] = {}
    for name, metric in metrics.items():
        values = _values_or_warning(name, metric, [one, other], labels, seed)
        found[name] = None if values is None else _difference(values[1] - values[0])
    return found


def resamples(images: int, groups: int, times: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Return the rows of each group's images, and the groups of each resample: (times, groups) int64."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(images, generator=generator).tensor_split(groups)
    return list(rows), torch.randint(groups, (times, groups), generator=generator)


def _values_or_warning(name: str, metric: Metric, runs: list[Tensor], labels: Tensor, seed: int) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a metric that misses a class in a resample
            return _values(metric, runs, labels, seed)
    except Exception as error:  # a metric may need each class, for example, and a resample may lack one
        log.warning("metrics.%s: no confidence interval, as the metric fails on a resample: %s", name, error)
        return None


def _values(metric: Metric, runs: list[Tensor], labels: Tensor, seed: int) -> np.ndarray | None:
    """Return (runs, 1 + R) float64: the metric on all images, then on each of R resamples; None if that can't be done.

    runs: probabilities (N, K) of each classifier.
    """
    metric = _of_one_process(metric)
    groups = min(MOST_GROUPS, len(labels), MOST_SUMMED // max(1, _summed(metric)))
    if not _combinable(metric) or groups < min(FEWEST_GROUPS, max(2, len(labels))):
        return None
    rows, drawn = resamples(len(labels), groups, RESAMPLES, seed)
    states = [_states(metric, probabilities, labels, rows) for probabilities in runs]
    numbers = sum(part.numel() for parts in states[0].values() if isinstance(parts, list) for part in parts)
    if numbers > MOST_CONCATENATED:
        return None
    times = max(FEWEST_RESAMPLES, RESAMPLES * AT_FULL_COUNT // max(AT_FULL_COUNT, numbers))
    drawn = torch.cat([torch.arange(groups)[None], drawn[:times]])
    return np.array([list(_computed(metric, state, drawn)) for state in states])


def _of_one_process(metric: Metric) -> Metric:
    """Return a copy on the CPU that does not wait for other ranks and computes anew each time."""
    metric = metric.clone().cpu()
    metric.reset()
    metric.distributed_available_fn = lambda: False
    metric.compute_with_cache = False
    return metric


def _summed(metric: Metric) -> int:
    return sum(state.numel() for state in metric.metric_state.values() if isinstance(state, Tensor))


def _combinable(metric: Metric) -> bool:
    wraps = any(isinstance(part, Metric) for part in metric.modules() if part is not metric)
    kinds = {(type(value), metric._reductions[name]) for name, value in metric.metric_state.items()}
    return bool(kinds) and not wraps and kinds <= {(Tensor, dim_zero_sum), (list, dim_zero_cat)}


def _states(metric: Metric, probabilities: Tensor, labels: Tensor, groups: list[Tensor]) -> State:
    """Return the metric's state of each group."""
    states = []
    for rows in groups:
        metric.reset()
        metric.update(probabilities[rows], labels[rows].long())
        states.append({name: _joined(value) for name, value in metric.metric_state.items()})
    lists = {name for name, value in metric.metric_state.items() if isinstance(value, list)}
    columns = {name: [state[name] for state in states] for name in states[0]}
    return {name: parts if name in lists else torch.stack(parts) for name, parts in columns.items()}


def _joined(state: Tensor | list[Tensor]) -> Tensor:
    return dim_zero_cat(state) if isinstance(state, list) else state


def _computed(metric: Metric, states: State, drawn: Tensor) -> Iterator[float]:
    """Yield the metric of each resample; drawn: (R, G) groups."""
    weights = torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())
    stacked = {name: value for name, value in states.items() if isinstance(value, Tensor)}
    lists = {name: value for name, value in states.items() if isinstance(value, list)}
    sums = {name: _weighted_sums(value, weights) for name, value in stacked.items()}
    for groups in drawn.tolist():
        for name, parts in lists.items():
            setattr(metric, name, [torch.cat([parts[group] for group in groups])])
        for name, values in sums.items():
            setattr(metric, name, next(values))
        yield float(metric.compute())


def _weighted_sums(states: Tensor, weights: Tensor) -> Iterator[Tensor]:
    """Yield the sum of the groups' states, for each row of weights; exact for integers below 2^53.

    states: (G, ...); weights: (R, G) float64.
    """
    flat = states.reshape(len(states), -1).double()  # (G, S)
    for some in weights.split(max(1, MOST_SUMMED // (10 * max(1, flat.shape[1])))):
        for row in some @ flat:
            yield row.reshape(states.shape[1:]).to(states.dtype)


def _interval(values: np.ndarray) -> Interval | None:
    """values: (1 + R,): the figure on all images, then on each resample."""
    value, drawn = float(values[0]), values[1:]
    if np.isnan(value) or np.isnan(drawn).mean() > 0.5:
        return None
    low, high = np.nanquantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(value, float(low), float(high))


def _difference(values: np.ndarray) -> Difference | None:
    """values: (1 + R,): the difference on all images, then on each resample."""
    interval, drawn = _interval(values), values[1:][~np.isnan(values[1:])]
    other_side = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    return interval and Difference(*interval, float(min(1.0, 2 * (other_side + 1) / (len(drawn) + 1))))
