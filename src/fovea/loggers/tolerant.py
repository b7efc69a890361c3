"""Keeps a training going when a logger fails: no network, a full disk, a service that is down."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lightning.pytorch.loggers.logger import DummyLogger, Logger

log = logging.getLogger(__name__)
L = TypeVar("L", bound=Logger)


def tolerant(logger: L) -> L:
    """Make the logger's public methods and properties raise nothing; returns the logger.

    At the first failure a warning says so, and from then on the logger is not called: each further call may wait until
    a service's timeout, and TensorBoard's writer fails for good. metrics.csv has everything, and a resumed run tries
    again. The logger gets a class derived from its own, so it stays an instance of that.
    """
    own = type(logger)
    guarded = {name: _guarded(name, getattr(own, name)) for name in dir(own) if not name.startswith("_")}
    logger.__class__ = type(own.__name__, (own,), guarded | {"failed": False})
    return logger


def _guarded(name: str, member: Any) -> Any:
    """A class's attribute that raises nothing."""
    if isinstance(member, property):
        return property(_guarded_call(name, member.fget), member.fset) if member.fget else member
    return _guarded_call(name, member) if callable(member) else member


def _guarded_call(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    # code that uses logger.experiment.add_image(...) is to work without it too
    instead = DummyLogger().experiment if name == "experiment" else None

    @wraps(call)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.failed:
            return instead
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            _report(self, error)
            return instead

    return guarded


def _report(logger: Any, error: Exception) -> None:
    """Warn once; one guarded method may have called another that has reported already."""
    if not logger.failed:
        logger.failed = True
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("the logger %s fails, and the run goes on without it: %s", type(logger).__name__, reason)
