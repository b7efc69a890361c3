"""Reading every image once: with and without processes, from files and stores, readable or not."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.data.check.difference_hash import gray_copy
from fovea.data.check.image_facts import ImageFacts, gather_facts
from fovea.data.index import Index
from fovea.data.pixels.decode import WHITE, read_image
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.store import read_store


def encoded(seed: int, width: int, height: int, kind: str, **options: object) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(file, kind, **options)
    return file.getvalue()


def files(root: Path) -> list[str]:
    """Ten files: three readable ones, a turned one, a thin one, and five that are unreadable or damaged."""
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = encoded(0, 400, 300, "JPEG")
    middle = len(jpeg) // 2
    contents = {
        "a é.jpg": jpeg,
        "b.png": encoded(1, 40, 30, "PNG"),
        "c.jpg": jpeg,
        "turned.jpg": encoded(2, 400, 300, "JPEG", exif=exif),
        "thin.png": encoded(3, 90, 1, "PNG"),
        "truncated.jpg": jpeg[:middle],
        "truncated.png": encoded(1, 40, 30, "PNG")[:300],
        "empty.jpg": b"",
        "text.jpg": b"no image",
        "damaged.jpg": jpeg[:middle] + bytes(40) + jpeg[middle + 40 :],
    }
    for name, data in contents.items():
        (root / name).write_bytes(data)
    return [str(root / name) for name in contents]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    (tmp_path / "mes données").mkdir()
    return files(tmp_path / "mes données")


def facts(paths: list[str], processes: int = 0, report: Callable[[int], None] = lambda done: None) -> ImageFacts:
    splits = {"train": Index(paths[:7], torch.zeros(7)), "val": Index(paths[7:], torch.zeros(len(paths) - 7))}
    return gather_facts(splits, WHITE, processes, report)


def test_sizes_digests_and_gray_copies_are_those_of_the_whole_images(paths: list[str]) -> None:
    found = facts(paths)
    assert found.sizes[:5].tolist() == [[300, 400], [30, 40], [300, 400], [400, 300], [1, 90]]
    assert found.readable.tolist() == [True] * 5 + [False] * 4 + [True]
    assert found.split_numbers.tolist() == [0] * 7 + [1] * 3
    for number in range(10):
        digest = hashlib.blake2b(Path(paths[number]).read_bytes(), digest_size=8).digest()
        assert found.digests[number] == int.from_bytes(digest, "little")
        assert found.place(number) == ("train" if number < 7 else "val", paths[number])
    for number in range(5):
        difference = found.grays[number].astype(int) - gray_copy(read_image(paths[number]))
        assert np.abs(difference).mean() < 1  # JPEGs are decoded at a reduced size
    with pytest.raises(IndexError):
        found.place(10)


def test_unreadable_and_damaged_files_are_named_with_the_reason(paths: list[str]) -> None:
    errors = facts(paths).errors
    assert list(errors) == [5, 6, 7, 8, 9]
    assert all(text.startswith(f"{paths[number]}: ") for number, text in errors.items())
    assert "truncated" in errors[5]
    assert "the file is empty" in errors[7]
    assert "not an image" in errors[8]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_number_of_processes_changes_nothing(paths: list[str], processes: int) -> None:
    reports: list[int] = []
    one, other = facts(paths), facts(paths, processes, reports.append)
    for name in ("digests", "sizes", "grays"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.errors == other.errors
    assert reports[-1] == 10


@pytest.mark.parametrize("options", [Format("files"), Format("raw", background=WHITE)])
def test_a_store_is_read_like_its_files(paths: list[str], tmp_path: Path, options: Format) -> None:
    readable = paths[:5]
    index = Index(readable, torch.arange(5) % 2)
    pack(
        Source("multiclass", ("a", "b"), {"train": index, "val": index, "test": index}, None),
        options,
        tmp_path / "out",
        0,
        lambda *_: None,
    )
    packed = read_store(str(tmp_path / "out")).train
    one, other = (gather_facts({"train": i}, WHITE, 0, lambda done: None) for i in (index, packed))
    assert np.array_equal(one.sizes, other.sizes)
    assert np.abs(one.grays.astype(int) - other.grays).mean() < 1
    assert np.array_equal(one.digests, other.digests) == (options.format == "files")
    assert other.digests[0] == other.digests[2]
    assert len(set(other.digests.tolist())) == 4


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    assert (
        "No such file"
        in gather_facts({"train": Index([str(tmp_path / "x.jpg")], torch.zeros(1))}, WHITE, 0, print).errors[0]
    )
