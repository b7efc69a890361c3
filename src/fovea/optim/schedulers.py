"""Learning-rate schedules that torch's classes can't express from a yaml alone."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, CyclicLR, LambdaLR, LRScheduler, OneCycleLR, SequentialLR
from torch.optim.swa_utils import SWALR

log = logging.getLogger(__name__)

Schedule = Callable[[Optimizer], LRScheduler]


def sequential(optimizer: Optimizer, schedulers: list[Schedule], milestones: list[int]) -> SequentialLR:
    """Run schedules one after the other: schedulers[i + 1] begins at milestones[i], in epochs or steps."""
    return SequentialLR(optimizer, [schedule(optimizer) for schedule in schedulers], milestones)


def chained(optimizer: Optimizer, schedulers: list[Schedule]) -> ChainedScheduler:
    """Apply all schedules at the same time: their factors are multiplied."""
    return ChainedScheduler([schedule(optimizer) for schedule in schedulers], optimizer)


def one_cycle(optimizer: Optimizer, total_steps: int, **options: Any) -> OneCycleLR:
    """Return torch's OneCycleLR with each parameter group's own learning rate as its peak. `options` are torch's.

    Raises:
        ValueError: the momentum should be cycled, and the optimizer has two kinds of it.
    """
    cycles, own = options.get("cycle_momentum", True), optimizer.defaults
    if cycles and "momentum" in own and "betas" in own:
        raise ValueError(
            f"scheduler=one_cycle would cycle the betas of {type(optimizer).__name__} and leave its momentum as it is: "
            "type scheduler.cycle_momentum=false"
        )
    schedule = OneCycleLR(optimizer, max_lr=_rates(optimizer), total_steps=total_steps, **options)
    if cycles:
        log.info(
            "scheduler=one_cycle: the momentum falls from %s to %s and rises again, instead of optimizer.%s",
            *(options.get("max_momentum", 0.95), options.get("base_momentum", 0.85)),
            f"betas={list(own['betas'])}" if "betas" in own else f"momentum={own.get('momentum')}",
        )
    if schedule._schedule_phases[0]["end_step"] <= 0:
        log.warning("scheduler=one_cycle never reaches its peak within %d steps or epochs: train longer", total_steps)
    return schedule


def cyclic(optimizer: Optimizer, base_factor: float = 0.0, **options: Any) -> CyclicLR:
    """Return torch's CyclicLR between `base_factor` times each parameter group's own learning rate and that rate."""
    rates = _rates(optimizer)
    return CyclicLR(optimizer, base_lr=[base_factor * rate for rate in rates], max_lr=rates, **options)


def swalr(optimizer: Optimizer, swa_factor: float, **options: Any) -> SWALR:
    """Return torch's SWALR from each parameter group's own learning rate to `swa_factor` times that rate."""
    return SWALR(optimizer, swa_lr=[swa_factor * rate for rate in _rates(optimizer)], **options)  # type: ignore[arg-type]


def _rates(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def warmup_cosine(
    optimizer: Optimizer, total_steps: int | None, warmup: float = 0.05, final_factor: float = 0.0
) -> LambdaLR:
    """Linear warm-up to the optimizer's learning rate, then half a cosine down to `final_factor` times that rate.

    With T = total_steps, W = round(warmup * T), f = final_factor, the factor at step s is (s + 1) / (W + 1)
    for s < W, then f + (1 - f) (1 + cos(pi min(1, (s - W) / (T - W)))) / 2.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, eq. 5, and Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677, section 2.2. Deviation: the warm-up starts above 0.

    Raises:
        ValueError: the training has no end, or `warmup` is not in [0, 1).
    """
    total_steps = _known(total_steps, "warmup_cosine")
    if not 0 <= warmup < 1:
        raise ValueError(f"scheduler.warmup={warmup}: give a share of the training, at least 0 and below 1")
    warmup_steps = round(warmup * total_steps)
    return LambdaLR(
        optimizer, partial(warmup_cosine_factor, warmup=warmup_steps, total=total_steps, final=final_factor)
    )


def warmup_cosine_factor(step: int, warmup: int, total: int, final: float) -> float:
    """Return the factor at a step; see `warmup_cosine` for the formula. `warmup` is in steps."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def _known(total_steps: int | None, name: str) -> int:
    if total_steps is None:
        raise ValueError(
            f"scheduler={name} needs to know the end of the training: total_steps is null.\n"
            "Set trainer.max_epochs or trainer.max_steps, or choose scheduler=constant, which needs no end."
        )
    return total_steps


DECAYS: dict[str, Callable[[float], float]] = {  # the share of the decay that is done, in [0, 1] -> a factor, 1 to 0
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "sqrt": lambda x: 1 - math.sqrt(x),
}


def warmup_stable_decay(
    optimizer: Optimizer,
    total_steps: int | None,
    warmup: float = 0.05,
    decay: float = 0.2,
    shape: Literal["linear", "cosine", "sqrt"] = "sqrt",
    final_factor: float = 0.0,
) -> LambdaLR:
    """Linear warm-up to the optimizer's learning rate, that rate, and at the end a decay to `final_factor` times it.

    With T = total_steps, W = round(warmup * T), D = round(decay * T), f = final_factor, the factor at step s is
    (s + 1) / (W + 1) for s < W, 1 for s < T - D, then f + (1 - f) g(x) with x = min(1, (s - T + D) / D); g(x) is
    1 - x, (1 + cos(pi x)) / 2 or 1 - sqrt(x). A run can be prolonged from a checkpoint before its decay.

    Source: Zhai et al. 2022, https://arxiv.org/abs/2106.04560; Hu et al. 2024,
    https://arxiv.org/abs/2404.06395; the decay 1 - sqrt(x): Hägele et al. 2024, https://arxiv.org/abs/2405.18392.

    Args:
        optimizer: its learning rates are those of the middle part.
        total_steps: T; None if the training has no end, which is an error.
        warmup, decay: shares of the training, >= 0, together at most 1.
        shape: of the decay.
        final_factor: f, in [0, 1].

    Raises:
        ValueError: the training has no end, or a share or the shape is not one of these.
    """
    total_steps = _known(total_steps, "warmup_stable_decay")
    if min(warmup, decay) < 0 or warmup + decay > 1:
        raise ValueError(
            f"scheduler.warmup={warmup} scheduler.decay={decay}: give shares of the training, at least 0 and together "
            "at most 1"
        )
    if shape not in DECAYS:
        raise ValueError(f"scheduler.shape={shape}: there are {', '.join(DECAYS)}")
    begin, length = round(warmup * total_steps), round(decay * total_steps)
    factor = partial(
        warmup_stable_decay_factor, warmup=begin, decay=length, total=total_steps, shape=shape, final=final_factor
    )
    return LambdaLR(optimizer, factor)


def warmup_stable_decay_factor(step: int, warmup: int, decay: int, total: int, shape: str, final: float) -> float:
    """Return the factor at a step; see `warmup_stable_decay` for the formula. `warmup` and `decay` are in steps."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if step < total - decay:
        return 1.0
    progress = min(1.0, (step - total + decay) / max(1, decay))
    return final + (1 - final) * DECAYS[shape](progress)


def inverse_square_root(step: int, warmup_steps: int) -> float:
    """Return the factor min((s + 1) / W, sqrt(W / (s + 1))): it rises for W = warmup_steps, then falls without end.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 3, scaled to a peak of 1, at s = W - 1.
    """
    return min((step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1)))
