"""Computes a run's length in epochs and optimizer steps, and checks how schedules refer to it."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from fovea.config.keys import dotted
from fovea.config.resolvers import CONF

LIGHTNINGS_EPOCHS = 1000  # Lightning's default if no limit is set
UNITS = {"total_steps": "step", "trainer.max_epochs": "epoch", "trainer.max_steps": "step"}  # what a key counts
REFERENCE = re.compile(r"\$\{\s*(schedule_length|total_steps|trainer\.max_epochs|trainer\.max_steps)\s*\}")


class RunLength(NamedTuple):
    """`epochs` and `steps` are None if the run has no end.

    `epoch_steps` are the optimizer steps of each epoch; the last number holds for all later epochs.
    """

    epochs: int | None
    steps: int | None
    epoch_steps: tuple[int, ...]

    def steps_of(self, epochs: float) -> float:
        """Return the optimizer steps of the first epochs; part of an epoch has this part of its steps."""
        whole = int(epochs)
        known = self.epoch_steps[:whole]
        following = self.epoch_steps[min(whole, len(self.epoch_steps) - 1)]
        return sum(known) + (whole - len(known)) * self.epoch_steps[-1] + (epochs - whole) * following

    def epoch_of(self, step: int) -> int:
        """Return the epoch that an optimizer step belongs to; both are counted from 0."""
        for epoch, steps in enumerate(self.epoch_steps[:-1]):
            if step < steps:
                return epoch
            step -= steps
        return len(self.epoch_steps) - 1 + step // self.epoch_steps[-1]


def run_length(cfg: DictConfig, batches: Sequence[int]) -> RunLength:
    """Return the run's length as Lightning's Trainer counts it; each number is at least 1.

    Args:
        cfg: the config.
        batches: of each epoch, over all devices, without the trainer's limits; the last number holds for all later
            epochs.
    """
    accumulated = cfg.trainer.accumulate_grad_batches
    epoch_steps = tuple(max(1, math.ceil(n / accumulated)) for n in limited(batches, cfg.trainer))
    endless = RunLength(None, None, epoch_steps)
    epochs, steps = limits(cfg)
    if epochs is None and steps is None:
        return endless
    steps = min(end for end in (steps, None if epochs is None else int(endless.steps_of(epochs))) if end is not None)
    return RunLength(endless.epoch_of(max(1, steps) - 1) + 1, max(1, steps), epoch_steps)


def limited(batches: Sequence[int], trainer: Any) -> list[int]:
    """Apply the trainer's limits to the batches of each epoch: an integer is a number of batches, a float a share."""
    limit = trainer.overfit_batches or int(trainer.fast_dev_run) or trainer.limit_train_batches
    if limit is None:
        return [*batches]
    return [min(count, limit) if isinstance(limit, int) else int(count * limit) for count in batches]


def limits(cfg: DictConfig) -> tuple[int | None, int | None]:
    """Return the limits in epochs and in optimizer steps; None is no limit. max_time can't be converted to either."""
    trainer = cfg.trainer
    if trainer.fast_dev_run:
        return 1, int(trainer.fast_dev_run)
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs is None:
        timer = any(node and str(node.get("_target_")).endswith(".Timer") for node in cfg.callbacks.values())
        epochs = LIGHTNINGS_EPOCHS if steps < 0 and trainer.max_time is None and not timer else -1
    return (epochs if epochs >= 0 else None), (steps if steps >= 0 else None)


def fill_in(cfg: DictConfig, batches: Sequence[int]) -> RunLength:
    """Set the root keys that schedules refer to; `batches` as in `run_length`.

    Raises:
        ValueError: the warm-up leaves no step for the schedule.
    """
    length = run_length(cfg, batches)
    by_epoch = cfg.scheduler.interval == "epoch"
    whole, warmup = length.epochs if by_epoch else length.steps, _warmup_length(cfg, length)
    cfg.total_steps, cfg.warmup_length = length.steps, warmup
    cfg.schedule_epoch = 1 if by_epoch else _only(length.epoch_steps)
    cfg.schedule_length = None if whole is None else whole - warmup
    return length


def _only(numbers: Sequence[int]) -> int | None:
    """Return the number that all are; None if they differ."""
    return numbers[0] if len(set(numbers)) == 1 else None


def _warmup_length(cfg: DictConfig, run: RunLength) -> int:
    """Return the warm-up's length in the schedule's unit; 0 if there is none."""
    warmup = OmegaConf.select(cfg, "warmup")  # missing in runs of earlier versions
    if warmup is None or warmup.shape is None:
        return 0
    by_epoch = cfg.scheduler.interval == "epoch"
    whole = run.epochs if by_epoch else run.steps
    part = warmup.epochs
    if part is None:
        part = warmup.share * whole
    elif not by_epoch:
        part = run.steps_of(part)
    length = math.ceil(round(part, 6))  # without the rounding error of 0.1 * 30
    if whole is None or length < whole:
        return length
    if cfg.trainer.fast_dev_run:
        return whole - 1
    key = "share" if warmup.epochs is None else "epochs"
    unit = cfg.scheduler.interval
    raise ValueError(
        f"warmup.{key}={warmup[key]}: the warm-up has {length} {unit}s, but the run has {whole}, so the schedule has "
        f"none\nMake the warm-up shorter or the run longer"
        + (", or count it in steps: scheduler.interval=step" if unit == "epoch" else "")
    )


def check_schedule(cfg: DictConfig) -> None:
    """Check the schedule's references to the run's length, before the data is read.

    Raises:
        ValueError: the run has no end; a key counts another unit than the schedule's interval; the schedule can't have
            the warm-up; or it counts epochs in steps, and the epochs have different numbers of them.
    """
    interval, (epochs, steps) = cfg.scheduler.interval, limits(cfg)
    _check_epochs_of_one_length(cfg)
    _check_warmup(cfg, epochs is not None or steps is not None)
    for place, text, key in _references(OmegaConf.to_container(cfg.scheduler), "scheduler"):
        counted = UNITS.get(key, interval)
        if counted != interval:
            raise ValueError(
                f"{place}={text} is a number of {counted}s, but scheduler.interval={interval}\n"
                "Refer to ${schedule_length}, the run's length in the schedule's own unit"
            )
        of_trainer = {"trainer.max_epochs": epochs, "trainer.max_steps": steps}
        if epochs is None and steps is None:
            limit = f"trainer.max_epochs={cfg.trainer.max_epochs} trainer.max_steps={cfg.trainer.max_steps}".lower()
            raise ValueError(
                f"scheduler ({_name(cfg)}): {place} follows the run's length, but the run has no end: {limit}\n"
                "Set trainer.max_epochs= or trainer.max_steps=, or choose a schedule that needs no end:\n"
                f"scheduler={'|'.join(without_end())}"
            )
        if of_trainer.get(key, 0) is None:
            raise ValueError(f"{place}={text}, but {key} is not set for this run: refer to ${{schedule_length}}")


def _check_epochs_of_one_length(cfg: DictConfig) -> None:
    batch = OmegaConf.select(cfg, "data.progressive.batch_size")
    if not batch:
        return
    why = f"with data.progressive.batch_size={batch}, epochs have different numbers of steps"
    swa = cfg.callbacks.get("swa")
    if swa and swa.get("every_n_steps", 1) is None:
        raise ValueError(f"callbacks.swa.every_n_steps=null stands for an epoch, but {why}: type a number of steps")
    for place, value in dotted(OmegaConf.to_container(cfg.scheduler), "scheduler", into_lists=True):
        if cfg.scheduler.interval == "step" and "{schedule_epoch}" in str(value):
            raise ValueError(
                f"{place}={value} counts epochs in steps, but {why}: type {place}=<number>, or scheduler.interval=epoch"
            )


def _check_warmup(cfg: DictConfig, ends: bool) -> None:
    warmup, scheduler = OmegaConf.select(cfg, "warmup"), cfg.scheduler
    if warmup is None or warmup.shape is None:
        return
    if warmup.epochs is None and not ends:
        raise ValueError(
            f"warmup.share={warmup.share} is a share of the run, but the run has no end: type warmup.epochs=<number>"
        )
    if scheduler.get("warmup"):
        raise ValueError(
            f"warmup={warmup.shape}: scheduler ({_name(cfg)}) has a warm-up of its own, scheduler.warmup="
            f"{scheduler.warmup}\nKeep that one with warmup=none, or choose a schedule without one: scheduler=cosine"
        )
    every, at = cfg.trainer.check_val_every_n_epoch, scheduler.interval
    if _name(cfg) == "ReduceLROnPlateau" and (at != "epoch" or every != 1):
        raise ValueError(
            f"warmup={warmup.shape} before scheduler=plateau counts epochs with a validation: type "
            f"scheduler.interval=epoch trainer.check_val_every_n_epoch=1 (now {at} and {every})"
        )


def _references(node: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, expression, referenced key) of every reference to the run's length."""
    for key, value in dotted(node, place, into_lists=True):
        yield from ((key, value, referenced) for referenced in REFERENCE.findall(str(value)))


def _name(cfg: DictConfig) -> str:
    return str(cfg.scheduler.get("_target_")).rpartition(".")[2]


def without_end() -> list[str]:
    """Return the names of the yamls of conf/scheduler that don't refer to the run's length."""
    return [f.stem for f in sorted((CONF / "scheduler").glob("*.yaml")) if not REFERENCE.search(f.read_text("utf-8"))]
