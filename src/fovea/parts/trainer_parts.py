"""Builds the callbacks, loggers and profiler of Lightning's Trainer from the config."""

import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from omegaconf import DictConfig, OmegaConf

from fovea.callbacks.averaged_weights import AveragedWeights
from fovea.config.schema import check_monitor
from fovea.data.progressive import batch_sizes
from fovea.error_text import line
from fovea.loggers.metrics_csv import MetricsCsv
from fovea.loggers.tolerant import tolerant
from fovea.training.save_best import SaveBest
from fovea.training.save_last import SaveLast

log = logging.getLogger(__name__)

PROFILERS = ("simple", "advanced", "pytorch", "xla")  # Lightning's names


def callbacks(cfg: DictConfig) -> list[Callback]:
    """Build all callbacks of a training. SaveLast comes last, because it saves the state of the others.

    Raises:
        ValueError: two callbacks would write the same file or weights; or the monitor needs averaged weights, and no
            callback averages them.
    """
    built = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    built += compiling(cfg)
    built.sort(key=lambda callback: isinstance(callback, SaveLast))
    _refuse_two_writers(built, ", ".join(cfg.callbacks))
    averages = [callback.kind for callback in built if isinstance(callback, AveragedWeights)]
    check_monitor(cfg.monitor, [*cfg.metrics, "loss"], averages)
    return built


def _refuse_two_writers(built: Sequence[Callback], keys: str) -> None:
    written = [str(callback.file) for callback in built if isinstance(callback, SaveBest | SaveLast)]
    kinds = [callback.kind for callback in built if isinstance(callback, AveragedWeights)]
    written += [f"the averaged weights ({kind}) of a checkpoint" for kind in kinds]
    twice = [place for n, place in enumerate(written) if place in written[:n]]
    if twice:
        raise ValueError(f"callbacks: two of {keys} would write {twice[0]}: keep one of them")


def averages(cfg: DictConfig) -> list[Callback]:
    """Build the callbacks that an evaluation needs: those that average weights. The others need not be installed."""
    return [instantiate(node) for key, node in cfg.callbacks.items() if node is not None and _is_average(key, node)]


def compiling(cfg: DictConfig) -> list[Callback]:
    """Build the callback of compile=true, which comes after those that average weights."""
    if not OmegaConf.select(cfg, "compile"):  # a run of an earlier version has no such key
        return []
    from fovea.speed.compile_callback import CompileNetworks  # here, because torch's compiler is slow to import

    return [CompileNetworks(batch_sizes(cfg.data.get("progressive"), cfg.data.batch_size).of_epochs())]


def _is_average(key: object, node: DictConfig) -> bool:
    try:
        return builds(node, AveragedWeights)
    except Exception as error:  # an import may raise any class of error
        log.warning("callbacks.%s is left out: %s", key, str(error).splitlines()[0])
        return False


def wanted(built: Sequence[Callback], keys: DictConfig, loggers: Sequence[Logger]) -> list[Callback]:
    """Remove the callbacks that the trainer's `keys` turn off, and a LearningRateMonitor if there is no logger."""
    unwanted: list[type[Callback]] = []
    if not keys.enable_progress_bar:
        unwanted.append(ProgressBar)
    if not keys.enable_checkpointing:
        unwanted.append(Checkpoint)
    if not loggers:
        unwanted.append(LearningRateMonitor)
    return [callback for callback in built if not isinstance(callback, tuple(unwanted))]


def loggers(cfg: DictConfig) -> list[Logger]:
    """Build the loggers, made tolerant. A logger that fails at its start (a service is down) is skipped with a warning.

    Raises:
        InstantiationException: a logger isn't installed, or doesn't accept one of its arguments.
    """
    _finish_wandb()
    built = [_logger(name, node) for name, node in cfg.logger.items()]
    return [logger for logger in built if logger is not None]


def _finish_wandb() -> None:
    """End the wandb run of a sweep's earlier job, because wandb would log this job into it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _logger(name: object, node: DictConfig) -> Logger | None:
    try:
        logger: Logger = instantiate(node)
    except InstantiationException as error:
        reason = error.__cause__
        if reason is None or isinstance(reason, ImportError | TypeError) or builds(node, MetricsCsv):
            raise
        log.warning("logger.%s can't be started, and the run goes on without it: %s", name, line(reason))
        return None
    return logger if isinstance(logger, MetricsCsv) else tolerant(logger)


def builds(node: Any, kind: type) -> bool:
    """Whether a node's `_target_` is this class or derived from it; False for functions, whatever they return."""
    named = get_object(node._target_)
    return isinstance(named, type) and issubclass(named, kind)


def profiler(node: Any) -> Profiler | str:
    """Build the profiler from trainer.profiler: null, a name that Lightning knows, or a node."""
    if node is None:
        return NoProfiler()
    if isinstance(node, str) and node not in PROFILERS:
        raise ValueError(f"trainer.profiler={node}: there are {', '.join(PROFILERS)}; null means none")
    return node if isinstance(node, str) else instantiate(node, _convert_="all")


class NoProfiler(PassThroughProfiler):
    """Lightning's default profiler, with one empty context for all actions.

    Lightning's own makes a generator for each of the 50 actions of a step. For a linear network this took 9 % of the
    step (median of 24 interleaved runs on a CPU).
    """

    NOTHING: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self.NOTHING
