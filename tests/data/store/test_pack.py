import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from fovea.data.fingerprint import fingerprint
from fovea.data.index import Index
from fovea.data.pixels.decode import UnreadableImage
from fovea.data.store import output_folder
from fovea.data.store import pack as packing
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.store import read_store
from fovea.data.string_array import StringArray

FILES = Format("files")
RAW = Format("raw", long_side=10, background=[255, 255, 255])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PART_SIZE", 4)


def images(root: Path, count: int = 14) -> list[str]:
    """Write different images root/<n> é.png, unless they exist, and return their names."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{n} é.png" for n in range(count)]
    for n, name in enumerate(names):
        if (root / name).exists():
            continue
        pixels = np.random.default_rng(n).integers(0, 256, (10 + n, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / name)
    return names


def source(root: Path, count: int = 14, on_error: str = "raise") -> Source:
    """Return ten of `count` images as train and the others as val and test; one of the three classes is empty."""
    paths = StringArray.of([f"{root}/{name}" for name in images(root, count)], f"{root}/")
    whole = Index(paths, torch.arange(count) % 2)
    train, val = whole.take(torch.arange(10)), whole.take(torch.arange(10, count))
    return Source("multiclass", ("cat", "dög", "empty"), {"train": train, "val": val, "test": val}, str(root), on_error)


def packed(source: Source, output: Path, options: Format = FILES, processes: int = 0) -> dict[str, object]:
    return pack(source, options, output, processes, lambda *_: None)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_groups_are_kept_with_the_name_of_their_column(tmp_path: Path) -> None:
    files = source(tmp_path / "in")
    groups = StringArray.of([f"é {n // 3}" for n in range(14)])
    numbers = {"train": torch.arange(10), "val": torch.arange(10, 14)}
    parts = {split: files.splits[split].with_groups(groups.take(rows)) for split, rows in numbers.items()}
    grouped = replace(files, splits=parts | {"test": parts["val"]}, group_column="patient")
    packed(grouped, tmp_path / "out")
    for column in (None, "patient"):
        store = read_store(str(tmp_path / "out"), group_column=column)
        assert store.train.groups == groups[:10]
        assert store.val.groups == groups[10:]
    with pytest.raises(ValueError, match=r"data.group_column=video: the store .* was packed with .*=patient: pack"):
        read_store(str(tmp_path / "out"), group_column="video")
    assert packed(grouped, tmp_path / "out")["packed_before"]
    others = parts["val"].with_groups(groups.take(torch.arange(4)))
    with pytest.raises(ValueError, match="contains a different finished store"):
        packed(replace(grouped, splits=parts | {"val": others, "test": others}), tmp_path / "out")
    packed(files, tmp_path / "plain")
    assert read_store(str(tmp_path / "plain")).train.groups is None
    with pytest.raises(ValueError, match="was packed with data.group_column=None"):
        read_store(str(tmp_path / "plain"), group_column="patient")


@pytest.mark.parametrize("processes", [0, 2])
def test_files_are_read_back_byte_for_byte_with_their_targets_and_names(tmp_path: Path, processes: int) -> None:
    files = source(tmp_path / "in")
    reports: list[tuple[str, int, int]] = []
    metadata = pack(files, FILES, tmp_path / "out", processes, lambda *progress: reports.append(progress))
    store = read_store(str(tmp_path / "out"))
    assert (store.task, store.class_names) == ("multiclass", ("cat", "dög", "empty"))
    assert store.test is store.val
    for split, index in (("train", store.train), ("val", store.val)):
        original = files.splits[split]
        assert index is not None
        assert index.store is not None
        assert index.paths == [path.removeprefix(f"{tmp_path}/in/") for path in original.paths]
        assert torch.equal(index.targets, original.targets)
        for row, path in zip(index.rows.tolist(), original.paths, strict=True):
            assert index.store.read(row).numpy().tobytes() == Path(path).read_bytes()
    assert metadata["images"] == 14
    assert metadata["mean_size"] == [16.5, 20.0]
    assert {("packing", 14, 14), ("verifying", 14, 14)} <= set(reports)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "columns.safetensors",
        *(f"part-0000{n}.bin" for n in range(4)),
        "store.json",
    ]


def test_multilabel_targets_are_stored(tmp_path: Path) -> None:
    paths = [str(tmp_path / "in" / name) for name in images(tmp_path / "in", 3)]
    index = Index(paths, torch.tensor([[1, 0], [-1, 1], [0, 0]]))
    splits = {"train": index, "val": index, "test": index}
    packed(Source("multilabel", ("a", "b"), splits, str(tmp_path / "in")), tmp_path / "out")
    targets = read_store(str(tmp_path / "out")).train.targets
    assert targets.dtype == torch.int8
    assert targets.tolist() == [[1, 0], [-1, 1], [0, 0]]


def test_the_store_has_the_fingerprint_of_the_files(tmp_path: Path) -> None:
    files = source(tmp_path / "in")
    metadata = packed(files, tmp_path / "out")
    store = read_store(str(tmp_path / "out"))
    assert store.val is not None
    splits = {"train": store.train, "val": store.val, "test": store.val}
    of_files = fingerprint(files.class_names, files.splits, files.root)
    assert metadata["fingerprint"] == of_files == fingerprint(store.class_names, splits, None)


def test_an_unreadable_image_stops_packing_or_is_stored_empty(tmp_path: Path) -> None:
    files = source(tmp_path / "in")
    (tmp_path / "in" / "5 é.png").write_bytes(b"nothing")
    (tmp_path / "in" / "12 é.png").unlink()
    skipping = Source(files.task, files.class_names, files.splits, files.root, "skip")
    for options in (FILES, RAW):
        with pytest.raises(UnreadableImage, match="5 é.png"):
            packed(files, tmp_path / "raising", options)
        metadata = packed(skipping, tmp_path / options.format, options)
        assert metadata["unreadable"] == {"count": 2, "first": ["5 é.png", "12 é.png"]}
        store = read_store(str(tmp_path / options.format))
        assert len(store.train) == 10
        assert store.train.store is not None
        with pytest.raises(UnreadableImage, match="5 é.png: could not be read when it was packed"):
            store.train.store.read(5)
        assert store.train.store.read(6).numel()


SLOWLY = """
import sys, time
from pathlib import Path
from fovea.data.store import pack as packing
sys.path.insert(0, {tests!r})
import test_pack
original = packing.encode_image
packing.PART_SIZE = 4
packing.encode_image = lambda *args: time.sleep(0.1) or original(*args)
test_pack.packed(test_pack.source(Path({root!r}), 40), Path({output!r}), processes=2)
"""


@pytest.mark.slow
def test_packing_continues_after_a_kill_and_gives_the_same_store(tmp_path: Path) -> None:
    files, output = source(tmp_path / "in", 40), tmp_path / "out"
    code = SLOWLY.format(tests=str(Path(__file__).parent), root=str(tmp_path / "in"), output=str(output))
    paths = os.pathsep.join(path for path in sys.path if path)
    started = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    while started.poll() is None and len(list(output.glob("*.list"))) < 3:
        time.sleep(0.02)
    started.kill()
    assert started.wait() == -signal.SIGKILL
    time.sleep(0.2)  # until its workers have exited
    with pytest.raises(ValueError, match="packing was not finished, run scripts/pack.py again"):
        read_store(str(output))
    done = {part.with_suffix(".bin"): part.with_suffix(".bin").stat().st_mtime_ns for part in output.glob("*.list")}
    assert 3 <= len(done) < 10
    packed(files, output)
    packed(files, tmp_path / "uninterrupted")
    assert content(output) == content(tmp_path / "uninterrupted")
    assert {part: part.stat().st_mtime_ns for part in done} == done


def stopped(files: Source, output: Path, options: Format = FILES) -> None:
    """Pack, but stop before the columns are written, as if killed."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packing, "_write_columns", interrupt)
        packed(files, output, options)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_parts_with_other_options_or_changed_images_are_packed_again(tmp_path: Path) -> None:
    files, output = source(tmp_path / "in"), tmp_path / "out"
    stopped(files, output, Format("raw", background=[0, 0, 0]))
    stopped(files, output)
    changed = tmp_path / "in" / "6 é.png"
    changed.write_bytes((tmp_path / "in" / "7 é.png").read_bytes())
    before = {part: part.stat().st_mtime_ns for part in sorted(output.glob("*.bin"))}
    packed(files, output)
    assert [part.stat().st_mtime_ns == then for part, then in before.items()] == [True, False, True, True]
    store = read_store(str(output)).train.store
    assert store is not None
    assert store.read(6).numpy().tobytes() == changed.read_bytes()


def test_leftovers_of_a_larger_interrupted_packing_are_removed(tmp_path: Path) -> None:
    stopped(source(tmp_path / "in", 40), tmp_path / "out")
    (tmp_path / "out" / "part-00001.bin.123.tmp").write_bytes(b"half")
    packed(source(tmp_path / "in"), tmp_path / "out")
    packed(source(tmp_path / "in"), tmp_path / "afresh")
    assert content(tmp_path / "out") == content(tmp_path / "afresh")


def test_a_finished_store_is_verified_and_never_overwritten(tmp_path: Path) -> None:
    files, output = source(tmp_path / "in"), tmp_path / "out"
    assert not packed(files, output)["packed_before"]
    before = content(output)
    assert packed(files, output)["packed_before"]
    with pytest.raises(ValueError, match=r"different finished store \(format=files, not raw, long_side=None, not 10"):
        packed(files, output, RAW)
    with pytest.raises(ValueError, match="other images, labels, groups or splits"):
        packed(source(tmp_path / "in", 13), output)
    os.utime(tmp_path / "in" / "6 é.png", ns=(0, 0))
    with pytest.raises(ValueError, match="its image files have changed since"):
        packed(files, output)
    assert content(output) == before


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)


def test_one_wrong_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, output = source(tmp_path / "in"), tmp_path / "out"
    real = packing._write_columns
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_write_columns", lambda *a: (real(*a), flip_a_bit(output / "part-00002.bin")))
        with pytest.raises(ValueError, match="part-00002.bin differs from what was packed: run this again"):
            packed(files, output)
    with pytest.raises(ValueError, match="not finished"):
        read_store(str(output))
    packed(files, output)
    flip_a_bit(output / "part-00001.bin")
    with pytest.raises(ValueError, match="part-00001.bin differs from what was packed: remove"):
        packed(files, output)


def test_packing_needs_a_folder_of_its_own_and_locks_it(tmp_path: Path) -> None:
    files = source(tmp_path / "in")
    with pytest.raises(ValueError, match="contains other files"):
        packed(files, tmp_path / "in")
    with pytest.raises(ValueError, match="is a file"):
        packed(files, tmp_path / "in" / "1 é.png")
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / output_folder.LOCK), pytest.raises(ValueError, match="another process is packing"):
        packed(files, tmp_path / "out")


def test_a_full_disk_is_an_error_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, output = source(tmp_path / "in"), tmp_path / "out"
    monkeypatch.setattr(output_folder.os, "fsync", full)
    with pytest.raises(ValueError, match=r"output=.*out: No space left on device"):
        packed(files, output)
    assert not content(output)
    monkeypatch.undo()
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(ValueError, match="packing needs 0.0 GB, 0.0 GB are free"):
        packed(files, output)


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_store_json_contains_the_options_and_splits(tmp_path: Path) -> None:
    packed(source(tmp_path / "in"), tmp_path / "out", RAW)
    metadata = json.loads((tmp_path / "out" / "store.json").read_text())
    assert metadata["version"] == 1
    assert metadata["options"] == {
        "format": "raw",
        "short_side": None,
        "long_side": 10,
        "quality": None,
        "background": [255, 255, 255],
    }
    assert metadata["splits"] == {"train": [0, 10], "val": [10, 14], "test": [10, 14]}
