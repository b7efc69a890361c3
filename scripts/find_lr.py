"""Find a learning rate by a range test: `python scripts/find_lr.py [overrides of train.py]`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.runs.summary import short_path

if TYPE_CHECKING:
    import numpy as np
    from lightning import Callback

    from fovea.data.loading.datamodule import ImageDataModule
    from fovea.task import ClassificationTask

log = logging.getLogger(__name__)
ALONE = {  # keys of the trainer that differ from the training's
    **{"devices": 1, "num_nodes": 1, "strategy": "auto"},
    **{"max_epochs": -1, "min_epochs": None, "min_steps": None, "max_time": None, "limit_val_batches": 0},
    **{"fast_dev_run": False, "enable_checkpointing": False, "profiler": None, "sync_batchnorm": False},
}


@entry("find_lr")
def main(cfg: DictConfig) -> None:
    """Test, print the suggestions and write the page."""
    output = Path(cfg.output)
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ValueError(f"output={output}: give a file that ends in .html")
    if cfg.lowest_lr >= cfg.highest_lr:
        raise ValueError(f"lowest_lr={cfg.lowest_lr} must be below highest_lr={cfg.highest_lr}")
    from fovea.optim.range_test import rising_rates, smoothed, suggestion
    from fovea.report.learning_rate_page import learning_rate_page
    from fovea.report.page import save

    rates = rising_rates(cfg.lowest_lr, cfg.highest_lr, cfg.steps)
    losses = test(cfg, rates)
    rates, means = rates[: len(losses)], smoothed(losses)
    found = suggestion(rates, means)
    facts = describe(cfg, rates)
    marks = [("steepest descent", found.steepest), ("a tenth of the minimum's rate", found.tenth_of_minimum)]
    save(output, learning_rate_page("Learning-rate range test", facts, rates, losses, means, marks))
    lines = [f"{name}: {value}" for name, value in facts]
    lines += [f"{name}: optimizer.lr={rate:.2g}" for name, rate in marks]
    log.info("%s", "\n".join([*lines, f"curve: {short_path(output)}"]))


def test(cfg: DictConfig, rates: "np.ndarray") -> "np.ndarray":
    """Train one step at each rate, and return the losses (S,) up to the first that is not finite."""
    from fovea import build
    from fovea.callbacks.deferred_weights import DeferredWeights
    from fovea.models.weights.fill import load_weights
    from fovea.optim.range_test import RecordLosses, rising_schedule
    from fovea.parts.trainer_parts import builds

    cfg.data.progressive.batch_size = None  # all steps have data.batch_size
    if any(node is not None and builds(node, DeferredWeights) for node in cfg.callbacks.values()):
        cfg.loss.class_weights = None  # a training begins without them
    data = build.datamodule(cfg)
    cfg.trainer.update(ALONE | {"max_steps": len(rates)})
    task = build.task(cfg)
    build.check_loss(task, data, ("train",))
    if cfg.weights:
        load_weights(task.network, cfg.weights, cfg.class_names, cfg.weights_min_share)
    task.optimization.schedule = rising_schedule(rates, cfg.optimizer.lr)
    task.optimization.interval = "step"
    recorder = RecordLosses()
    fit(cfg, task, data, [*callbacks_that_change_the_training(cfg), recorder])
    return recorder.finite()


def fit(cfg: DictConfig, task: "ClassificationTask", data: "ImageDataModule", callbacks: "list[Callback]") -> None:
    """Train on one device, without loggers, validations and checkpoints."""
    from fovea import build
    from fovea.training.out_of_memory import suggest_smaller_batch

    cfg.callbacks = {}
    trainer = build.trainer(cfg, alone=True)
    trainer.callbacks += callbacks  # type: ignore[attr-defined]
    build.check_batch(cfg, data, task, trainer)
    with suggest_smaller_batch(cfg.data.batch_size, cfg.trainer.accumulate_grad_batches, 1):
        trainer.fit(task, datamodule=data, weights_only=True)


def callbacks_that_change_the_training(cfg: DictConfig) -> "list[Callback]":
    """Build the callbacks that change its gradients or what is trained; the others are left out."""
    from hydra.utils import instantiate

    from fovea.callbacks.agc import AdaptiveGradientClipping
    from fovea.callbacks.unfreeze import Unfreeze
    from fovea.callbacks.whitening import Whitening
    from fovea.parts.trainer_parts import builds

    nodes = [node for node in cfg.callbacks.values() if node is not None]
    kinds = (AdaptiveGradientClipping, Unfreeze, Whitening)
    return [instantiate(node) for node in nodes if any(builds(node, kind) for kind in kinds)]


def describe(cfg: DictConfig, rates: "np.ndarray") -> list[tuple[str, str]]:
    """Return the facts about the test."""
    end = "" if len(rates) == cfg.steps else f", of {cfg.steps}: the loss diverged"
    return [
        ("steps", f"{len(rates)}{end}"),
        ("rates", f"{rates[0]:.3g} to {rates[-1]:.3g}"),
        ("images of a step", f"{cfg.data.batch_size * cfg.trainer.accumulate_grad_batches:,}"),
        ("optimizer", str(cfg.optimizer._target_).rpartition(".")[2]),
        ("loss", str(cfg.loss._target_).rpartition(".")[2]),
    ]


if __name__ == "__main__":
    main()
