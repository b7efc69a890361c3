"""The progress bar: one line below the log, only on a terminal."""

import math
import os
import sys
import time
from typing import Any

import rich
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from rich.live import Live
from rich.text import Text
from torch import Tensor

from fovea.callbacks.best_checkpoint import find_saver
from fovea.callbacks.text.epoch_table import epoch_text, figure_text
from fovea.callbacks.text.progress_line import Speed, epochs_left, progress_line

PAINT_INTERVAL = 0.2  # seconds
VALIDATING = "validating"


class Progress(ProgressBar):
    """Shows epoch, batches, images per second over all devices, time left in the run and the monitor's best value.

    The main thread paints it: a second thread could hold the console's lock while a data loader worker is forked, and
    that worker could then not log. The only value read from the GPU is each new best value.
    `pl_module` is a ClassificationTask.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = rich.get_console()
        in_notebook = "JPY_PARENT_PID" in os.environ  # a `!` cell has a terminal, but can't move its cursor up
        self.enabled = self.console.is_interactive and sys.stdout.isatty() and not in_notebook
        utf = self.console.encoding.startswith("utf")
        self.symbols = "━─" if utf else "#-"
        self.live: Live | None = None
        self.label, self.done, self.total = "", 0, math.inf
        self.training, self.evaluating = Speed(), Speed()
        self.speed, self.painted = self.training, 0.0
        self.trained = 0  # batches of the epoch
        self.started: tuple[float, float] | None = None  # (time, what was left) at the first batch
        self.ends: float | None = None  # expected time of the run's end
        self.score: Tensor | None = None
        self.best = ""

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar; `self.print` of a module calls this."""
        self.console.print(*args, **kwargs)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start here too, because a run that is resumed within an epoch skips on_train_epoch_start."""
        self.trained = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        self._train(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.trained = 0
        self._train(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.trained = batch_idx + 1
        if self._advance(trainer, batch, self.trained):
            self._expect_end(_epochs_left(trainer, self.trained), timer=_timer_left(trainer))
            self._paint(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        counts = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._evaluate(trainer, pl_module, "checking" if trainer.sanity_checking else VALIDATING, counts)

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._evaluate(trainer, pl_module, "testing", trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._evaluate(trainer, pl_module, "predicting", trainer.num_predict_batches)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self._evaluated(trainer, pl_module, batch)

    def on_test_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self._evaluated(trainer, pl_module, batch)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self._evaluated(trainer, pl_module, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._train(trainer, pl_module)
        else:
            self._hide()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hide()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hide()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hide()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._hide()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._hide()

    def _train(self, trainer: Trainer, pl_module: Any) -> None:
        total = trainer.max_epochs if (trainer.max_epochs or 0) > 0 else None
        epoch = f"epoch {epoch_text(trainer.current_epoch + 1, total)}"
        self.speed, self.label = self.training, f"{epoch:{len(VALIDATING)}}"
        self.done, self.total = self.trained, trainer.num_training_batches
        self.speed.pause()
        self._paint(trainer, pl_module)

    def _evaluate(self, trainer: Trainer, pl_module: Any, label: str, counts: list[int | float]) -> None:
        self.speed, self.label = self.evaluating, f"{label:{len(self.label)}}"
        self.done, self.total = 0, sum(counts)
        self.speed.pause()
        if trainer.state.fn != "fit":
            self.started = self.ends = None
        self._paint(trainer, pl_module)

    def _evaluated(self, trainer: Trainer, pl_module: Any, batch: Any) -> None:
        if self._advance(trainer, batch, self.done + 1):
            if trainer.state.fn != "fit":
                self._expect_end(self.total - self.done)
            self._paint(trainer, pl_module)

    def _advance(self, trainer: Trainer, batch: Any, done: int) -> bool:
        """Count a batch and return True if the bar should be painted."""
        self.done = done
        self.speed.images += len(batch[0]) * trainer.world_size
        now = time.monotonic()
        return self.enabled and (not self.speed.samples or now - self.painted >= PAINT_INTERVAL)

    def _expect_end(self, left: float | None, timer: float | None = None) -> None:
        """Estimate the end from the mean speed and what is `left`, or from the seconds until trainer.max_time.

        `left` are epochs of a training, or batches of an evaluation.
        """
        now, seconds = time.monotonic(), math.inf if timer is None else timer
        if left is not None and self.started is None:
            self.started = now, left
        elif left is not None and self.started is not None and left < self.started[1]:
            start, left_at_start = self.started
            seconds = min(seconds, (now - start) / (left_at_start - left) * left)
        self.ends = now + seconds if math.isfinite(seconds) else None

    def _paint(self, trainer: Trainer, pl_module: Any) -> None:
        if not self.enabled:
            return
        self.painted = time.monotonic()
        if self.done:
            self.speed.sample(self.painted)
        self._update_best(trainer, pl_module.monitor)
        if self.live is None:
            self._start()
        assert self.live is not None
        self.live.refresh()

    def _update_best(self, trainer: Trainer, monitor: str) -> None:
        saver = find_saver(trainer, monitor) if trainer.state.fn == "fit" else None
        score = saver.best_model_score if saver else None
        if score is not self.score:
            self.score, value = score, math.nan if score is None else score.item()
            self.best = f"best {monitor} {figure_text(value)}" if math.isfinite(value) else ""

    def _start(self) -> None:
        errors = sys.stderr.isatty()
        self.live = Live(
            get_renderable=self._line, console=self.console, auto_refresh=False, transient=True, redirect_stderr=errors
        )
        self.live.start()
        self.console.show_cursor(True)  # if it were hidden, it would stay so after a kill

    def _line(self) -> Text:
        left = None if self.ends is None else max(self.ends - time.monotonic(), 0)
        width = self.console.width - 3  # leaves room for the ^C that the terminal prints
        speed = self.speed.per_second()
        line = progress_line(width, self.label, self.done, self.total, speed, left, self.best, self.symbols)
        text = Text(line, no_wrap=True, overflow="crop")
        text.highlight_regex("━+|#+", "green")
        text.highlight_regex("─+|--+", "dim")
        return text

    def _hide(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


def _epochs_left(trainer: Trainer, batch: int) -> float | None:
    steps = trainer.max_steps - trainer.global_step if trainer.max_steps >= 0 else None
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    return epochs_left(batches, trainer.current_epoch, batch, trainer.max_epochs, steps, accumulated)


def _timer_left(trainer: Trainer) -> float | None:
    """Return the seconds until trainer.max_time, or None."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return timers[0].time_remaining() if timers else None
