"""Builds the optimizer, its parameter groups and its schedule from the config."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import LBFGS, Optimizer

from fovea.models.layer_order import layer_numbers
from fovea.models.weights import head
from fovea.optim.warmup import with_warmup
from fovea.parts.partial_keys import check_keys
from fovea.parts.target import imported
from fovea.training.optimization import Optimization


def is_lbfgs(node: DictConfig) -> bool:
    """Return True if the optimizer's `_target_` is LBFGS. Raises ValueError if it can't be imported."""
    named = imported("optimizer", node._target_)
    return isinstance(named, type) and issubclass(named, LBFGS)


def rate_factor(cfg: DictConfig) -> float:
    """Return the factor of the learning rate for the images of an optimizer step: n, over all devices and batches.

    With the reference m = lr_reference_batch: linear n / m, sqrt (n / m)^0.5; 1 without lr_scaling.

    Source: linear for SGD: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.1; square root for Adam and
    its relatives: Malladi et al. 2022, https://arxiv.org/abs/2205.10287.
    """
    scaling = OmegaConf.select(cfg, "lr_scaling")  # missing in runs of earlier versions
    if scaling is None:
        return 1.0
    ratio: float = step_images(cfg) / cfg.lr_reference_batch
    return ratio if scaling == "linear" else math.sqrt(ratio)


def step_images(cfg: DictConfig) -> int:
    """Return the images of an optimizer step, over all devices and accumulated batches.

    With data.progressive.batch_size it is a step of the last epochs; the rate does not follow the batch size.
    """
    images: int = cfg.data.batch_size * cfg.trainer.accumulate_grad_batches
    return images


def scaling_text(cfg: DictConfig) -> str:
    """Return a line for the log about the scaled learning rate; empty without lr_scaling."""
    if OmegaConf.select(cfg, "lr_scaling") is None:
        return ""
    rate, factor, images = cfg.optimizer.lr, rate_factor(cfg), step_images(cfg)
    ratio = f"{images} / {cfg.lr_reference_batch}"
    times = ratio if cfg.lr_scaling == "linear" else f"sqrt({ratio})"
    scaled = f"{rate * factor:.6g} = {rate:g} x {times}"
    return f"learning rate: {scaled} for {images} images of a step (lr_scaling={cfg.lr_scaling})"


def optimization(cfg: DictConfig, network: nn.Module) -> Optimization:
    """Build the optimizer's parts for a network. The optimizer itself is made when the training begins.

    Raises:
        ValueError: LBFGS with accumulated batches: Lightning would add up the gradients of all weights that it tries.
    """
    batches = cfg.trainer.accumulate_grad_batches
    if batches > 1 and is_lbfgs(cfg.optimizer):
        raise ValueError(
            f"trainer.accumulate_grad_batches={batches}: LBFGS computes the gradient many times a step and can't "
            "accumulate it\nSet trainer.accumulate_grad_batches=1, or choose another optimizer"
        )
    factor, cfg = rate_factor(cfg), cfg.copy()
    if factor != 1:
        cfg.optimizer.lr *= factor  # parameter groups refer to it
    return Optimization(
        optimizer(cfg.optimizer),
        parameter_groups(cfg, network),
        _schedule(cfg),
        cfg.scheduler.interval,
        cfg.monitor,
    )


def optimizer(node: DictConfig) -> Callable[[Any], Optimizer]:
    """Build the function from parameters to the optimizer; NAdam, RAdam and Adamax don't know fused, even if null."""
    arguments = OmegaConf.to_container(node, resolve=True)
    assert isinstance(arguments, dict)
    if arguments.get("fused", "") is None:
        del arguments["fused"]
    built: Callable[[Any], Optimizer] = instantiate(arguments, _convert_="all")
    check_keys("optimizer", built)
    return built


def _schedule(cfg: DictConfig) -> Callable[[Any], Any]:
    arguments = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(arguments, dict)
    del arguments["interval"]
    schedule: Callable[[Any], Any] = instantiate(arguments, _convert_="all")
    check_keys("scheduler", schedule)
    warmup = OmegaConf.select(cfg, "warmup")  # missing in runs of earlier versions
    if warmup is None or warmup.shape is None or cfg.warmup_length == 0:
        return schedule
    options = {key: warmup[key] for key in ("shape", "length", "start_factor")}
    return partial(with_warmup, schedule=schedule, **options)


def parameter_groups(cfg: DictConfig, network: nn.Module) -> Any:
    """Build the parameter groups; what is null in their yaml is taken from the network and the optimizer.

    This is `classifier`, the names of the classifier's parameters; `layers`, the layer of each parameter; and
    `weight_decay`, which not every optimizer has.
    """
    node, known = cfg.parameter_groups, dict[str, Any]()
    if node.get("classifier", "") is None:
        known["classifier"] = sorted(head.classifier_names(network))
    if node.get("layers", "") is None:
        known["layers"] = layer_numbers(network)
    if node.get("weight_decay", "") is None:
        known["weight_decay"] = cfg.optimizer.get("weight_decay", 0.0)
    built = instantiate(node, **known, _convert_="all")
    check_keys("parameter_groups", built)
    return built
