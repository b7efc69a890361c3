"""scripts/find_batch_size.py: from the command line on a CPU, and its search with a memory that a test limits."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conf_groups import composed
from helpers import SMALL
from omegaconf import open_dict

from fovea import build
from fovea.config.resolvers import PROJECT
from fovea.task import ClassificationTask

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_a_cpu_gets_the_speed_of_each_size_and_nothing_is_kept(invoke: Invoke, tmp_path: Path, folder: Path) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "measured_steps=1", "trainer.accumulate_grad_batches=2")
    code, out, err = invoke("../scripts/find_batch_size", *data, "smallest=4", "largest=10")
    assert code == 0, err
    sizes = re.findall(r"(\d+) images: +[\d.]+ images a second, +[\d.]+ ms a step", out)
    assert sizes == ["4", "8", "10"]
    assert "a CPU's memory is not the limit" in out
    assert re.search(r"fastest: data\.batch_size=(4|8|10), ", out)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_largest_size_is_found_where_a_larger_one_runs_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    script = runpy.run_path(str(PROJECT / "scripts" / "find_batch_size.py"), run_name="a module")
    step = ClassificationTask.training_step

    def limited(self: Any, batch: Any, batch_idx: int) -> Any:
        if len(batch.images) > 21:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", limited)
    cfg = composed("data=folder", f"data.root='{folder}'", *SMALL, "trainer=cpu")
    for key in ("num_classes", "class_names", "class_counts", "task"):
        cfg[key] = None  # those of the folder
    with open_dict(cfg):
        cfg.update({"smallest": 8, "measured_steps": 1, "callbacks": {}})
    data = build.datamodule(cfg)
    cfg.trainer.update(script["ALONE"])
    speeds: dict[int, float] = {}
    script["search"](cfg, data, 100, speeds)
    assert 19 <= max(speeds) <= 21
    assert {8, 16} <= set(speeds)
