"""best.ckpt is of the same epoch that a plain loop over (monitor, loss) chooses."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from tasks import make_trainer
from torch import Tensor, nn

from fovea.training.save_best import SaveBest

Figures = Sequence[tuple[float, float]]  # (monitor, loss) of each epoch
TIED = [(0.5, 2.1), (0.75, 2.0), (0.75, 1.5), (0.75, 1.75), (0.5, 0.1), (0.75, 1.5)]


class LogsFigures(LightningModule):
    """Logs given figures and trains nothing."""

    def __init__(self, figures: Figures, prefix: str = "") -> None:
        super().__init__()
        self.figures, self.prefix, self.weight = figures, prefix, nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor) -> Tensor:
        return self.weight * 0

    def validation_step(self, batch: Tensor) -> None:
        score, loss = self.figures[self.current_epoch]
        self.log_dict({f"val/{self.prefix}score": score, f"val/{self.prefix}loss": loss}, batch_size=1)
        if self.prefix:
            self.log("val/loss", float(self.current_epoch), batch_size=1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters())


def fit(
    folder: Path,
    module: LogsFigures,
    mode: str = "max",
    epochs: int | None = None,
    after_step: int | None = 0,
    newest: bool = False,
    **options: Any,
) -> Trainer:
    saver = SaveBest(str(folder), f"val/{module.prefix}score", mode, after_step, newest)
    epochs = epochs or len(module.figures)
    trainer = make_trainer(saver, max_epochs=epochs, enable_checkpointing=True)
    loader: Any = torch.zeros(1)
    trainer.fit(module, loader, loader, weights_only=True, **options)
    return trainer


def best(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "best.ckpt", weights_only=True)
    return state


def by_hand(figures: Figures, mode: str) -> int:
    sign = -1 if mode == "max" else 1
    return min(range(len(figures)), key=lambda epoch: (sign * figures[epoch][0], figures[epoch][1], epoch))


@pytest.mark.parametrize("prefix", ["", "ema_", "swa_"])
def test_for_equal_monitors_the_loss_decides_and_for_equal_losses_the_epoch(tmp_path: Path, prefix: str) -> None:
    fit(tmp_path, LogsFigures(TIED, prefix))
    assert best(tmp_path)["epoch"] == by_hand(TIED, "max") == 2


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_better_monitor_wins_for_any_loss(tmp_path: Path, mode: str) -> None:
    figures = list(itertools.product((0.5, 0.25, 0.75), (2.0, 1.0, float("nan"))))
    fit(tmp_path, LogsFigures(figures), mode)
    assert best(tmp_path)["epoch"] == {"min": 4, "max": 7}[mode]


NAN = float("nan")


@pytest.mark.parametrize(
    ("figures", "epoch"),
    [
        ([(NAN, 2.0), (NAN, 1.0), (NAN, 1.5)], 1),  # by the loss
        ([(NAN, NAN), (NAN, NAN)], 1),  # the latest
        ([(NAN, 0.1), (0.0, 2.0), (NAN, 0.1)], 1),  # any score is better than none
        ([(NAN, NAN), (NAN, 3.0), (NAN, NAN)], 1),
    ],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_undefined_monitor_is_worse_than_any_other_and_equal_to_itself(
    tmp_path: Path, figures: Figures, epoch: int, mode: str
) -> None:
    fit(tmp_path, LogsFigures(figures), mode)
    assert best(tmp_path)["epoch"] == epoch


def test_a_resumed_run_chooses_the_same_checkpoint_as_an_uninterrupted_one(tmp_path: Path) -> None:
    fit(tmp_path / "whole", LogsFigures(TIED))
    trainer = fit(tmp_path / "halves", LogsFigures(TIED), epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert best(tmp_path / "halves")["epoch"] == 1
    fit(tmp_path / "halves", LogsFigures(TIED), ckpt_path=tmp_path / "last.ckpt")
    whole, halves = best(tmp_path / "whole"), best(tmp_path / "halves")
    assert whole["epoch"] == halves["epoch"] == 2
    (one,), (other,) = whole["callbacks"].values(), halves["callbacks"].values()
    assert one["loss"] == other["loss"] == 1.5
    assert one["best_model_score"] == other["best_model_score"] == 0.75


LATE = [(0.5, 2.0), (0.9, 1.0), (0.8, 1.0), (0.6, 1.0), (0.7, 1.0), (0.7, 2.0)]


@pytest.mark.parametrize(
    ("after_step", "epochs", "epoch"),
    [
        (0, 6, 1),
        (None, 6, 1),  # in a run without an end
        (2, 6, 2),
        (3, 6, 4),
        (5, 6, 5),
        (3, 3, 1),  # the run ends before
    ],
)
def test_the_first_validation_after_a_step_replaces_all_earlier_ones(
    tmp_path: Path, after_step: int | None, epochs: int, epoch: int
) -> None:
    fit(tmp_path, LogsFigures(LATE), epochs=epochs, after_step=after_step)
    assert best(tmp_path)["epoch"] == epoch


def test_a_run_killed_after_a_late_best_checkpoint_does_not_replace_it_by_an_earlier_one(tmp_path: Path) -> None:
    trainer = fit(tmp_path, LogsFigures(LATE), epochs=1, after_step=3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(tmp_path, LogsFigures(LATE), epochs=4, after_step=3, ckpt_path=tmp_path / "last.ckpt")
    fit(tmp_path, LogsFigures(LATE), epochs=3, after_step=3, ckpt_path=tmp_path / "last.ckpt")
    assert best(tmp_path)["epoch"] == 3
    fit(tmp_path, LogsFigures(LATE), after_step=3, ckpt_path=tmp_path / "last.ckpt")
    assert best(tmp_path)["epoch"] == 4


def test_a_prolonged_run_chooses_among_its_last_validations(tmp_path: Path) -> None:
    trainer = fit(tmp_path, LogsFigures(LATE), epochs=2, after_step=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(tmp_path, LogsFigures(LATE), after_step=4, ckpt_path=tmp_path / "last.ckpt")
    assert best(tmp_path)["epoch"] == 4


def test_the_newest_validation_replaces_all_others_whatever_its_figure(tmp_path: Path) -> None:
    trainer = fit(tmp_path, LogsFigures(LATE), epochs=3, newest=True)
    assert best(tmp_path)["epoch"] == 2
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(tmp_path, LogsFigures(LATE), newest=True, ckpt_path=tmp_path / "last.ckpt")
    assert best(tmp_path)["epoch"] == 5
    (state,) = best(tmp_path)["callbacks"].values()
    assert state["best_model_score"] == pytest.approx(LATE[-1][0])


def test_all_ranks_decide_alike_for_equal_monitors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.strategies import SingleDeviceStrategy

    monkeypatch.setattr(SingleDeviceStrategy, "reduce_boolean_decision", lambda self, decision, all=True: False)
    fit(tmp_path, LogsFigures(TIED))
    assert (
        best(tmp_path)["epoch"] == 0
    )  # the first is saved without a decision of all ranks; after that another rank always refuses
