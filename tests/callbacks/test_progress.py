import io
import time

import pytest
import rich
import torch
from rich.console import Console
from tasks import Data, make_batches, make_task, make_trainer

from fovea.callbacks import progress
from fovea.callbacks.progress import Progress


def terminal(monkeypatch: pytest.MonkeyPatch, **options: bool) -> Console:
    console = Console(file=io.StringIO(), width=80, color_system=None, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(rich, "get_console", lambda: console)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    return console


def test_the_bar_shows_training_validation_and_test_and_disappears_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal(monkeypatch, force_terminal=True, force_interactive=True)
    monkeypatch.setattr(progress, "PAINT_INTERVAL", 0.0)
    bar, data = Progress(), Data(make_batches(3), make_batches(2, seed=9))
    trainer, task = make_trainer(bar, max_epochs=2, enable_progress_bar=True), make_task()
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    assert isinstance(console.file, io.StringIO)
    painted = console.file.getvalue()
    for text in ("epoch 1/2", "epoch 2/2", "3/3", "validating", "2/2", "testing", "images/s", "0:00 left"):
        assert text in painted, text
    assert bar.live is None
    assert not console._live_stack
    assert painted.count("\x1b[?25l") == painted.count("\x1b[?25h") - painted.count(
        "\x1b[?25l"
    )  # the cursor is visible


def test_a_command_in_a_notebooks_cell_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, force_terminal=True, force_interactive=True)
    monkeypatch.setenv("JPY_PARENT_PID", "1")  # set for the programs that a Jupyter kernel starts
    assert not Progress().enabled


@pytest.mark.parametrize("options", [{"force_terminal": False}, {"force_jupyter": True}, {"force_interactive": False}])
def test_there_is_no_bar_in_a_pipe_a_notebook_or_a_dumb_terminal(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool]
) -> None:
    terminal(monkeypatch, **options)
    assert not Progress().enabled


def test_between_two_paintings_a_batch_is_counted_but_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, force_terminal=True, force_interactive=True)
    bar, trainer = Progress(), make_trainer()
    bar.speed.sample(time.monotonic())
    bar.painted = time.monotonic() + 1000
    batch = (torch.zeros(8, 3, 1, 1, device="meta"),)  # reading a meta tensor would fail
    for n in range(3):
        bar.on_train_batch_end(trainer, None, None, batch, n)
    assert (bar.speed.images, bar.done, bar.live) == (24, 3, None)
