"""A run's folder: its config, where it came from, what came out of it."""

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

from fovea.config.secrets import everywhere, secret_values, without_values
from fovea.error_text import line
from fovea.files import write_safely
from fovea.runs import checkpoint, summary
from fovea.runs.results_file import results_of
from fovea.training.save_best import SaveBest

log = logging.getLogger(__name__)


def write_json(file: Path, content: Any) -> None:
    """As `write_safely` does. Secrets are left out, and what is not finite becomes null, for JSON has no NaN."""
    values = secret_values()
    content = everywhere(content, lambda text: without_values(text, values))
    write_safely(file, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


class Results:
    """results.json of one run, true of the last thing that happened. Of a run's processes only one `writes`."""

    def __init__(self, folder: Path, monitor: str, writes: bool) -> None:
        self.file, self.writes = folder / "results.json", writes
        before = results_of(folder)
        self.content: dict[str, Any] = before | {"status": "running", "monitor": monitor}
        self.content.pop("error", None)
        self.seconds_before, self.started = before.get("seconds") or 0.0, time.monotonic()
        self.begun = not before

    def update(self, **values: Any) -> None:
        """Write what is known now, and `values`."""
        self.begun = True
        seconds = round(self.seconds_before + time.monotonic() - self.started, 1)
        self.content |= values | {"seconds": seconds}
        if self.writes:
            write_json(self.file, self.content)

    def end(self, **values: str) -> None:
        """Note how it ended early; that it can't be noted, on a full disk, must not hide why."""
        try:
            self.update(**values)
        except OSError as error:
            log.error("%s can't be written: %s", self.file, error.strerror)

    @contextmanager
    def status(self) -> Iterator[None]:
        """`running` inside; then `finished`, `interrupted` or `failed` with the error's line, and how the run goes on.

        A run that is resumed keeps what it had until the first `update`: a resume that is refused changes nothing.
        """
        if self.begun:
            self.update()
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            if self.begun:
                self.end(status="interrupted")
                how = summary.to_go_on(self.file.parent) or "stopped"
                log.info(how, extra={"screen": how})
            raise (stop if isinstance(stop, SystemExit) else SystemExit(130)) from None
        except BaseException as error:
            if not self.begun:
                raise
            self.end(status="failed", error=line(error))
            how = summary.to_go_on(self.file.parent)
            if how and "resume=" not in str(error):  # some errors know better how
                error.add_note(how)
            raise
        self.update(status="finished")


def fitted(trainer: Trainer, monitor: str) -> dict[str, Any]:
    """What results.json says of the training: its length, its speed, its best checkpoint."""
    speed = trainer.callback_metrics.get("train/images_per_second")
    return {
        "best": _best(trainer, monitor),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "train_images_per_second": round(speed.item(), 1) if speed is not None else None,
    }


def keeper_of_best(trainer: Trainer, monitor: str) -> ModelCheckpoint | None:
    """The callback that has kept the checkpoint with the monitor's best value; a SaveBest before Lightning's own."""
    keepers = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor == monitor]
    keepers.sort(key=lambda keeper: not isinstance(keeper, SaveBest))
    return next((keeper for keeper in keepers if Path(keeper.best_model_path).is_file()), None)


def _best(trainer: Trainer, monitor: str) -> dict[str, Any] | None:
    keeper = keeper_of_best(trainer, monitor)
    if keeper is None:
        return None
    file = Path(keeper.best_model_path)
    state = checkpoint.read(file)
    score = math.nan if keeper.best_model_score is None else keeper.best_model_score.item()
    return {
        "checkpoint": f"{file.parent.name}/{file.name}",
        "epoch": state["epoch"],
        "step": state["global_step"],
        "value": score if math.isfinite(score) else None,  # Lightning keeps an undefined score as an infinity
    }


def figures(trainer: Trainer, split: str) -> dict[str, float]:
    """{metric: value} of what was logged under `<split>/`."""
    logged = {name.partition("/"): value.item() for name, value in trainer.callback_metrics.items()}
    return {name: value for (first, _, name), value in logged.items() if first == split}


def write_per_class(file: Path, class_names: Sequence[str], metrics: Mapping[str, Tensor]) -> None:
    """A CSV with a line for each class; what is not defined for a class is left empty."""
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out)
        writer.writerow(["class", *metrics])
        columns = [column.tolist() for column in metrics.values()]
        for k, name in enumerate(class_names):
            writer.writerow([name, *("" if c[k] != c[k] else round(c[k], 6) for c in columns)])
