"""scripts/plot_schedule.py, run from the command line and compared with the rates that trainings log."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL

from fovea.report import schedule_page

Invoke = Callable[..., tuple[int, str, str]]
PLOT = "../scripts/plot_schedule"


def table(out: str) -> dict[str, list[str]]:
    """Group -> the cells of its row."""
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("lr-")}


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Group -> (step, rate) of each row of metrics.csv that has a rate."""
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    names = [name for name in rows[0] if name.startswith("lr-")]
    return {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}


GROWING = "data.progressive.batch_size=4 data.progressive.epochs=1"
SHRINKING = "data.progressive.batch_size=16 data.progressive.epochs=1"
FAST = f"scheduler=one_cycle trainer.accumulate_grad_batches=2 optimizer=adamw {SHRINKING}"
SLOW = [
    "scheduler=warmup_cosine",
    "scheduler=step trainer.max_epochs=3 trainer.accumulate_grad_batches=3",
    "scheduler=cosine_restarts trainer.max_steps=7 trainer.max_epochs=-1",
    "scheduler=cosine parameter_groups=head_faster freeze=[conv1]",
    "scheduler=multistep scheduler.interval=step parameter_groups=all trainer.limit_train_batches=3",
    "scheduler=sequential trainer.max_epochs=4",
    f"scheduler=step trainer.max_epochs=4 {GROWING}",
    f"scheduler=cosine scheduler.interval=step warmup=linear warmup.epochs=1.5 trainer.max_epochs=3 {GROWING}",
    f"scheduler=cosine trainer.max_steps=7 trainer.max_epochs=-1 trainer.limit_train_batches=0.5 {GROWING}",
    "scheduler=chained trainer.max_epochs=4",
    "scheduler=step trainer.max_steps=7 trainer.max_epochs=20 trainer.accumulate_grad_batches=2",
    "scheduler=cyclic optimizer=adam",
    "scheduler=swalr trainer.max_epochs=4",
    "scheduler=inverse_square_root",
    "scheduler=polynomial trainer.overfit_batches=2",
]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Filled with the rates that the page shows: group -> the rate of every step."""
    found: dict[str, list[float]] = {}
    original = schedule_page.schedule_page

    def page(*arguments: Any) -> str:
        found.update({group.name: group.rates.tolist() for group in arguments[3]})
        return original(*arguments)

    monkeypatch.setattr(schedule_page, "schedule_page", page)
    return found


@pytest.mark.parametrize("words", [FAST, *(pytest.param(words, marks=pytest.mark.slow) for words in SLOW)])
def test_the_rates_are_those_that_a_training_logs(
    invoke: Invoke, tmp_path: Path, folder: Path, shown: dict[str, list[float]], words: str
) -> None:
    usual = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_epochs=2", "trainer.log_every_n_steps=1")
    code, out, err = invoke(PLOT, *usual, *words.split(), f"output={tmp_path}/page.html")
    assert code == 0, err
    code, _, err = invoke("train", *usual, *words.split(), f"hydra.run.dir={tmp_path}/run", "logger=csv")
    assert code == 0, err
    rates, results = logged(tmp_path / "run"), json.loads((tmp_path / "run" / "results.json").read_text())
    assert rates.keys() == shown.keys() == table(out).keys()
    for name, values in rates.items():
        assert len(shown[name]) == results["steps"]
        assert len(values) >= (results["epochs"] if "each epoch" in out else results["steps"])
        assert [shown[name][step] for step, _ in values] == pytest.approx([rate for _, rate in values], rel=1e-9)
        most = max(shown[name])
        expected = [f"{rate:.4g}" for rate in (shown[name][0], most)]
        expected += [str(shown[name].index(most) + 1), f"{shown[name][-1]:.4g}"]
        assert table(out)[name][-4:] == expected


def test_the_page_has_a_curve_for_groups_with_the_same_rates(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    words = ("data=folder", f"data.root={folder}", *SMALL, "parameter_groups=head_faster", f"output={tmp_path}/é.html")
    code, out, err = invoke(PLOT, *words, "trainer.max_epochs=3")
    assert (code, err) == (0, "")
    assert "3 epochs, 12 optimizer steps; 4 steps an epoch" in out
    page = (tmp_path / "é.html").read_text("utf-8")
    assert page.count('<path class="curve') == 2 * 2  # in the chart and in the legend
    assert "lr-SGD/pg1, lr-SGD/pg2" in page
    assert not (tmp_path / "runs").exists()


def test_what_is_not_known_before_the_training_is_said(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    words = ("data=folder", f"data.root={folder}", *SMALL, f"output={tmp_path}/page.html")
    code, out, _ = invoke(PLOT, *words, "scheduler=plateau", "trainer.max_time=00:01:00:00")
    assert code == 0
    assert "multiplied by 0.1 whenever val/accuracy was no better in 10 validations" in out
    assert "trainer.max_time=00:01:00:00 may end the run" in out
    code, out, _ = invoke(PLOT, *words, "scheduler=constant", "trainer.max_epochs=-1")
    assert code == 0
    assert "no end: its first 100 epochs are shown" in out


def test_no_weights_are_loaded(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    words = ("data=folder", f"data.root={folder}", *SMALL, f"output={tmp_path}/page.html", "freeze=backbone")
    code, out, err = invoke(PLOT, *words, f"weights={tmp_path}/weights.pth")
    assert code == 0, err
    assert list(table(out)) == ["lr-SGD/pg1", "lr-SGD/pg2"]
    assert "random weights" not in out + err
    assert "random weights" in "".join(invoke(PLOT, *words)[1:])
