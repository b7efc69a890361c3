"""Logs how many classes a mean includes, and warns of undefined figures."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torchmetrics import Metric

log = logging.getLogger(__name__)
MOST_NAMES = 10  # of classes, in a message


def is_undefined(name: str, figures: Mapping[str, Tensor], labels_known: bool) -> bool:
    """Return True if a figure is nan because labels are missing, and not because the network's outputs are nan."""
    if name not in figures or not figures[name].isnan():
        return False
    loss = figures.get(f"{name.partition('/')[0]}/loss")
    return loss is None or not loss.isnan().item() or not labels_known


class ClassMeansLog:
    """Warns once of each undefined figure, and logs once per split how many classes its means include.

    Args:
        monitor: the monitored figure.
        class_names: K names; None: class numbers are logged.
    """

    def __init__(self, monitor: str, class_names: Sequence[str] | None) -> None:
        self.monitor, self.class_names = monitor, class_names
        self.logged: set[str] = set()  # undefined figures and splits

    def update(self, split: str, metrics: Mapping[str, Metric], undefined: Iterable[str]) -> None:
        """Log what was not logged before; `metrics` are by figure name, `undefined` are figure names of the split."""
        new = sorted(set(undefined) - self.logged)
        if split not in self.logged:
            log_left_out_classes({name: m for name, m in metrics.items() if name not in new}, self.class_names)
        if new:
            warn_about_undefined(new, self.monitor)
        self.logged |= {split, *new}


def log_left_out_classes(metrics: Mapping[str, Metric], class_names: Sequence[str] | None) -> None:
    """Log, for each metric whose last mean was not over all classes, the number of classes and those left out.

    Args:
        metrics: by figure name. A mean over classes has an attribute `defined`, (K,) bool, and an attribute
            `undefined_for`, which describes the classes that it leaves out.
        class_names: K names; None: class numbers are logged.
    """
    for name, metric in metrics.items():
        defined = getattr(metric, "defined", None)
        if defined is None or defined.all():
            continue
        left_out = [class_names[k] if class_names else str(k) for k in (~defined).nonzero().flatten().tolist()]
        log.info(
            "%s is the mean over %d of %d classes; left out are classes %s: %s",
            *(name, len(defined) - len(left_out), len(defined), metric.undefined_for, shortened(left_out)),
        )


def warn_about_undefined(names: Sequence[str], monitor: str) -> None:
    """Warn of figures that are nan because the images don't have the labels that define them."""
    log.warning("undefined with the labels of these images (nan; null in results.json): %s", ", ".join(names))
    if monitor in names:
        log.warning(
            "%s is the monitor: while it is undefined, the checkpoint with the lowest loss is kept as the best, and "
            "early stopping and plateau schedules ignore the validation; to monitor another: monitor=<split>/<metric>",
            monitor,
        )


def shortened(names: Sequence[str]) -> str:
    """Return the first names and the number of the others."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
