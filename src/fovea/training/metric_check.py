"""Tries metrics on made-up predictions before training, to find those that count a class without labels as wrong."""

import logging
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

log = logging.getLogger(__name__)
CLASSES = 4  # that the metrics on trial are built for


def check_metrics(metrics: Mapping[str, Metric], multilabel: bool, lacking: str) -> None:
    """Warn of each metric that falls short for perfect predictions because a class has no labels.

    Args:
        metrics: by name, built for CLASSES classes; they are used up.
        lacking: which of the data's classes have none, and where, for the warning.
    """
    whole = torch.eye(CLASSES).long()  # (B, K): one image of each class
    for name, metric in metrics.items():
        at_best = _figure(metric, whole, multilabel)
        if at_best is None:
            continue
        for value in (0, -1) if multilabel else (0,):
            without = whole.clone()
            without[:, -1] = value
            found = _figure(metric, without if multilabel else whole[:-1], multilabel)
            if found is not None and abs(found - at_best) > 1e-4:
                log.warning(
                    "metrics.%s: perfect predictions give %.3f in place of %.3f where one of %d classes is %s; %s: the "
                    "figure depends on that\nfovea.metrics.precision_recall.MacroF1, fovea.metrics.auroc.MeanAUROC and "
                    "fovea.metrics.average_precision.MeanAveragePrecision leave such classes out",
                    *(name, found, at_best, CLASSES, "unknown" if value else "absent", lacking),
                )
                break


def _figure(metric: Metric, target: Tensor, multilabel: bool) -> float | None:
    """Of perfect predictions; None where the metric can't be tried, or gives no number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            metric.reset()
            metric.update((target == 1).float(), target if multilabel else target.argmax(1))
            value = float(metric.compute())
        except Exception:  # a metric may raise anything; in training it says what it lacks
            return None
    return None if value != value else value
