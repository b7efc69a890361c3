"""The private memory of a worker must not grow with the size of the index."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.index import Index
from fovea.data.string_array import StringArray

SMAPS = Path("/proc/self/smaps_rollup")
SAMPLES, LENGTH, DRAWN = 1_000_000, 60, 100_000  # a tenth of the samples, which are on every page of the columns
BYTES = SAMPLES * (LENGTH + 8 + 8)

pytestmark = pytest.mark.skipif(not SMAPS.exists(), reason="a process's own memory is known from /proc only")


def private_bytes() -> int:
    """Return the memory of this process that it shares with no other process."""
    lines = [line.split() for line in SMAPS.read_text().splitlines()]
    return sum(1024 * int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:"))


class Touch(Dataset[tuple[int, int]]):
    """Reads each sample's path and target but no image, and returns the private memory afterwards."""

    def __init__(self, paths: Sequence[str], targets: Sequence[int] | Tensor) -> None:
        self.paths, self.targets = paths, targets

    def __getitem__(self, keys: list[int]) -> tuple[int, int]:
        return private_bytes(), sum(len(self.paths[n]) + int(self.targets[n]) for n in keys)


def make_index() -> Index:
    text = torch.randint(97, 123, (SAMPLES * LENGTH,), dtype=torch.uint8)
    return Index(StringArray("/", text, torch.arange(SAMPLES + 1) * LENGTH), torch.arange(SAMPLES) % 1000)


def growth(dataset: Touch, context: str) -> int:
    """Return by how many bytes a worker's private memory grows during an epoch."""
    drawn = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))[:DRAWN]
    chunks = [chunk.tolist() for chunk in drawn.split(10_000)]
    batches = DataLoader(
        dataset,
        batch_size=None,
        sampler=[[0], *chunks, [0]],  # a list of keys for each item
        num_workers=1,
        multiprocessing_context=context,
    )
    found = list(batches)
    lengths = [total - sum(n % 1000 for n in chunk) for (_, total), chunk in zip(found[1:-1], chunks, strict=True)]
    assert lengths == [len(chunk) * (LENGTH + 1) for chunk in chunks]
    return found[-1][0] - found[0][0]


@pytest.mark.slow
def test_a_forked_workers_own_memory_does_not_grow_with_the_index_as_it_does_with_lists() -> None:
    index = make_index()
    assert growth(Touch(index.paths, index.targets), "fork") < 0.15 * BYTES
    lists = list(index.paths), index.targets.tolist()
    assert growth(Touch(*lists), "fork") > 0.5 * BYTES


@pytest.mark.slow
def test_a_spawned_workers_own_memory_does_not_grow_with_the_index(tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"  # one that the spawned worker can import, as it does the main module
    script.write_text(
        "from test_index_memory import BYTES, Touch, growth, make_index\n"
        "if __name__ == '__main__':\n"
        "    index = make_index()\n"
        "    assert growth(Touch(index.paths, index.targets), 'spawn') < 0.15 * BYTES\n"
    )
    source = Path(__file__).parents[2] / "src"
    path = os.pathsep.join([str(source), str(Path(__file__).parent)])
    subprocess.run([sys.executable, script], env=os.environ | {"PYTHONPATH": path}, check=True, timeout=120)
