"""Measure how fast scripts/verify.py reads images, compared with decoding them, and how long many small images take.

    python scripts/benchmark_verify.py [--photos <folder>] [--rounds 7] [--workers 2] [--small 50000]

The first figure compares reading the facts of every image (decoding, digest, gray copy) with decoding the same files
whole in the workers of a data loader, which return nothing. Each round times both, one after the other, with the
processes' start; printed are the median and the range of the images a second and of the ratio within a round. Without
--photos, 500 JPEGs of 500 x 375 pixels are generated.

The second figure is the time of the whole command, from its start to its end, for --small JPEGs of 32 x 32 pixels.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fovea.data.check.image_facts import NO_CROP, gather_facts
from fovea.data.index import Index
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.decode import EXTENSIONS, WHITE

PROJECT = Path(__file__).resolve().parents[1]
BATCH = 64


class DecodeOnly(Dataset[int]):
    """Decodes every image whole and returns only its number of rows."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, n: int) -> int:
        return self.dataset.pixels(n).shape[1]


def decode(index: Index, workers: int) -> None:
    """Decode all images with a data loader."""
    loader: Any = DataLoader(DecodeOnly(ImageDataset(index, NO_CROP)), BATCH, num_workers=workers)
    assert sum(len(batch) for batch in loader) == len(index)


def verify(index: Index, workers: int) -> None:
    """Read all images as scripts/verify.py does."""
    assert gather_facts({"train": index}, WHITE, workers, lambda done: None).readable.all()


def seconds(work: Any, index: Index, workers: int) -> float:
    """Return how long it takes."""
    start = time.perf_counter()
    work(index, workers)
    return time.perf_counter() - start


def compare(index: Index, workers: int, rounds: int) -> None:
    """Time both in turn, after one round to warm up, and print them."""
    times: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        pair = seconds(decode, index, workers), seconds(verify, index, workers)
        times += [pair] if number else []
    for name, taken in zip(("decoding alone", "verifying"), zip(*times, strict=True), strict=True):
        print(f"  {spread([len(index) / one for one in taken], ',.0f')} images/s  {name}")
    print(f"  {spread([decoding / verifying for decoding, verifying in times], '.2f')}  ratio")


def spread(values: list[float], form: str) -> str:
    """Return the median and the range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def make_images(folder: Path, count: int, width: int, height: int) -> Path:
    """Write JPEGs of random smooth pictures into two classes."""
    rng = np.random.default_rng(0)
    for k in range(2):
        (folder / "train" / f"class {k}").mkdir(parents=True)
    for n in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = small.resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / "train" / f"class {n % 2}" / f"{n}.jpg", quality=90)
    return folder


def whole_command(root: Path, folder: Path, workers: int) -> float:
    """Return the seconds of scripts/verify.py on the images in `root`."""
    words = ["data=folder", f"data.root={root}", f"data.num_workers={workers}", "data.image_size=32"]
    command = [sys.executable, str(PROJECT / "scripts" / "verify.py"), *words, f"output={folder / 'found'}"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src"), "DATA_DIR": str(folder / "data")}
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of images, with its subfolders")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--small", type=int, default=50_000, help="small images; 0 skips this measurement")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        photos = given.photos or make_images(Path(scratch, "photos"), 500, 500, 375)
        paths = sorted(str(file) for file in photos.rglob("*") if file.suffix.lower() in EXTENSIONS)
        print(f"\n{len(paths)} images, {given.workers} workers, median (least to most) of {given.rounds} rounds")
        compare(Index(paths, torch.zeros(len(paths))), given.workers, given.rounds)
        if given.small:
            small = make_images(Path(scratch, "small"), given.small, 32, 32)
            taken = whole_command(small, Path(scratch), given.workers)
            print(f"\n{given.small:,} JPEGs of 32 x 32: {taken:.1f} s for the whole command")


if __name__ == "__main__":
    main()
