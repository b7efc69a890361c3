"""How long a run is, in epochs and in optimizer steps, and what a schedule may follow of that."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from fovea.config.resolvers import CONF

LIGHTNINGS_EPOCHS = 1000  # where no limit is set
UNITS = {"total_steps": "step", "trainer.max_epochs": "epoch", "trainer.max_steps": "step"}  # what a key counts
REFERENCE = re.compile(r"\$\{\s*(schedule_length|total_steps|trainer\.max_epochs|trainer\.max_steps)\s*\}")


class RunLength(NamedTuple):
    """`epochs` and `steps` are None where the run has no end."""

    epochs: int | None
    steps: int | None
    steps_per_epoch: int


def run_length(cfg: DictConfig, batches: int) -> RunLength:
    """The run's length as Lightning's Trainer counts, at least 1 of each.

    Args:
        batches: of an epoch, over all devices, without the trainer's limits.
    """
    per_epoch = max(1, math.ceil(_limited(batches, cfg.trainer) / cfg.trainer.accumulate_grad_batches))
    epochs, steps = limits(cfg)
    if epochs is None and steps is None:
        return RunLength(None, None, per_epoch)
    steps = min(end for end in (steps, None if epochs is None else epochs * per_epoch) if end is not None)
    return RunLength(max(1, math.ceil(steps / per_epoch)), max(1, steps), per_epoch)


def _limited(batches: int, trainer: Any) -> int:
    """Batches of an epoch, as Lightning limits them: a whole number is so many, a fraction that part."""
    limit = trainer.overfit_batches or int(trainer.fast_dev_run) or trainer.limit_train_batches
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def limits(cfg: DictConfig) -> tuple[int | None, int | None]:
    """The limits in epochs and in optimizer steps; None is no limit. How far max_time leads is not known before."""
    trainer = cfg.trainer
    if trainer.fast_dev_run:
        return 1, int(trainer.fast_dev_run)
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs is None:
        timer = any(node and str(node.get("_target_")).endswith(".Timer") for node in cfg.callbacks.values())
        epochs = LIGHTNINGS_EPOCHS if steps < 0 and trainer.max_time is None and not timer else -1
    return (epochs if epochs >= 0 else None), (steps if steps >= 0 else None)


def fill_in(cfg: DictConfig, batches: int) -> RunLength:
    """Set the root keys that schedules refer to."""
    length = run_length(cfg, batches)
    by_epoch = cfg.scheduler.interval == "epoch"
    cfg.total_steps = length.steps
    cfg.schedule_length = length.epochs if by_epoch else length.steps
    cfg.schedule_epoch = 1 if by_epoch else length.steps_per_epoch
    return length


def check_schedule(cfg: DictConfig) -> None:
    """Look at what the schedule refers to, before the data is read.

    Raises:
        ValueError: it follows the length of a run that has no end, or a key that counts another unit than it.
    """
    interval, (epochs, steps) = cfg.scheduler.interval, limits(cfg)
    for place, text, key in _references(OmegaConf.to_container(cfg.scheduler), "scheduler"):
        counted = UNITS.get(key, interval)
        if counted != interval:
            raise ValueError(
                f"{place}={text} is a number of {counted}s, and scheduler.interval={interval}\n"
                "Refer to ${schedule_length}, which is the run's length in the schedule's own unit"
            )
        of_trainer = {"trainer.max_epochs": epochs, "trainer.max_steps": steps}
        if epochs is None and steps is None:
            limit = f"trainer.max_epochs={cfg.trainer.max_epochs} trainer.max_steps={cfg.trainer.max_steps}".lower()
            raise ValueError(
                f"scheduler ({_name(cfg)}): {place} follows the run's length, and the run has no end: {limit}\n"
                "Set trainer.max_epochs= or trainer.max_steps=, or take a schedule that needs no end:\n"
                f"scheduler={'|'.join(without_end())}"
            )
        if of_trainer.get(key, 0) is None:
            raise ValueError(f"{place}={text}, and {key} is no limit of this run: refer to ${{schedule_length}}")


def _references(node: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """(dotted path, expression, key) of every reference to the run's length."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _references(value, f"{place}.{key}")
    if isinstance(node, str):
        yield from ((place, node, key) for key in REFERENCE.findall(node))


def _name(cfg: DictConfig) -> str:
    return str(cfg.scheduler.get("_target_")).rpartition(".")[2]


def without_end() -> list[str]:
    """The yamls of conf/scheduler that don't refer to the run's length."""
    return [f.stem for f in sorted((CONF / "scheduler").glob("*.yaml")) if not REFERENCE.search(f.read_text("utf-8"))]
