"""Finds the mode of a monitored figure: max if higher is better, min if lower is better."""

import logging
from collections.abc import Mapping
from typing import Any

from fovea.runs.figure_names import split_name

log = logging.getLogger(__name__)


def mode_of(monitor: str, configured: str | None, metrics: Mapping[str, Any]) -> str:
    """Return `max` if higher values of the monitor are better, `min` if lower ones are.

    Args:
        monitor: `<split>/<metric>` or `<split>/<average>_<metric>`; the metric is `loss` or one of `metrics`.
        configured: `mode` of the config, which has priority; None: use the metric's `higher_is_better`.
        metrics: by name.

    Raises:
        ValueError: neither the config nor the metric defines the mode.
    """
    name = monitor.partition("/")[2]
    metric = metrics.get(name, metrics.get(split_name(name)[1]))
    higher = False if metric is None else getattr(metric, "higher_is_better", None)
    if not isinstance(higher, bool):
        if configured is None:
            raise ValueError(
                f"monitor={monitor}: {type(metric).__name__} doesn't define whether higher or lower values are better "
                "(higher_is_better)\nset mode=max or mode=min"
            )
        return configured
    mode = "max" if higher else "min"
    if configured not in (None, mode):
        better = "higher" if higher else "lower"
        log.warning(
            "mode=%s, but by its metric's higher_is_better, %s values of monitor=%s are better",
            *(configured, better, monitor),
        )
    return configured or mode
