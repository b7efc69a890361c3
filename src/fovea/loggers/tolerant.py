"""A logger that fails (no network, a full disk, a service that is down) is no reason to lose a training."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers.logger import Logger

log = logging.getLogger(__name__)
L = TypeVar("L", bound=Logger)


def tolerant(logger: L) -> L:
    """The same logger, of a class derived from its own whose public methods and properties raise nothing.

    At the first failure a line in the log says so, and the logger is left alone from then on: each further try may
    take a service's whole patience, and TensorBoard's writer is dead for good after one. metrics.csv has everything,
    and a resumed run tries again.
    """
    kind = type(logger)
    public = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    guarded: dict[str, Any] = {name: _guarded(name, value) for name, value in public.items() if callable(value)}
    for name, value in public.items():
        if isinstance(value, property) and value.fget is not None:
            guarded[name] = property(_guarded(name, value.fget), value.fset)
    logger.__class__ = type(kind.__name__, (kind,), guarded | {"gone": False})
    return logger


def _guarded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    # what is asked of a missing experiment is to go on too: logger.experiment.add_image(...)
    instead = _DummyExperiment() if name == "experiment" else None

    @wraps(call)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.gone:
            return instead
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            if not self.gone:  # else it comes of the failure that has been told
                self.gone = True
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                log.warning("the logger %s fails, and the run goes on without it: %s", type(self).__name__, reason)
            return instead

    return guarded
