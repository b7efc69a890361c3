"""Logs the config as hyperparameters before the training and the final figures after it, to every logger."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fovea.loggers.metrics_csv import MetricsCsv

Flat = dict[str, bool | int | float | str]


def log_start(loggers: Sequence[Logger], config: Mapping[str, Any]) -> None:
    """Log the config as hyperparameters, at the start, so that an interrupted run has them too."""
    for logger in loggers:
        logger.log_hyperparams(flat(config))


def log_end(loggers: Sequence[Logger], config: Mapping[str, Any], results: Mapping[str, Any], step: int) -> None:
    """Log the monitor's best value, and to TensorBoard also the test figures for its HParams tab.

    Args:
        loggers: the trainer's; metrics.csv is skipped, as results.json has these figures.
        config: plain containers.
        results: the content of results.json.
        step: the last step of the training.
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
    """Flatten the config to `{"optimizer.lr": 0.1}`.

    Lists become text, and characters in names that MLflow forbids become _.
    """
    return {re.sub(r"[^\w./ -]", "_", key, flags=re.ASCII): value for key, value in _leaves(config, "")}


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node if isinstance(node, bool | int | float | str) else str(node)
