import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import SMALL

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_a_gpu_trains_and_measures_as_the_cpu_does(
    invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path, precision: str
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "data.num_workers=2")
    code, _, err = invoke("train", *data, "trainer=gpu", f"trainer.precision={precision}")
    assert code == 0, err
    (run,) = runs()
    for accelerator in ("gpu", "cpu"):
        assert (
            invoke("evaluate", f"run={run}", f"trainer.accelerator={accelerator}", "trainer.precision=32-true")[0] == 0
        )
    gpu, cpu = (json.loads(file.read_text())["test"] for file in sorted(run.glob("evaluate/*/results.json")))
    assert gpu["loss"] == pytest.approx(cpu["loss"], rel=1e-2)
