"""Running out of CPU memory; tests/test_gpu.py tests GPU memory."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import SMALL

from fovea.training.out_of_memory import is_out_of_memory, suggest_smaller_batch, suggestion


@pytest.mark.parametrize(
    ("batch_size", "accumulated", "devices", "overrides"),
    [
        (64, 1, 1, "data.batch_size=32 trainer.accumulate_grad_batches=2"),
        (64, 4, 2, "data.batch_size=32 trainer.accumulate_grad_batches=8"),
        (45, 2, 1, "data.batch_size=15 trainer.accumulate_grad_batches=6"),
        (10, 1, 2, "data.batch_size=2 trainer.accumulate_grad_batches=5"),
    ],
)
def test_the_suggestion_keeps_the_images_per_step_and_divides_evenly_over_devices(
    batch_size: int, accumulated: int, devices: int, overrides: str
) -> None:
    assert suggestion(batch_size, accumulated, devices).endswith(f": {overrides}")
    smaller, more = (int(word.partition("=")[2]) for word in overrides.split())
    assert smaller * more == batch_size * accumulated
    assert smaller % devices == 0


def test_the_suggestion_divides_the_first_batch_of_a_training_too() -> None:
    assert suggestion(64, 2, 2, first_batch=16).endswith(
        ": data.batch_size=32 trainer.accumulate_grad_batches=4 data.progressive.batch_size=8"
    )
    assert suggestion(45, 1, 1, first_batch=30).endswith(
        ": data.batch_size=15 trainer.accumulate_grad_batches=3 data.progressive.batch_size=10"
    )
    assert "lower data.image_size" in suggestion(64, 1, 2, first_batch=2)


@pytest.mark.parametrize(("accumulated", "devices"), [(1, 8), (None, 1)])
def test_a_batch_of_one_image_per_device_or_of_an_optimizer_that_can_not_accumulate_is_not_split(
    accumulated: int | None, devices: int
) -> None:
    text = suggestion(8, accumulated, devices)
    assert "accumulate" not in text
    assert "data.image_size" in text


def test_torchs_error_on_the_cpu_is_recognised_and_shortened() -> None:
    with (
        pytest.raises(ValueError, match="(?s)^out of memory: .*allocate memory.*data.batch_size=4 ") as caught,
        suggest_smaller_batch(8, 1, 1),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(str(caught.value).splitlines()) == 3


def test_other_errors_and_those_of_workers_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes"), suggest_smaller_batch(8, 1, 1):
        raise RuntimeError("shapes differ")
    assert not is_out_of_memory(
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\ncan't allocate memory")
    )


LIMITED = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
def limit():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), -1))
from lightning import Trainer
fit = Trainer.fit
def limited(*args, **kwargs):
    limit()
    return fit(*args, **kwargs)
Trainer.fit = limited
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists() or not resource, reason="needs Linux")
def test_a_training_that_runs_out_of_memory_suggests_a_smaller_batch(
    folder: Path, tmp_path: Path, runs: Callable[[], list[Path]]
) -> None:
    train = Path(__file__).resolve().parents[2] / "src" / "train.py"
    small = [word for word in SMALL if "batch_size" not in word and "image_size" not in word]
    data = ("data=folder", f"data.root={folder}", *small, "data.batch_size=36", "data.image_size=512")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(train), *data, "trainer.accelerator=cpu"],
        env={"RUNS_DIR": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "error: out of memory" in done.stderr
    assert "data.batch_size=18 trainer.accumulate_grad_batches=2" in done.stderr
    assert len(done.stderr.splitlines()) < 10
