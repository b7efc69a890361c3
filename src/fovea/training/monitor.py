"""Whether a monitored figure should rise or fall."""

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


def mode_of(monitor: str, typed: str | None, metrics: Mapping[str, Any]) -> str:
    """`max` where higher values of the monitor are better, `min` where lower ones are.

    Args:
        monitor: `<split>/<metric>` or `<split>/ema_<metric>`; the metric is `loss` or one of `metrics`.
        typed: the mode that the config says, which wins; None: as the metric's `higher_is_better` says.
        metrics: by name.

    Raises:
        ValueError: neither the config nor the metric says it.
    """
    name = monitor.partition("/")[2]
    metric = metrics.get(name, metrics.get(name.removeprefix("ema_")))
    higher = False if metric is None else getattr(metric, "higher_is_better", None)
    if not isinstance(higher, bool):
        if typed is None:
            raise ValueError(
                f"monitor={monitor}: {type(metric).__name__} doesn't say whether higher or lower values are better "
                "(higher_is_better)\ntype mode=max or mode=min"
            )
        return typed
    mode = "max" if higher else "min"
    if typed not in (None, mode):
        better = "higher" if higher else "lower"
        log.warning("mode=%s, but %s values of monitor=%s are better, as its metric says", typed, better, monitor)
    return typed or mode
