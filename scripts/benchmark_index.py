"""Measure an index of millions of images: its memory, its workers' memory, and the time to list the files.

    python scripts/benchmark_index.py [--samples 1000000 10000000] [--files 100000] [--rounds 3]

Compares fovea's columns with torchvision's ImageFolder and its lists of (path, class), each in its own process.

For each number of samples (60-character paths in 1,000 classes, not on disk), it measures the time to build the index,
the growth of resident memory, the peak of the whole process, and the private memory that two forked workers gain when
each reads half of the index once, in shuffled order. (Linux copies a page when a worker writes to it.)

--files empty .jpg files are made in 1,000 folders of a temporary folder. It measures the seconds to list them with
ImageFolder, with fovea for the first time, and with fovea's cache, in turn, after a warm-up round. Linux only (/proc).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
ROOT, CLASSES, LENGTH, WORKERS = "/data/imagenet", 1000, 60, 2
MB = 1 << 20


def memory(file: str, *keys: str) -> int:
    """Return the sum of the values of `keys` in a file of /proc/self, in bytes."""
    lines = [line.split() for line in Path("/proc/self", file).read_text().splitlines()]
    return sum(1024 * int(line[1]) for line in lines if line[0].rstrip(":") in keys)


def class_names(samples: int) -> Iterator[tuple[str, list[str]]]:
    """Yield each class's folder and its file names; a path with the root has 60 characters."""
    for k in range(CLASSES):
        folder = f"train/n{k:08}"
        digits = LENGTH - len(f"{ROOT}/{folder}/.jpg")
        yield folder, [f"{n:0{digits}}.jpg" for n in range(samples * k // CLASSES, samples * (k + 1) // CLASSES)]


def columns(samples: int) -> tuple[Sequence[str], Sequence[int]]:
    """Return paths and targets as fovea's listing stores them."""
    import torch

    from fovea.data.scan.scan import Listing
    from fovea.data.string_array import StringArray, StringArrayBuilder, encode

    builder, folders, counts = StringArrayBuilder(), [], []
    for folder, names in class_names(samples):
        builder.add(*encode(names, f"{folder}/"))
        folders.append(os.path.basename(folder))
        counts.append(len(names))
    counted = torch.tensor(counts)
    listing = Listing(builder.build(f"{ROOT}/"), StringArray.of(folders), counted, torch.zeros(CLASSES, 2), {}, [])
    return listing.images, listing.labels({name: k for k, name in enumerate(folders)})  # type: ignore[return-value]  # a tensor is indexed like a list


def lists(samples: int) -> tuple[Sequence[str], Sequence[int]]:
    """Return paths and targets as ImageFolder stores them."""
    pairs = []
    for k, (folder, names) in enumerate(class_names(samples)):
        pairs += [(os.path.join(ROOT, folder, name), k) for name in names]
    return Paths(pairs), [target for _, target in pairs]


class Paths(list[Any]):
    """ImageFolder's list of samples; an item is a sample's path."""

    def __getitem__(self, n: Any) -> Any:
        return super().__getitem__(n)[0]


def measure_memory(build: Callable[[int], tuple[Sequence[str], Sequence[int]]], samples: int) -> dict[str, float]:
    """Measure the build and one epoch of the workers, in MB and seconds."""
    import torch
    import torchvision  # noqa: F401  # a training imports it too, so it must not count

    import fovea.data.sources.folder  # noqa: F401

    before, start = memory("status", "VmRSS"), time.perf_counter()
    paths, targets = build(samples)
    seconds = time.perf_counter() - start
    after, peak = memory("status", "VmRSS"), memory("status", "VmHWM")
    assert len(paths[samples // 2]) == LENGTH
    order = torch.randperm(samples)
    grown = [own_memory_after_epoch(paths, targets, order[k::WORKERS]) for k in range(WORKERS)]
    growth = [float(os.read(end, 100)) for end in grown]
    return {"seconds": seconds, "growth": (after - before) / MB, "peak": peak / MB, "workers": sum(growth) / MB}


def own_memory_after_epoch(paths: Sequence[str], targets: Sequence[int], order: Any) -> int:
    """Fork a worker; the growth of its private memory can be read from the returned file descriptor."""
    out, into = os.pipe()
    if not os.fork():
        before = memory("smaps_rollup", "Private_Clean", "Private_Dirty")
        for chunk in order.split(10_000):
            assert all(len(paths[n]) == LENGTH and targets[n] >= 0 for n in chunk.tolist())
        os.write(into, str(memory("smaps_rollup", "Private_Clean", "Private_Dirty") - before).encode())
        os._exit(0)
    return out


def measure_listing(name: str, folder: str, cache: str) -> dict[str, float]:
    """Measure the seconds to list a folder, and the peak of the process in MB."""
    import torchvision.datasets

    from fovea.data.sources.folder import read_folder

    start = time.perf_counter()
    if name == "ImageFolder":
        count = len(torchvision.datasets.ImageFolder(f"{folder}/train"))
    else:
        train = read_folder(Path(folder), cache).train
        assert train is not None
        count = len(train)
    return {"seconds": time.perf_counter() - start, "peak": memory("status", "VmHWM") / MB, "count": count}


def in_process(*words: str) -> dict[str, float]:
    """Measure in a new process."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, __file__, "--measure", *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare_memory(samples: int) -> None:
    """Print a line for each kind of index."""
    print(f"\n{samples:,} samples, paths of {LENGTH} characters; MB")
    for name in ("columns", "lists"):
        found = in_process(name, str(samples))
        print(
            f"  {name:8} built in {found['seconds']:6.1f} s, resident +{found['growth']:7.0f}, peak"
            f" {found['peak']:7.0f}, {WORKERS} workers' own +{found['workers']:7.0f}",
            flush=True,
        )


def make_files(root: Path, files: int) -> None:
    """Make empty files in class folders."""
    for k in range(CLASSES):
        folder = root / "train" / f"n{k:08}"
        folder.mkdir(parents=True)
        for n in range(files * k // CLASSES, files * (k + 1) // CLASSES):
            os.close(os.open(folder / f"n{k:08}_{n:08}.jpg", os.O_CREAT | os.O_WRONLY))
    time.sleep(3)  # a folder that has just changed is not cached


def compare_listing(files: int, rounds: int) -> None:
    """Print a line for each way to list them."""
    print(f"\n{files:,} files in {CLASSES} folders; median of {rounds} (least to most), seconds; peak in MB")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "data")
        make_files(root, files)
        found: dict[str, list[dict[str, float]]] = {
            "ImageFolder": [],
            "fovea, first start": [],
            "fovea, from cache": [],
        }
        for number in range(rounds + 1):
            for name, taken in found.items():
                taken.append(in_process(name, str(root), f"{scratch}/cache-{number}"))
                assert taken[-1]["count"] == files
    for name, taken in found.items():
        column = sorted(one["seconds"] for one in taken[1:])
        peak = max(one["peak"] for one in taken)
        print(f"  {statistics.median(column):7.3f}  ({column[0]:.3f} to {column[-1]:.3f})  {peak:6.0f}  {name}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--files", type=int, default=100_000, help="files to list; 0 skips this measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, *words = given.measure
        builds = {"columns": columns, "lists": lists}
        found = measure_memory(builds[name], int(words[0])) if name in builds else measure_listing(name, *words)
        print(json.dumps(found))
        return
    for samples in given.samples:
        compare_memory(samples)
    if given.files:
        compare_listing(given.files, given.rounds)


if __name__ == "__main__":
    main()
