"""Lets the training continue when a logger fails, because of the network, a full disk or a service that is down."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lightning.pytorch.loggers.logger import DummyLogger, Logger

log = logging.getLogger(__name__)
L = TypeVar("L", bound=Logger)


def tolerant(logger: L) -> L:
    """Catch all exceptions of the logger's public methods and properties; return the logger.

    The first failure is logged as a warning, and the logger is not called again: each call may wait for a service's
    timeout, and TensorBoard's writer can't recover. metrics.csv has all figures, and a resumed run tries again. The
    logger's class becomes a subclass of its original class, so isinstance checks still work.
    """
    original = type(logger)
    guarded = {name: _guard(name, getattr(original, name)) for name in dir(original) if not name.startswith("_")}
    logger.__class__ = type(original.__name__, (original,), guarded | {"failed": False})
    return logger


def _guard(name: str, member: Any) -> Any:
    """Return the class attribute in a version that raises nothing."""
    if isinstance(member, property):
        return property(_guard_call(name, member.fget), member.fset) if member.fget else member
    return _guard_call(name, member) if callable(member) else member


def _guard_call(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    # code that uses logger.experiment.add_image(...) must work after a failure too
    fallback = DummyLogger().experiment if name == "experiment" else None

    @wraps(call)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.failed:
            return fallback
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            _warn_once(self, error)
            return fallback

    return guarded


def _warn_once(logger: Any, error: Exception) -> None:
    """Warn, unless a guarded method that this one called has already done so."""
    if not logger.failed:
        logger.failed = True
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("the logger %s failed, so the run continues without it: %s", type(logger).__name__, reason)
