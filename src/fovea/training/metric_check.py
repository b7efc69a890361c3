"""Tests metrics on synthetic predictions before training, to find those that fail or count absent classes as wrong."""

import logging
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric

log = logging.getLogger(__name__)
CLASSES = 4  # that the tested metrics are built for


def check_accepted(metrics: Mapping[str, Metric], multilabel: bool, num_classes: int) -> None:
    """Check that each metric can be updated with the data's kind of labels; its errors would end a whole epoch.

    Args:
        metrics: by name; they are copied.
        multilabel: whether labels are (B, K), not (B,).
        num_classes: K.

    Raises:
        ValueError: a metric can't.
    """
    images = 5 if num_classes != 5 else 6  # not K, with which (B,) and (B, K) can be compared
    labels = torch.arange(images) % num_classes
    known = one_hot(labels, num_classes)  # (B, K)
    for name, metric in metrics.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                metric.clone().update(known.float(), known if multilabel else labels)
        except Exception as error:  # any exception is possible
            kind, shape = ("several labels", "(B, K)") if multilabel else ("one label", "(B,)")
            raise ValueError(
                f"metrics.{name}: {type(metric).__name__} fails on {kind} an image, {shape}: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}\n"
                f"Leave it out with metrics.{name}=null, or choose metrics for such labels"
            ) from error


def check_metrics(metrics: Mapping[str, Metric], multilabel: bool, lacking: str) -> None:
    """Warn of each metric that gives perfect predictions a worse value because a class has no labels.

    Args:
        metrics: by name, built for CLASSES classes; their state is overwritten.
        lacking: which classes of the data have no labels in which split, for the warning.
    """
    complete = torch.eye(CLASSES).long()  # (B, K): one image of each class
    for name, metric in metrics.items():
        best = _perfect_value(metric, complete, multilabel)
        if best is None:
            continue
        for label in (0, -1) if multilabel else (0,):
            without = complete.clone()
            without[:, -1] = label
            value = _perfect_value(metric, without if multilabel else complete[:-1], multilabel)
            if value is not None and abs(value - best) > 1e-4:
                log.warning(
                    "metrics.%s: perfect predictions give %.3f instead of %.3f if one of %d classes is %s, which "
                    "distorts the figure: %s\nfovea.metrics.precision_recall.MacroF1, fovea.metrics.auroc.MeanAUROC "
                    "and fovea.metrics.average_precision.MeanAveragePrecision leave such classes out",
                    *(name, value, best, CLASSES, "unknown" if label else "absent", lacking),
                )
                break


def _perfect_value(metric: Metric, target: Tensor, multilabel: bool) -> float | None:
    """Return the metric of perfect predictions; None if it fails or is no single number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            metric.reset()
            metric.update((target == 1).float(), target if multilabel else target.argmax(1))
            value = float(metric.compute())
        except Exception:  # any exception is possible; if it is a real fault, training raises it again
            return None
    return None if value != value else value
