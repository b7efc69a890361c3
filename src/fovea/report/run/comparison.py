"""Compares a run's test predictions with those of another run on the same images."""

from collections.abc import Mapping
from typing import NamedTuple

from torchmetrics import Metric

from fovea.report.errors import wrong
from fovea.report.prediction_file import Predictions
from fovea.report.statistics import significance
from fovea.report.statistics.intervals import Difference, computed, paired_differences


class Comparison(NamedTuple):
    """How a run differs from another one.

    Attributes:
        name: of the other run.
        own: this run's metrics.
        values: the other run's metrics.
        differences: this run's metrics minus the other's; None where no interval can be computed.
        only_one: the number of images that only this run gets right.
        only_other: the number of images that only the other run gets right.
        p_value: of McNemar's exact test of these two numbers.
    """

    name: str
    own: dict[str, float]
    values: dict[str, float]
    differences: dict[str, Difference | None]
    only_one: int
    only_other: int
    p_value: float


def compare(name: str, one: Predictions, other: Predictions, metrics: Mapping[str, Metric]) -> Comparison:
    """Compare two runs.

    Args:
        name: of the other run.
        one: this run's predictions.
        other: the other run's.
        metrics: by name; each computes a scalar.

    Raises:
        ValueError: the images, their labels or the classes differ.
    """
    one, other = significance.align(one, other)
    own, values = ({key: computed(metric, run) for key, metric in metrics.items()} for run in (one, other))
    differences = paired_differences(metrics, other.probabilities, one.probabilities, one.labels)
    test = significance.mcnemar(~wrong(one), ~wrong(other))
    return Comparison(name, own, values, differences, test.only_one, test.only_other, test.p_value)
