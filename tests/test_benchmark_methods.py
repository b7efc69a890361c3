"""scripts/benchmark_methods.py trains what is not finished, and its tables are means and deviations of the runs."""

import json
import os
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_folder

from fovea.config.keys import names
from fovea.config.resolvers import PROJECT

FILE = PROJECT / "scripts" / "benchmark_methods.py"
SCRIPT = runpy.run_path(str(FILE))
NAMES = ("bird", "cat", "dog")
SMALL = ("model.width=4", "model.depth=8", "data.batch_size=8", "data.subset=null", "data.val_fraction=0.25")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, split in enumerate(("train", "test")):
        make_folder(tmp_path / "cifar" / split, NAMES, images=12, seed=seed)
    return tmp_path / "cifar"


def test_the_difference_is_in_deviations_of_both_methods(capsys: pytest.CaptureFixture[str]) -> None:
    def tested(balanced: float, low: float) -> object:
        figures = {"accuracy": 0.5, "balanced_accuracy": balanced, "calibration_error": 0.1, "as_in_training": 0.7}
        return SCRIPT["Tested"](figures, {"cat": 0.9, "dog": low})

    values = {"plain": [0.5, 0.52, 0.54], "better": [0.6, 0.61, 0.62]}
    found = {name: [tested(value, 0.1) for value in own] for name, own in values.items()}
    SCRIPT["print_tables"](found, "plain", SCRIPT["RARE"])
    table = capsys.readouterr().out.partition("recall")[0]
    rows = {line.split()[0]: line for line in table.splitlines() if line}
    deviation = ((statistics.variance(values["plain"]) + statistics.variance(values["better"])) / 2) ** 0.5
    assert "0.6100 ± 0.0100" in rows["better"]
    assert rows["better"].endswith(f"{0.09 / deviation:+.1f}")


def test_an_accuracy_as_in_training_weighs_recalls_by_the_training_images_and_speeds_are_read(tmp_path: Path) -> None:
    sections = "".join(f"{name}: {{}}\n" for name in names("parts"))
    (tmp_path / "per_class.csv").write_text("class,recall\ncat,0.9\ndog,0.1\n")
    (tmp_path / "config.yaml").write_text(f"{sections}class_counts: {{present: [75, 25], absent: [25, 75]}}\n")
    results = {"status": "finished", "test": {"accuracy": 0.5}, "seconds": 60.0, "train_images_per_second": 400.0}
    (tmp_path / "results.json").write_text(json.dumps(results))
    figures = SCRIPT["tested"](tmp_path).figures
    assert figures == pytest.approx(
        {"accuracy": 0.5, "as_in_training": 0.7, "seconds": 60.0, "images_per_second": 400.0}
    )
    (tmp_path / "per_class.csv").write_text("class,recall\ncat,0.9\ndog,\n")  # no dog was tested
    found = SCRIPT["tested"](tmp_path)
    assert found.recalls == {"cat": 0.9, "dog": None}
    assert "as_in_training" not in found.figures


def test_the_tables_of_fine_tuning_share_no_class_and_no_image(root: Path, tmp_path: Path) -> None:
    files = SCRIPT["write_tables"](root, ["cat", "dog"], 3, tmp_path / "tables")
    few, many = (files[name].read_text().splitlines()[1:] for name in ("few", "many"))
    rows = [line.split(",") for line in few]
    assert {label for _, label, _ in rows} == {"cat", "dog"}
    assert {line.split(",")[1] for line in many} == {"bird"}
    assert [sum(part == split for _, _, part in rows) for split in ("train", "val", "test")] == [6, 6, 24]
    assert len({path for path, _, _ in rows}) == len(rows)
    assert all((root / path).is_file() for path, _, _ in rows)


@pytest.mark.slow
def test_methods_are_trained_once_and_refused_with_other_options(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(FILE), "long_tail", "--root", str(root), "--output", str(tmp_path / "out")]
    command += ["--seeds", "2", "--only", "cross_entropy,post_hoc", "--jobs", "2", *SMALL]
    environment = os.environ | {"DATA_DIR": str(tmp_path / "data")}

    def run(epochs: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*command, "--epochs", str(epochs)], env=environment, capture_output=True, text=True)

    first = run(1)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("seed ") == 4
    balanced = [
        json.loads((tmp_path / "out" / "cross_entropy" / str(seed) / "results.json").read_text())["test"]
        for seed in range(2)
    ]
    mean = statistics.fmean(one["balanced_accuracy"] for one in balanced)
    assert f"{mean:.4f} ± " in first.stdout
    again = run(1)
    assert "seed " not in again.stdout
    assert again.stdout.strip() in first.stdout
    other = run(2)
    assert other.returncode == 1
    assert "was trained with trainer.max_epochs=1 instead of trainer.max_epochs=2" in other.stderr
