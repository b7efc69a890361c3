"""Class weights through the command line: what a run keeps of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import SMALL, some

Invoke = Callable[..., Any]
LDAM = ("imbalance=ldam_drw", "callbacks.deferred_weights.from_step=1")


@pytest.mark.slow
def test_balanced_weights_of_a_run_are_those_of_its_own_training_images(
    invoke: Invoke, runs: Callable[[], list[Path]], folder: Path, tmp_path: Path
) -> None:
    for file in sorted((folder / "train" / "owl").glob("*.png"))[3:]:
        file.unlink()
    code, out, _ = invoke("train", "data=folder", f"data.root={folder}", *SMALL, "loss.class_weights=balanced")
    assert code == 0
    assert "loss.class_weights: cat 0.75, dog 0.75, owl 3" in out
    (run,) = runs()
    counts = {"present": [12, 12, 3], "absent": [15, 15, 24]}
    assert yaml.safe_load((run / "config.yaml").read_text())["class_counts"] == counts
    other = shutil.copytree(folder, tmp_path / "other")
    for file in sorted((other / "train" / "cat").glob("*.png"))[1:]:
        file.unlink()
    code, out, err = invoke("evaluate", f"run={run}", "data=folder", f"data.root={other}")
    assert code == 0, err
    assert "loss.class_weights: cat 0.75, dog 0.75, owl 3" in out


@pytest.mark.slow
def test_a_run_with_deferred_weights_and_margins_is_evaluated_as_it_was_tested(
    invoke: Invoke, runs: Callable[[], list[Path]], folder: Path
) -> None:
    code, out, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, *LDAM)
    assert code == 0, err
    assert "epoch 1: the loss has class weights from here on" in out
    (run,) = runs()
    assert invoke("evaluate", f"run={run}", "report=false").code == 0
    (file,) = run.glob("evaluate/*/results.json")
    tested, again = (json.loads(results.read_text())["test"] for results in (run / "results.json", file))
    assert again == pytest.approx(tested, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    some(
        [
            (["+loss.weight=[1,4]"], "has 2 weights but the data has 3 classes"),
            (["loss._target_=torch.nn.CrossEntropyLoss", "+loss.weight=[1,4]"], "defined either for all 3 classes"),
            (["loss._target_=torch.nn.CrossEntropyLoss", "+loss.weight=[1,4,-1]"], "loss.weight: -1 is no weight"),
            (["loss=bce", "loss._target_=torch.nn.BCEWithLogitsLoss"], "BCEWithLogitsLoss can't be applied"),
            (
                ["loss=bce", "loss._target_=torch.nn.BCEWithLogit"],
                "loss._target_=torch.nn.BCEWithLogit can't be imported",
            ),
        ]
    ),
)
def test_a_loss_that_does_not_suit_the_data_is_answered_before_training(
    invoke: Invoke, folder: Path, words: list[str], says: str
) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, *words)
    assert code == 2
    assert says in err
