"""Says over how many classes a mean was taken, and which figures are undefined."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torchmetrics import Metric

log = logging.getLogger(__name__)
MOST = 10  # names of classes that are listed


def is_undefined(name: str, figures: Mapping[str, Tensor], labels_known: bool) -> bool:
    """Whether a figure is nan because labels are lacking, and not because the network's loss is nan too."""
    if name not in figures or not figures[name].isnan():
        return False
    loss = figures.get(f"{name.partition('/')[0]}/loss")
    return loss is None or not loss.isnan().item() or not labels_known


class Notes:
    """Logs which figures are undefined, each once, and over how many classes a split's means are, once for each split.

    Args:
        monitor: the figure that is followed.
        class_names: K; None: their numbers.
    """

    def __init__(self, monitor: str, class_names: Sequence[str] | None) -> None:
        self.monitor, self.class_names = monitor, class_names
        self.said: set[str] = set()  # names of undefined figures, and of splits

    def say(self, split: str, metrics: Mapping[str, Metric], undefined: Iterable[str]) -> None:
        """`metrics` by the names of their figures; `undefined`: names of figures of the split."""
        new = sorted(set(undefined) - self.said)
        if split not in self.said:
            say_left_out({name: m for name, m in metrics.items() if name not in new}, self.class_names)
        if new:
            say_undefined(new, self.monitor)
        self.said |= {split, *new}


def say_left_out(metrics: Mapping[str, Metric], class_names: Sequence[str] | None) -> None:
    """Log, for each metric whose last mean was not over all classes, over how many it was and which were left out.

    Args:
        metrics: by the names of their figures. Those that have an attribute `defined`, (K,) bool, are means over
            classes; their `undefined_for` says what the classes are that are left out.
        class_names: K; None: their numbers.
    """
    for name, metric in metrics.items():
        defined = getattr(metric, "defined", None)
        if defined is None or defined.all():
            continue
        left_out = [class_names[k] if class_names else str(k) for k in (~defined).nonzero().flatten().tolist()]
        log.info(
            "%s is the mean over %d of %d classes; left out are those %s: %s",
            *(name, len(defined) - len(left_out), len(defined), metric.undefined_for, shortened(left_out)),
        )


def say_undefined(names: Sequence[str], monitor: str) -> None:
    """Warn of figures that are no number because the labels of the images don't define them."""
    log.warning("undefined with the labels of these images (nan; null in results.json): %s", ", ".join(names))
    if monitor in names:
        log.warning(
            "%s is the monitor: while it is undefined, the checkpoint with the lowest loss is kept as the best, and "
            "early stopping and plateau schedules pass over the validation; monitor=<split>/<metric> chooses another",
            monitor,
        )


def shortened(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
