"""What every logger is told beside the curves: the run's config before the training, the final figures after it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fovea.loggers.metrics_csv import MetricsCsv

Flat = dict[str, bool | int | float | str]


def log_start(loggers: Sequence[Logger], config: Mapping[str, Any]) -> None:
    """Log the config as hyperparameters, so that a run that is stopped has them too."""
    for logger in loggers:
        logger.log_hyperparams(flat(config))


def log_end(loggers: Sequence[Logger], config: Mapping[str, Any], results: Mapping[str, Any], step: int) -> None:
    """Log the best value of the monitor and, where TensorBoard shows them beside the hyperparameters, the test figures.

    Args:
        loggers: the trainer's; metrics.csv is left out, as results.json has both.
        config: plain containers.
        results: what results.json holds.
        step: the training's last one.
    """
    best = results["best"] and results["best"]["value"]
    final = {} if best is None else {f"best/{results['monitor']}": best}
    shown = final | {f"test/{name}": value for name, value in results["test"].items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(flat(config), {f"final/{name}": value for name, value in shown.items()})
        elif final and not isinstance(logger, MetricsCsv):
            logger.log_metrics(final, step)


def flat(config: Mapping[str, Any]) -> Flat:
    """`optimizer.lr: 0.1`: one level, with lists as text and only those characters in names that MLflow takes."""
    return {re.sub(r"[^\w./ -]", "_", key, flags=re.ASCII): value for key, value in _leaves(config, "")}


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, bool | int | float | str) else str(node)
