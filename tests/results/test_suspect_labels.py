"""A run lists labels that look wrong, and takes a person's corrections in the next run."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL, make_folder

Invoke = Callable[..., Any]
Runs = Callable[[], list[Path]]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Images whose brightness tells their class, and one dark image in the folder of bright ones."""
    root = tmp_path / "mes données"
    for split, images, seed in (("train", 30, 0), ("val", 6, 1), ("test", 6, 2)):
        make_folder(root / split, images=images, seed=seed)
    shutil.move(root / "train" / "cat" / "3.png", root / "train" / "owl" / "wrong.png")
    return root


def suspects_of(run: Path) -> list[dict[str, str]]:
    with (run / "suspects.csv").open(encoding="utf-8-sig") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
def test_a_planted_wrong_label_is_first_and_its_correction_is_applied(
    invoke: Invoke, runs: Runs, planted: Path
) -> None:
    words = ("data=folder", f"data.root={planted}", *SMALL, "report=true", "trainer.max_epochs=2")
    assert invoke("train", *words).code == 0
    (run,) = runs()
    first = suspects_of(run)[0]
    assert {name: first[name] for name in ("path", "split", "label", "suggested", "correction")} == {
        "path": "train/owl/wrong.png",
        "split": "train",
        "label": "owl",
        "suggested": "cat",
        "correction": "",
    }
    text = (run / "report.html").read_text("utf-8")
    assert "Labels that look wrong" in text
    assert "labels look wrong: look at them first" in text
    table = run / "suspects.csv"
    table.write_text(table.read_text("utf-8-sig").replace(f"{first['score']},\n", f"{first['score']},cat\n"), "utf-8")
    corrections = table.read_text("utf-8").replace("\r", "")
    assert corrections.count(",cat\n") == 1
    code, _, err = invoke("train", *words, f"data.corrections={table}")
    assert code == 0, err
    corrected = runs()[-1]
    assert "train/owl/wrong.png" not in [row["path"] for row in suspects_of(corrected)]
    prints = [
        json.loads((folder / "provenance.json").read_text())["starts"][0]["data_fingerprint"]["images"]
        for folder in (run, corrected)
    ]
    assert prints[0] != prints[1]


@pytest.mark.slow
def test_none_are_looked_for_if_not_wanted_and_some_images_can_be_checked(
    invoke: Invoke, runs: Runs, planted: Path
) -> None:
    words = ("data=folder", f"data.root={planted}", *SMALL, "report=true")
    assert invoke("train", *words, "suspects=0").code == 0
    assert suspects_of(runs()[-1]) == []
    assert invoke("train", *words, "suspects=12").code == 0
    assert sum(row["split"] == "train" for row in suspects_of(runs()[-1])) <= 12
