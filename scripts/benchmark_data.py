"""Measure the images a second of fovea's input pipelines, and of timm's and torchvision's, in one run.

    python scripts/benchmark_data.py [--photos <folder>] [--small <folder>] [--rounds 9]

Every pipeline does the same work: a random resized crop to --size pixels and a random flip (small images: a padded
crop), in batches of 64. Each keeps its workers alive and is warmed up with one epoch; then every round times one epoch
of each pipeline in turn. Printed are medians, and medians of the ratios to timm's loader in the same round (to
torchvision's if timm is not installed).

"decode only" reads and decodes the files in workers and sends no images to the main process. Without --photos and
--small, images are generated: 500 JPEGs of 500 x 375 pixels, and 5,000 of 32 x 32.
"""

import argparse
import importlib.util
import platform
import statistics
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from fovea.data.index import Index
from fovea.data.loading.batch_samplers import Key, TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.loader import BatchLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import PaddedCrop, RandomResizedCrop
from fovea.data.pixels.decode import EXTENSIONS, read_image
from fovea.data.random_numbers import derive_seed, uniforms
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.store import read_store

BATCH = 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Loader = Callable[[], Iterable[Any]]  # an epoch's batches


class Files(Dataset[Any]):
    """A map-style dataset of image files, for the pipelines of timm and torchvision."""

    def __init__(self, paths: list[str], transform: Callable[[Any], Any]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, n: int) -> tuple[Any, int]:
        with open(self.paths[n], "rb") as file:  # as ImageFolder does
            return self.transform(Image.open(file).convert("RGB")), 0


class DecodeOnly(Files):
    """Decodes a file and returns only its length."""

    def __getitem__(self, n: int) -> tuple[Any, int]:
        return len(read_image(self.paths[n])), 0


class Whole(ImageDataset):
    """Decodes every image as a whole before it is cropped, to measure what fovea's partial decoding saves."""

    def open(self, keys: Any, left_out: list[int]) -> Any:
        return [(key, self.pixels(key[1])) for key in keys]


def forever(loader: Any) -> Loader:
    """Use the same loader for every epoch."""
    return lambda: loader


def torchvision_reference(paths: list[str], size: int, workers: int) -> Loader:
    """The PIL pipeline of torchvision's references/classification."""
    steps = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    transform = v2.Compose([*steps, v2.ToDtype(torch.float, scale=True), v2.Normalize(MEAN, STD), v2.ToPureTensor()])
    return forever(stock(Files(paths, transform), workers))


def torchvision_small(paths: list[str], size: int, workers: int) -> Loader:
    """The same pipeline with CIFAR's padded crop."""
    steps = [v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    transform = v2.Compose([*steps, v2.ToDtype(torch.float, scale=True), v2.Normalize(MEAN, STD), v2.ToPureTensor()])
    return forever(stock(Files(paths, transform), workers))


def stock(dataset: Dataset[Any], workers: int) -> DataLoader[Any]:
    """Make torch's DataLoader with the usual options."""
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0)


def timm_loader(paths: list[str], size: int, workers: int, prefetcher: bool = True) -> Loader:
    """timm's create_loader with the same augmentation. Without its prefetcher, workers convert images to floats."""
    from timm.data import create_loader

    dataset: Any = Files(paths, lambda image: image)
    options: dict[str, Any] = {"color_jitter": None, "device": torch.device("cpu")}
    options |= {"num_workers": workers, "persistent_workers": True}
    size3 = (3, size, size)
    return forever(create_loader(dataset, size3, BATCH, is_training=True, use_prefetcher=prefetcher, **options))


class Fovea:
    """fovea's pipelines for one index."""

    def __init__(self, index: Index, augment: Augment) -> None:
        self.index, self.augment, self.epoch = index, augment, 0

    def batches(self) -> TrainBatchSampler:
        return TrainBatchSampler(Shuffled(self.index), BATCH, seed=0)

    def processes(self, workers: int, kind: type[ImageDataset] = ImageDataset) -> Loader:
        batches = self.batches()
        return self.next_epoch(batches, BatchLoader(kind(self.index, self.augment), batches, workers, persistent=True))

    def threads(self, workers: int) -> Loader:
        """The same dataset, read by threads instead of processes."""
        dataset, batches = ImageDataset(self.index, self.augment), self.batches()
        pool = ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1))

        def epoch() -> Iterator[Batch]:
            ahead: deque[Any] = deque()
            for keys in batches:
                ahead.append(pool.submit(dataset.__getitems__, keys))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        return lambda: self.next_epoch(batches, epoch())()

    def resident(self) -> Loader:
        dataset, batches = ImageDataset(self.index, self.augment), self.batches()
        images = ResidentImages(dataset, torch.device("cpu"), threads=2)
        return self.next_epoch(batches, ResidentLoader(images, dataset, batches))

    def next_epoch(self, batches: TrainBatchSampler, loader: Iterable[Batch]) -> Loader:
        def start() -> Iterable[Batch]:
            self.epoch += 1
            batches.start_at(self.epoch, 0)
            return loader

        return start


def packed(index: Index, folder: Path, options: Format, workers: int) -> Index:
    """Pack the images into a store in `folder` and return its index."""
    source = Source("multiclass", ["a"], {"train": index, "val": index, "test": index}, None)
    pack(source, options, folder, workers, lambda *_: None)
    train = read_store(str(folder)).train
    assert train is not None
    return train


def seconds(loader: Loader) -> float:
    """Time one epoch, including the start of its iterator."""
    start = time.perf_counter()
    for _ in loader():
        pass
    return time.perf_counter() - start


def compare(title: str, candidates: dict[str, Loader], images: int, rounds: int, base: str) -> dict[str, float]:
    """Print and return each pipeline's median images a second; print the median ratio to `base` in the same round."""
    for loader in candidates.values():
        seconds(loader)
    taken = [{name: seconds(loader) for name, loader in candidates.items()} for _ in range(rounds)]
    speeds = {name: images // BATCH * BATCH / statistics.median(one[name] for one in taken) for name in candidates}
    print(f"\n{title}\n{'images/s':>10}  {'x ' + base:>16}")
    for name, speed in speeds.items():
        ratio = statistics.median(one[base] / one[name] for one in taken)
        print(f"{speed:10,.0f}  {ratio:16.2f}  {name}", flush=True)
    return speeds


def seeding(crop: RandomResizedCrop, images: int = 4096, at_once: int = 16) -> float:
    """Return the seconds an image for its random numbers: those of its crop, and the seed of its transforms."""
    keys = np.stack([np.ones(images, np.int64), np.arange(images), np.zeros(images, np.int64)], axis=1)
    start = time.perf_counter()
    for first in range(0, images, at_once):
        some: list[Key] = keys[first : first + at_once].tolist()
        uniforms(0, np.array(some), crop.draws)
        for key in some:
            torch.default_generator.manual_seed(derive_seed(0, *key))
    return (time.perf_counter() - start) / images


def photos(root: Path, least: int) -> list[str]:
    """Return the images below `root`, repeated until there are at least `least`."""
    found = sorted(str(path) for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise SystemExit(f"{root}: there is no image in this folder")
    return found * -(-least // len(found))


def make_photos(root: Path, count: int, height: int, width: int, quality: int) -> Path:
    """Generate JPEGs of coloured noise at several scales; their files are about as large as those of photographs."""
    root.mkdir()
    generator = torch.Generator().manual_seed(0)
    for n in range(count):
        layers = [torch.rand(1, 3, -(-height // s), -(-width // s), generator=generator) for s in (1, 4, 16, 64)]
        sized = [torch.nn.functional.interpolate(layer, (height, width), mode="bilinear") for layer in layers]
        weighted = [w * layer[0] for w, layer in zip((0.15, 0.2, 0.3, 0.35), sized, strict=True)]
        pixels = torch.stack(weighted).sum(0) * 255
        Image.fromarray(pixels.byte().permute(1, 2, 0).numpy()).save(root / f"{n}.jpg", quality=quality)
    return root


def of_photos(paths: list[str], size: int, workers: int, folder: Path) -> dict[str, Loader]:
    """Return the pipelines for images that are larger than the network's input."""
    index = Index(paths, torch.zeros(len(paths), dtype=torch.long))
    augment = Augment(RandomResizedCrop(size))
    ours = Fovea(index, augment)
    at_256 = packed(index, folder / "jpeg", Format("jpeg", 256, None, 90, [255] * 3), workers)
    at_400 = packed(index, folder / "raw", Format("raw", None, 400, None, [255] * 3), workers)
    return others(timm_loader, torchvision_reference, paths, size, workers) | {
        "decode only": forever(stock(DecodeOnly(paths, len), workers)),
        "fovea, files": ours.processes(workers),
        "fovea, files, by threads": ours.threads(workers),
        "fovea, files, each decoded whole": ours.processes(workers, Whole),
        "fovea, packed JPEG, short side 256": Fovea(at_256, augment).processes(workers),
        "fovea, packed pixels, long side 400": Fovea(at_400, augment).processes(workers),
        "fovea, packed pixels, by threads": Fovea(at_400, augment).threads(workers),
    }


def of_small(paths: list[str], workers: int) -> dict[str, Loader]:
    """Return the pipelines for small images, which fit into a device's memory."""
    index = Index(paths, torch.zeros(len(paths), dtype=torch.long))
    ours = Fovea(index, Augment(PaddedCrop(32)))
    return {
        "torchvision": torchvision_small(paths, 32, workers),
        "fovea, files": ours.processes(workers),
        "fovea, files, in the main process": ours.processes(0),
        "fovea, resident (CPU tensors)": ours.resident(),
    }


def others(timm: Any, reference: Any, paths: list[str], size: int, workers: int) -> dict[str, Loader]:
    """Return the pipelines of other libraries."""
    torchvisions = {"torchvision": reference(paths, size, workers)}
    if not importlib.util.find_spec("timm"):
        return torchvisions
    plain = partial(timm, prefetcher=False)
    return {"timm": timm(paths, size, workers), "timm, no prefetcher": plain(paths, size, workers)} | torchvisions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of images, such as ImageNet's")
    parser.add_argument("--small", type=Path, help="folder of 32 x 32 images, such as CIFAR-10's")
    parser.add_argument("--size", type=int, default=224, help="pixels of the photos' crops")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9, help="timed epochs of each pipeline")
    parser.add_argument("--images", type=int, default=1000, help="least images of an epoch; 20 times this if small")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    print(f"{platform.machine()}, {given.workers} workers, {versions}; medians of {given.rounds}")
    with tempfile.TemporaryDirectory() as scratch:
        root = given.photos or make_photos(Path(scratch) / "photos", 500, 375, 500, 92)
        paths = photos(root, given.images)
        candidates = of_photos(paths, given.size, given.workers, Path(scratch))
        title = f"{root.name}: {len(paths)} images an epoch, {given.size} px"
        speeds = compare(title, candidates, len(paths), given.rounds, next(iter(candidates)))
        share = seeding(RandomResizedCrop(given.size)) * speeds["fovea, files"] / given.workers
        print(f"seeding: {share:.2%} of a worker's time on files")
        del candidates
        root = given.small or make_photos(Path(scratch) / "small", 5000, 32, 32, 95)
        paths = photos(root, 20 * given.images)
        title = f"{root.name}: {len(paths)} images an epoch, 32 px"
        compare(title, of_small(paths, given.workers), len(paths), given.rounds, "fovea, files")


if __name__ == "__main__":
    main()
