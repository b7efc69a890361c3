import math
import os
import shlex
import sys
from pathlib import Path

import pytest

from fovea.runs import summary

BEST = {"checkpoint": "checkpoints/best.ckpt", "epoch": 8, "step": 351, "value": 0.9778}
RESULTS = {"monitor": "val/accuracy", "best": BEST}


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python src/train.py` in the project's folder."""
    monkeypatch.setattr(sys, "argv", ["src/train.py", "seed=1"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "src/train.py", "seed=1"])
    monkeypatch.chdir(tmp_path)


def run_folder(name: str, *files: str) -> Path:
    for file in files:
        path = Path(name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(name).absolute()


def test_the_tested_checkpoint_is_described_with_epochs_counted_from_one() -> None:
    best, last = Path("x/checkpoints/best.ckpt"), Path("x/checkpoints/last.ckpt")
    said = "tested best.ckpt (epoch 9, step 351, val/accuracy 0.9778) on 1,359 test images"
    assert summary.tested_text(RESULTS, best, 1359, "test", "test") == said
    assert summary.tested_text(RESULTS, last, 5, "train", "train") == "tested last.ckpt on 5 train images"
    assert summary.tested_text(RESULTS, best, 5, "val", "test").endswith(
        "on 5 val images, as the data has no test split"
    )
    assert summary.tested_text(RESULTS, best, 5, "all", "test").endswith(
        "on 5 images, all of the data, as the data has no test split"
    )
    undefined = RESULTS | {"best": BEST | {"value": None}}
    assert "val/accuracy undefined" in summary.tested_text(undefined, best, 5, "test", "test")
    assert summary.tested_text({"best": None}, None, 5, "test", "test") == (
        "tested the last weights (there is no best checkpoint) on 5 test images"
    )


def test_the_lowest_classes_are_named_without_undefined_and_perfect_ones() -> None:
    names = ["ant", "bee", "cat", "dog", "elk", "fox"]
    f1 = [0.5, math.nan, 0.25, 1.0, 0.75, 0.9]
    assert summary.lowest_text(names, {"images": [3] * 6, "f1": f1}, average="") == (
        "lowest f1: cat (0.2500)  ant (0.5000)  elk (0.7500)"
    )
    both = {"average_precision": f1[::-1], "f1": f1, "ema_average_precision": [0.125] + [1.0] * 5}
    assert summary.lowest_text(names, both, average="").startswith("lowest average_precision: dog")
    assert summary.lowest_text(names, both, average="ema") == "lowest ema_average_precision: ant (0.1250)"
    assert summary.lowest_text(names[:1], {"f1": [1.0]}, average="") == ""
    assert summary.lowest_text(names, {"images": [3] * 6}, average="") == ""


def test_figures_are_in_the_order_of_their_names() -> None:
    table = summary.figures_table("test", {"loss": 1.25, "accuracy": math.nan, "f1": 0.5}, {"f1": [0.4, 0.6]})
    assert table.splitlines() == [
        "test       value  95 % interval",
        "accuracy  undefined",
        "f1        0.5000  0.4000 to 0.6000",
        "loss      1.2500",
    ]
    assert summary.figures_table("val", {"f1": 0.5}, {}) == "val   value\nf1   0.5000"


def test_the_next_commands_can_be_pasted_where_the_program_was_typed() -> None:
    folder = run_folder("my runs/one", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "tensorboard/events")
    commands = summary.next_commands(folder, "trainer.max_epochs=20")
    assert commands == [
        "python src/evaluate.py 'run=my runs/one'",
        "python src/predict.py 'run=my runs/one' source=photos",
        "tensorboard --logdir 'my runs/one'",
        "python src/train.py 'resume=my runs/one' trainer.max_epochs=20",
    ]
    assert os.path.samefile(shlex.split(commands[2])[2], folder)


def test_only_possible_commands_are_proposed_and_none_for_a_sweeps_job() -> None:
    assert summary.next_commands(run_folder("fast", "config.yaml"), "trainer.max_epochs=2") == []
    assert summary.resume_hint(run_folder("fast", "config.yaml")) == ""
    job = run_folder("sweep/0", "job.json", "checkpoints/last.ckpt")
    assert (summary.next_commands(job, ""), summary.resume_hint(job)) == ([], "")
    stopped = run_folder("one", "checkpoints/previous.ckpt")
    assert summary.resume_hint(stopped) == "to go on from the last checkpoint:\npython src/train.py resume=one"


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "override"),
    [(10, -1, "trainer.max_epochs=20"), (-1, 50, "trainer.max_steps=100"), (-1, -1, ""), (None, -1, "")],
)
def test_a_run_is_prolonged_in_the_unit_of_its_length(max_epochs: int | None, max_steps: int, override: str) -> None:
    assert summary.prolonging_override(max_epochs, max_steps) == override
