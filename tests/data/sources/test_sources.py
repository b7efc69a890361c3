"""Files, stores, resident images and device decoding give the same batches and handle unreadable images alike."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import ColorJitter

from fovea.data.index import Index
from fovea.data.loading.batch_samplers import EvalBatchSampler, TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.device_decode import DeviceDecodeLoader
from fovea.data.loading.loader import BatchLoader, TrainLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, PaddedCrop, RandomResizedCrop
from fovea.data.pixels.decode import UnreadableImage, decode_image_bytes
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.store import read_store

CPU = torch.device("cpu")
AUGMENT = Augment(RandomResizedCrop(16, draft=0), [ColorJitter(brightness=0.5)])
MakeLoader = Callable[[ImageDataset, TrainBatchSampler | EvalBatchSampler], Iterable[Batch]]


def photos(folder: Path) -> Index:
    """18 images of different sizes, every third a PNG."""
    y, x = np.mgrid[:80, :80]
    for i in range(18):
        waves = np.stack([128 + 100 * np.sin(x / (9 + k)) * np.cos((y + i) / (13 - k)) for k in range(3)], axis=-1)
        pixels = waves[: 40 + i, : 70 - i].astype(np.uint8)
        Image.fromarray(pixels).save(folder / (f"é {i}.jpg" if i % 3 else f"é {i}.png"), quality=90)
    names = [f"é {i}.jpg" if i % 3 else f"é {i}.png" for i in range(18)]
    return Index([str(folder / name) for name in names], torch.arange(18) % 3)


def packed(index: Index, folder: Path, options: Format, on_error: str = "raise") -> Index:
    splits = {"train": index, "val": index, "test": index}
    pack(Source("multiclass", ["a", "b", "c"], splits, None, on_error), options, folder, 0, lambda *_: None)
    return read_store(str(folder)).train


def decode(files: list[Tensor]) -> list[Tensor]:
    """Stand-in for nvJPEG."""
    try:
        return [decode_image_bytes(file.numpy().tobytes()) for file in files]
    except UnreadableImage as error:
        raise RuntimeError("nvjpeg: bad data") from error


FILES, RAW = Format("files"), Format("raw", background=[255] * 3)
STORES = {"files": None, "packed files": FILES, "packed pixels": RAW}
LOADERS: dict[str, MakeLoader] = {
    "0 workers": lambda data, batches: BatchLoader(data, batches, 0),
    "1 worker": lambda data, batches: BatchLoader(data, batches, 1),
    "2 workers": lambda data, batches: BatchLoader(data, batches, 2, persistent=True),
    "4 workers": lambda data, batches: BatchLoader(data, batches, 4),
    "resident": lambda data, batches: ResidentLoader(ResidentImages(data, CPU), data, batches),
    "on the device": lambda data, batches: DeviceDecodeLoader(data, batches, 1, CPU, decode=decode),
}


@pytest.mark.parametrize("store", ["files", pytest.param("packed files", marks=pytest.mark.slow), "packed pixels"])
def test_every_source_and_loader_gives_the_same_batches_from_any_resume_position(tmp_path: Path, store: str) -> None:
    index, position = photos(tmp_path), (1, 0)
    batches = TrainBatchSampler(Shuffled(index), 4, seed=0)
    expected = list(TrainLoader(BatchLoader(ImageDataset(index, AUGMENT), batches, 0), batches, lambda: position))
    assert len(expected) == 4
    options = STORES[store]
    source = packed(index, tmp_path / "store", options) if options else index

    def get_position() -> tuple[int, int]:
        return position

    for name, make in LOADERS.items():
        loader = TrainLoader(make(ImageDataset(source, AUGMENT), batches), batches, get_position)
        for first in range(4) if name in ("0 workers", "2 workers", "resident") else (0, 3):
            position = (1, first)
            for batch, reference in zip(loader, expected[first:], strict=True):
                for a, b in zip(batch, reference, strict=True):
                    assert torch.equal(a, b), name


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def no_image(file: Path) -> None:
    file.write_bytes(b"no image")


def too_large(file: Path) -> None:
    Image.new("L", (300, 300)).save(file)


def no_tables(file: Path) -> None:
    """Damage a JPEG's Huffman tables: it begins and ends correctly but cannot be decoded."""
    data = file.read_bytes()
    tables = data.index(b"\xff\xc4")
    file.write_bytes(data[: tables + 4] + b"\xff" * 30 + data[tables + 34 :])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("store", "spoil"),
    [
        *(("files", spoil) for spoil in (truncated, no_image, too_large, no_tables, empty)),
        *((store, spoil) for store in STORES if store != "files" for spoil in (truncated, too_large)),
    ],
)
def test_an_unreadable_image_is_named_or_skipped(
    tmp_path: Path, store: str, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    index = photos(tmp_path)
    spoil(tmp_path / "é 4.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    options, batches = STORES[store], EvalBatchSampler(18, 6)
    source = packed(index, tmp_path / "store", options, "skip") if options else index
    augment = Augment(PaddedCrop(16))
    for name in ("0 workers", "resident", "on the device", *(["2 workers"] if spoil is truncated else [])):
        with pytest.raises(UnreadableImage, match="é 4.jpg"):
            list(LOADERS[name](ImageDataset(source, augment), batches))
        kept = list(LOADERS[name](ImageDataset(source, augment, on_error="skip"), batches))
        assert kept[0].unreadable.tolist() == [4], name
        assert torch.cat([batch.indices for batch in kept]).tolist() == [i for i in range(18) if i != 4], name
        assert [len(batch.images) for batch in kept] == [5, 6, 6], name
        assert kept[0].targets.tolist() == [0, 1, 2, 0, 2], name


@pytest.mark.parametrize("options", [FILES, RAW], ids=["files", "pixels"])
def test_packing_stops_at_an_unreadable_image_by_default(tmp_path: Path, options: Format) -> None:
    index = photos(tmp_path)
    no_image(tmp_path / "é 4.jpg")
    with pytest.raises(UnreadableImage, match="é 4.jpg"):
        packed(index, tmp_path / "store", options)
    with pytest.raises(ValueError, match="packing was not finished|no such folder|no store"):
        read_store(str(tmp_path / "store"))


def test_damaged_headers_give_pixels_or_an_unreadable_image_error(tmp_path: Path) -> None:
    rng, index = np.random.default_rng(0), photos(tmp_path)
    file = tmp_path / "é 1.jpg"
    data = file.read_bytes()
    dataset = ImageDataset(index.take(torch.tensor([1])), AUGMENT)
    outcomes: set[Any] = set()
    for _ in range(400):
        damaged = bytearray(data)
        for position in rng.integers(2, 700, 3):
            damaged[position] = rng.choice([0, 1, 255, int(rng.integers(256))])
        file.write_bytes(damaged)
        try:
            outcomes.add(dataset[0][0].shape)
        except UnreadableImage as error:
            outcomes.add("é 1.jpg" in str(error))
    assert outcomes == {(3, 16, 16), True}


def test_an_image_too_thin_to_be_resized_is_named(tmp_path: Path) -> None:
    Image.new("L", (40_000, 1)).save(tmp_path / "thin.png")
    dataset = ImageDataset(Index([str(tmp_path / "thin.png")], torch.zeros(1)), Augment(CenterCrop(224, 256)))
    with pytest.raises(UnreadableImage, match="thin.png: too thin, 1 x 40000 pixels"):
        dataset[0]
