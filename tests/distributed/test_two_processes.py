"""`trainer.devices=2` on the CPU: Lightning starts a second process of the same command."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import SMALL

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_two_processes_train_in_one_folder_and_measure_as_one_does(
    program: Program, invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.accelerator=cpu", "report=true")
    done = program("train", *data, "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    (run,) = runs()
    assert [file.name for file in run.glob("*.log")] == ["train.log"]
    assert (run / "train.log").read_text().count("epoch 1/1") == 1
    results = json.loads((run / "results.json").read_text())
    assert (results["status"], results["steps"]) == ("finished", 36 // 8)
    assert invoke("evaluate", f"run={run}", "trainer.devices=1")[0] == 0
    (alone,) = run.glob("evaluate/*/results.json")
    # 15 images over two ranks: eight and seven
    assert json.loads(alone.read_text())["test"] == pytest.approx(results["test"], abs=1e-6)
    assert (run / "report.html").exists()
    assert set(results["intervals"]) == set(results["majority"]) == set(results["test"]) - {"loss"}


@pytest.mark.slow
def test_a_rank_without_an_image_changes_no_figure(
    program: Program, invoke: Callable[..., tuple[int, str, str]], trained: Path, folder: Path
) -> None:
    for file in sorted((folder / "test").rglob("*.png"))[1:]:
        file.unlink()
    same = (f"run={trained}", "data=folder", f"data.root={folder}", "trainer.accelerator=cpu")
    assert invoke("evaluate", *same)[0] == 0
    assert program("evaluate", *same, "trainer.devices=2").returncode == 0
    first, second = (json.loads(file.read_text()) for file in sorted(trained.glob("evaluate/*/results.json")))
    assert first["images"] == second["images"] == 1
    assert first["test"] == pytest.approx(second["test"], abs=1e-6)


@pytest.mark.slow
def test_two_processes_predict_each_file_once(program: Program, trained: Path, folder: Path, tmp_path: Path) -> None:
    source = (f"run={trained}", f"source={folder}/test", "trainer.accelerator=cpu")
    tables = [tmp_path / f"{devices}.csv" for devices in (1, 2)]
    for devices, table in enumerate(tables, start=1):
        assert program("predict", *source, f"output={table}", f"trainer.devices={devices}").returncode == 0
    first, second = (table.read_text().splitlines() for table in tables)
    assert len(first) == 16
    assert [line.split(",")[0] for line in first] == [line.split(",")[0] for line in second]
