import json
import pickle
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fovea.data.index import Index
from fovea.data.store import pack as packing
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.store import PackedImages, read_store

RAW = Format("raw", background=[0, 0, 0])


@pytest.fixture
def pixels() -> list[np.ndarray]:
    """Ten images of different sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4 + n, 30 - n, 3)).astype(np.uint8) for n in range(10)]


@pytest.fixture
def folder(tmp_path: Path, pixels: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of these images as raw pixels, four in a part."""
    monkeypatch.setattr(packing, "PART_SIZE", 4)
    (tmp_path / "in").mkdir()
    for n, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "in" / f"{n}.png")
    index = Index([f"{tmp_path}/in/{n}.png" for n in range(10)], torch.zeros(10, dtype=torch.long))
    splits = {"train": index.take(torch.arange(7)), "val": index.take(torch.arange(7, 9))}
    splits["test"] = index.take(torch.tensor([9]))
    pack(Source("multiclass", ("a", "b"), splits, f"{tmp_path}/in"), RAW, tmp_path / "store", 0, lambda *_: None)
    return tmp_path / "store"


def store_of(folder: Path | str, cache: Path | None = None) -> PackedImages:
    store = read_store(str(folder), cache).train.store
    assert isinstance(store, PackedImages)
    return store


def as_array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def test_raw_pixels_are_read_back_in_their_splits(folder: Path, pixels: list[np.ndarray]) -> None:
    splits = read_store(str(folder))
    assert splits.val is not None
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (7, 2, 1)
    rows = [row for index in (splits.train, splits.val, splits.test) for row in index.rows.tolist()]
    store = store_of(folder)
    assert all(np.array_equal(as_array(store.read(row)), image) for row, image in zip(rows, pixels, strict=True))
    assert list(splits.val.paths) == ["7.png", "8.png"]
    assert list(splits.train.take(torch.tensor([5, 2])).paths) == ["5.png", "2.png"]


def test_reading_copies_nothing_and_gives_no_warning(folder: Path) -> None:
    store = store_of(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, again, next_one = store.read(0), store.read(0), store.read(1)
    assert one.data_ptr() == again.data_ptr()
    assert next_one.data_ptr() == one.data_ptr() + one.numel()
    assert one[None].is_contiguous(memory_format=torch.channels_last)


def test_parts_are_mapped_at_the_first_read_and_maps_are_not_pickled(folder: Path, pixels: list[np.ndarray]) -> None:
    store = store_of(folder)
    store.read(5)
    assert list(store._maps) == [1]
    again = pickle.loads(pickle.dumps(store))
    assert not again._maps
    assert np.array_equal(as_array(again.read(5)), pixels[5])


class Reads(Dataset[Tensor]):
    def __init__(self, index: Index) -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, n: int) -> Tensor:
        assert self.index.store is not None
        return self.index.store.read(int(self.index.rows[n])).clone()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_the_same_pixels(folder: Path, pixels: list[np.ndarray], method: str) -> None:
    index = read_store(str(folder)).train
    assert index.store is not None
    index.store.read(0)
    loader = DataLoader(Reads(index), None, num_workers=1, multiprocessing_context=method)
    assert all(np.array_equal(as_array(image), expected) for image, expected in zip(loader, pixels, strict=False))


def test_a_truncated_or_missing_part_is_named_when_the_store_is_opened(folder: Path) -> None:
    part = folder / "part-00001.bin"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"part-00001.bin has {len(whole) - 1:,} of {len(whole):,} bytes"):
        read_store(str(folder))
    part.unlink()
    with pytest.raises(ValueError, match="part-00001.bin has 0 of"):
        read_store(str(folder))


def test_damaged_columns_are_named(folder: Path) -> None:
    file = folder / "columns.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="columns.safetensors is missing or damaged"):
        read_store(str(folder))


def test_a_missing_incomplete_or_invalid_store_is_an_error(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        read_store(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is not a store: it has no store.json"):
        read_store(str(tmp_path))
    metadata = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(metadata | {"version": 99}))
    with pytest.raises(ValueError, match="has version 99, but this program reads 1"):
        read_store(str(folder))
    (folder / "store.json").write_text("{}")
    with pytest.raises(ValueError, match="does not belong to a store"):
        read_store(str(folder))
    (folder / "store.json").unlink()
    with pytest.raises(ValueError, match="packing was not finished, run scripts/pack.py again"):
        read_store(str(folder))


class Recorder(SimpleHTTPRequestHandler):
    """Serves a folder and records the requests."""

    requests: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.requests.append(self.path.lstrip("/"))
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def part_requests() -> list[str]:
    return sorted(name for name in Recorder.requests if name.startswith("part"))


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The same store on a server."""
    Recorder.requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Recorder, directory=str(folder)))
    threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_parts_of_a_remote_store_are_downloaded_when_read(tmp_path: Path, url: str, pixels: list[np.ndarray]) -> None:
    store = store_of(url, tmp_path / "cache")
    assert not part_requests()
    assert np.array_equal(as_array(store.read(9)), pixels[9])
    assert np.array_equal(as_array(store.read(8)), pixels[8])
    assert part_requests() == ["part-00002.bin"]
    again = store_of(url + "/", tmp_path / "cache")
    for n, image in enumerate(pixels):
        assert np.array_equal(as_array(again.read(n)), image)
    assert part_requests() == [f"part-0000{n}.bin" for n in range(3)]


def test_workers_download_a_part_once(tmp_path: Path, url: str) -> None:
    index = read_store(url, tmp_path / "cache").train
    assert len(list(DataLoader(Reads(index), None, num_workers=2))) == 7
    assert part_requests() == ["part-00000.bin", "part-00001.bin"]


def test_a_remote_store_that_was_repacked_is_downloaded_again(
    tmp_path: Path, folder: Path, url: str, pixels: list[np.ndarray]
) -> None:
    store_of(url, tmp_path / "cache").read(0)
    Image.fromarray(pixels[0][::-1]).save(tmp_path / "in" / "0.png")
    for file in folder.iterdir():
        file.unlink()
    index = Index([f"{tmp_path}/in/0.png"], torch.zeros(1, dtype=torch.long))
    source = Source("multiclass", ("a", "b"), {"train": index, "val": index, "test": index}, f"{tmp_path}/in")
    pack(source, RAW, folder, 0, lambda *_: None)
    assert np.array_equal(as_array(store_of(url, tmp_path / "cache").read(0)), pixels[0][::-1])


def test_a_remote_part_damaged_in_the_download_is_an_error(tmp_path: Path, folder: Path, url: str) -> None:
    store = store_of(url, tmp_path / "cache")
    part = folder / "part-00001.bin"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    store.read(0)
    with pytest.raises(ValueError, match="is damaged at 7.png"):
        store.read(4)
    data[-1] ^= 1
    part.write_bytes(data)
    store.read(4)


def test_a_url_that_cannot_be_read_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=f"{url}/nowhere/store.json cannot be read"):
        read_store(f"{url}/nowhere", tmp_path)
    with pytest.raises(ValueError, match="nonsense://x"):
        read_store("nonsense://x", tmp_path)
