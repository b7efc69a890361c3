"""Writes a run's results into its folder: results.json with the run's status, and figures per class."""

import csv
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from fovea.config.secrets import map_texts, secret_values, without_values
from fovea.error_text import line
from fovea.files import write_safely
from fovea.runs import checkpoint, summary
from fovea.runs.results_file import results_of
from fovea.training.save_best import SaveBest

log = logging.getLogger(__name__)


def write_json(file: Path, content: Any) -> None:
    """Write JSON atomically. Secrets are masked; numbers that are not finite become null, as JSON has no NaN."""
    values = secret_values()
    content = map_texts(content, lambda text: without_values(text, values))
    write_safely(file, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


class Results:
    """Keeps results.json up to date during a run. Only one rank `writes` it."""

    def __init__(self, folder: Path, monitor: str, writes: bool) -> None:
        self.file, self.writes = folder / "results.json", writes
        previous = results_of(folder)
        self.content: dict[str, Any] = previous | {"status": "running", "monitor": monitor}
        self.content.pop("error", None)
        self.seconds_before, self.started = previous.get("seconds") or 0.0, time.monotonic()
        self.begun = not previous

    def update(self, **values: Any) -> None:
        """Set `values` and write the file."""
        self.begun = True
        seconds = round(self.seconds_before + time.monotonic() - self.started, 1)
        self.content |= values | {"seconds": seconds}
        if self.writes:
            write_json(self.file, self.content)

    def end(self, **values: str) -> None:
        """Write how the run ended. If that fails, on a full disk, only log it, so that the first error is reported."""
        try:
            self.update(**values)
        except OSError as error:
            log.error("%s can't be written: %s", self.file, error.strerror)

    @contextmanager
    def status(self) -> Iterator[None]:
        """Set the status `running`, and at the end `finished`, `interrupted` or `failed` with the error's line.

        After an early end the command to resume is logged. The file of a resumed run is not changed before the first
        `update`, so that a refused resume changes nothing.
        """
        if self.begun:
            self.update()
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            if self.begun:
                self.end(status="interrupted")
                hint = summary.resume_hint(self.file.parent) or "stopped"
                log.info(hint, extra={"screen": hint})
            raise (stop if isinstance(stop, SystemExit) else SystemExit(130)) from None
        except BaseException as error:
            if not self.begun:
                raise
            self.end(status="failed", error=line(error))
            hint = summary.resume_hint(self.file.parent)
            if hint and "resume=" not in str(error):  # some errors have a better hint
                error.add_note(hint)
            raise
        self.update(status="finished")


def fit_results(trainer: Trainer, monitor: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of results.json about the training: its length, its speed, its best checkpoint.

    Args:
        trainer: after the training.
        monitor: chooses the best checkpoint.
        before: the results of the run before it was resumed, whose time is added.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    phases: dict[str, float] = next((callback.phases for callback in callbacks if hasattr(callback, "phases")), {})
    earlier = before.get("phases") or {}
    speed = trainer.callback_metrics.get("train/images_per_second")
    return {
        "best": _best(trainer, monitor),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "phases": {name: round(seconds + earlier.get(name, 0.0), 2) for name, seconds in phases.items()},
        "train_images_per_second": round(speed.item(), 1) if speed is not None else None,
    }


def best_checkpoint_callback(trainer: Trainer, monitor: str) -> ModelCheckpoint | None:
    """Return the callback that saved the checkpoint with the monitor's best value, preferably a SaveBest."""
    savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor == monitor]
    savers.sort(key=lambda saver: not isinstance(saver, SaveBest))
    return next((saver for saver in savers if Path(saver.best_model_path).is_file()), None)


def _best(trainer: Trainer, monitor: str) -> dict[str, Any] | None:
    saver = best_checkpoint_callback(trainer, monitor)
    if saver is None:
        return None
    file = Path(saver.best_model_path)
    state = checkpoint.read(file)
    score = math.nan if saver.best_model_score is None else saver.best_model_score.item()
    return {
        "checkpoint": f"{file.parent.name}/{file.name}",
        "epoch": state["epoch"],
        "step": state["global_step"],
        "value": score if math.isfinite(score) else None,  # Lightning stores an undefined score as infinity
    }


def figures(trainer: Trainer, split: str) -> dict[str, float]:
    """Return {metric: value} of the values that were logged as `<split>/<metric>`."""
    logged = {name.partition("/"): value.item() for name, value in trainer.callback_metrics.items()}
    return {name: value for (first, _, name), value in logged.items() if first == split}


def write_per_class(file: Path, class_names: Sequence[str], metrics: Mapping[str, Tensor]) -> None:
    """Write a CSV with a line for each class; undefined values are empty."""
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out)
        writer.writerow(["class", *metrics])
        columns = [column.tolist() for column in metrics.values()]
        for k, name in enumerate(class_names):
            writer.writerow([name, *("" if c[k] != c[k] else round(c[k], 6) for c in columns)])
