"""Cached listings compared with fresh listings of the same folders and with torchvision's ImageFolder."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torchvision.datasets import ImageFolder

from fovea.data.index import Splits
from fovea.data.pixels.decode import EXTENSIONS
from fovea.data.scan import scan as scanning
from fovea.data.scan.listing import list_images
from fovea.data.scan.scan import Listing, threaded_map
from fovea.data.sources.folder import read_folder
from fovea.data.sources.imagenet import read_imagenet

NAMES = ["train/a/1.jpg", "train/a/deep/er/2.jpg", "train/b/3.jpg", "train/b/notes.txt", "val/a/4.jpg"]


def touch(root: Path, *names: str | bytes) -> Path:
    for name in map(os.fsdecode, names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def no_clock_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folders that the test has just made be cached; their timestamps have a resolution of ns here."""
    monkeypatch.setattr(scanning, "CLOCK_TICK", 0)


@pytest.fixture
def root(tmp_path: Path, no_clock_tick: None, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO)
    return touch(tmp_path / "data", *NAMES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "listings"


def contents(splits: Splits) -> list[object]:
    indices = [index for index in (splits.train, splits.val, splits.test) if index is not None]
    return [splits.class_names, *([list(index.paths), index.targets.tolist()] for index in indices)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def record_scandir(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that every folder listed from now on is added to."""
    listed: list[str] = []
    scandir = os.scandir

    def count(path: str) -> object:
        listed.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", count)
    return listed


def test_the_samples_and_their_order_match_torchvision(tmp_path: Path) -> None:
    names = ["b/1.jpg", "b/10.jpg", "b/2.JPG", "b/Z.png", "b/é.jpg", "b/sub/9.jpg", "b/sub x/8.Jpeg", "b/sub/a/7.webp"]
    names += ["A/x y.jpg", "a/~.jpg", "a b/1.jpg", "a-b/1.jpg", "été/1.jpg", "猫/2.bmp", "a/notes.txt", "b/sub/readme"]
    touch(tmp_path, *names, b"b/\xff\xfe.jpg", "b/two\nlines.jpg", "b/noextension", "b/jpg", "a/.jpg/3.png")
    splits = read_folder(tmp_path)
    reference = ImageFolder(str(tmp_path), is_valid_file=lambda path: path.lower().endswith(EXTENSIONS))
    samples = [(path, k) for path, k in reference.samples if "/.jpg/" not in path]  # ImageFolder reads hidden folders
    assert list(zip(splits.train.paths, splits.train.targets.tolist(), strict=True)) == samples
    assert list(splits.class_names) == reference.classes
    assert len(samples) == 16


def test_a_second_start_lists_no_folder_and_logs_the_same_warnings(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(root, "train/a/.hidden.jpg", *(f"train/b/{n}.npy" for n in range(9)), b"train/b/\xff.txt")
    first, logged = contents(read_folder(root, cache)), warnings(caplog)
    caplog.clear()
    listed = record_scandir(monkeypatch)
    again = read_folder(root, str(cache))
    assert listed == [str(root)]  # to find the splits
    assert contents(again) == first == contents(read_folder(root))
    assert "listing read from the cache" in caplog.text
    assert warnings(caplog)[: len(logged)] == logged
    assert len(logged) == 1
    assert "12 files skipped" in logged[0]
    assert again.train.paths.prefix == f"{root}/"


def test_imagenets_listing_is_cached_too(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wnids = ["n01440764", "n01443537"]
    touch(root, *(f"im/{split}/{wnid}/{n}.JPEG" for split in ("train", "val") for wnid in wnids for n in "12"))
    first = contents(read_imagenet(root / "im", cache))
    listed = record_scandir(monkeypatch)
    assert contents(read_imagenet(root / "im", cache)) == first
    assert listed == []
    touch(root, "im/val/n01443537/3.JPEG")
    assert contents(read_imagenet(root / "im", cache)) == contents(read_imagenet(root / "im")) != first


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file added": lambda root: touch(root, "train/b/9.jpg"),
    "a file added deep": lambda root: touch(root, "train/a/deep/er/9.jpg"),
    "a file removed": lambda root: (root / "train/a/1.jpg").unlink(),
    "a file renamed": lambda root: (root / "train/a/1.jpg").rename(root / "train/a/0.jpg"),
    "a file moved": lambda root: (root / "train/a/1.jpg").rename(root / "train/b/1.jpg"),
    "a file hidden": lambda root: (root / "train/a/1.jpg").rename(root / "train/a/.1.jpg"),
    "a class added": lambda root: touch(root, "train/c/1.jpg"),
    "an empty class added": lambda root: (root / "train/c").mkdir(),
    "a class removed": lambda root: shutil.rmtree(root / "train/b") or touch(root, "train/c/1.jpg"),
    "a class renamed": lambda root: (root / "train/b").rename(root / "train/c"),
    "classes swapped": lambda root: [
        (root / "train" / old).rename(root / "train" / new) for old, new in (("a", "x"), ("b", "a"), ("x", "b"))
    ],
    "a folder added": lambda root: touch(root, "train/b/new/5.jpg"),
    "a folder removed": lambda root: shutil.rmtree(root / "train/a/deep"),
    "a folder renamed": lambda root: (root / "train/a/deep/er").rename(root / "train/a/deep/est"),
    "validation changed": lambda root: touch(root, "val/b/5.jpg"),
    "a split added": lambda root: touch(root, "test/a/6.jpg"),
    "a split removed": lambda root: shutil.rmtree(root / "val"),
    "a split renamed": lambda root: (root / "val").rename(root / "test"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(root: Path, cache: Path, change: Callable[[Path], object]) -> None:
    before = contents(read_folder(root, cache))
    change(root)
    for _ in range(2):  # listed again, then read from the cache
        after = contents(read_folder(root, cache))
        assert after == contents(read_folder(root))
        assert after != before


def test_a_change_is_noticed_although_the_folders_mtime_is_reset(root: Path, cache: Path) -> None:
    read_folder(root, cache)
    status = os.stat(root / "train/b")
    touch(root, "train/b/9.jpg")
    os.utime(root / "train/b", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert contents(read_folder(root, cache)) == contents(read_folder(root))


def test_a_changed_folder_is_named_and_the_new_listing_is_cached(
    root: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_folder(root, cache)
    touch(root, "train/b/9.jpg")
    read_folder(root, cache)
    assert f"{root}: listed again, because 1 folders changed, such as {root / 'train/b'}" in caplog.text
    caplog.clear()
    read_folder(root, cache)
    assert "listing read from the cache" in caplog.text


def test_the_listing_of_a_folder_that_has_just_changed_is_not_cached(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file added in the same tick of the file system's clock would not change the folder's timestamp."""
    root = touch(tmp_path / "data", *NAMES)
    read_folder(root, cache)
    assert not cache.exists()
    now = time.time_ns()
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, ns=(now - 10**12, now - 10**12))
    read_folder(root, cache)
    assert not cache.exists()  # the mtime was reset, but the ctime shows when
    monkeypatch.setattr(time, "time_ns", lambda: now + 3 * 10**9)
    read_folder(root, cache)
    assert len(list(cache.iterdir())) == 1


def test_a_folder_that_was_listed_on_its_last_tick_is_listed_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a clock that stands still: adding a file does not change the folder's timestamp."""
    root = touch(tmp_path / "data", *NAMES)
    stat = os.stat

    class Frozen:
        def __init__(self, status: os.stat_result) -> None:
            self.status = status
            self.st_mtime_ns = self.st_ctime_ns = now

        def __getattr__(self, name: str) -> object:
            return getattr(self.status, name)

    now = time.time_ns()
    monkeypatch.setattr(scanning.os, "stat", lambda path, **more: Frozen(stat(path, **more)))
    read_folder(root, cache)
    touch(root, "train/b/9.jpg")
    assert len(read_folder(root, cache).train) == 4


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "cut off": lambda data: data[:-5],
    "header cut off": lambda data: data[:50],
    "more": lambda data: data + b"x",
    "a byte changed": lambda data: data.replace(b"3.jpg", b"8.jpg"),
    "the header changed": lambda data: data.replace(b'"shape": [', b'"shapx": ['),
    "another shape": lambda data: data.replace(b"I64", b"U8 "),
    "the skipped files changed": lambda data: data.replace(b"notes", b"xotes"),
    "text": lambda data: b"path,split\n" * 1000,
    "not for JSON": lambda data: data[:8] + b"[" * (len(data) - 8),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_file_is_ignored_and_written_again(
    root: Path, cache: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    read_folder(root, cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert file.read_bytes() != whole
    assert contents(read_folder(root, cache)) == contents(read_folder(root))
    assert f"listed again, because {file} cannot be read" in caplog.text
    assert file.read_bytes() == whole


def test_the_cache_file_of_another_folder_is_ignored(root: Path, cache: Path, tmp_path: Path) -> None:
    other = touch(tmp_path / "other", "train/x/1.jpg", "train/y/2.jpg", "val/x/3.jpg")
    read_folder(root, cache)
    (file,) = cache.iterdir()
    read_folder(other, cache)
    (others,) = set(cache.iterdir()) - {file}
    shutil.copy(file, others)
    assert contents(read_folder(other, cache)) == contents(read_folder(other))


def test_the_cache_distinguishes_extensions_and_depth(root: Path, cache: Path) -> None:
    def listed(*extensions: str, deep: bool = True) -> list[str]:
        (listing,) = list_images(root, ["train"], extensions, deep, cache)
        return [Path(path).name for path in listing.images]

    for _ in range(2):
        assert listed(".jpg") == ["1.jpg", "2.jpg", "3.jpg"]
        assert listed(".jpg", deep=False) == ["1.jpg", "3.jpg"]
        assert listed(".txt") == ["notes.txt"]


def test_the_cache_file_is_safetensors(root: Path, cache: Path) -> None:
    (listing,) = list_images(root, ["train"], (".jpg",), cache=cache)
    (file,) = cache.iterdir()
    columns = load_file(file)
    assert columns["0.images.text"].numpy().tobytes() == b"train/a/1.jpgtrain/a/deep/er/2.jpgtrain/b/3.jpg"
    assert columns["0.counts"].tolist() == listing.counts.tolist() == [0, 1, 0, 1, 1]


def test_a_cache_that_cannot_be_written_gives_one_warning(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = touch(tmp_path, "file") / "file"
    assert contents(read_folder(root, cache)) == contents(read_folder(root))
    failed = [line for line in warnings(caplog) if "cannot be cached" in line]
    assert len(failed) == 1
    assert str(cache) in failed[0]


def test_a_cache_folder_inside_the_data_is_neither_a_class_nor_warned_about(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        read_folder(root, root / "listings")
        read_folder(root / "train", root / "train" / "listings")
    assert (root / "listings").is_dir()
    assert read_folder(root / "train").class_names == ("a", "b")
    assert "beside train" not in caplog.text


def _read(root: str, cache: str) -> list[object]:
    scanning.CLOCK_TICK = 0
    return contents(read_folder(Path(root), cache))


def test_several_processes_may_cache_the_same_listing_at_once(root: Path, cache: Path) -> None:
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        found = list(pool.map(_read, [str(root)] * 12, [str(cache)] * 12))
    assert found == [contents(read_folder(root))] * 12
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


def test_val_may_be_a_link_to_test(root: Path, cache: Path) -> None:
    (root / "test").symlink_to(root / "val", target_is_directory=True)
    splits = read_folder(root, cache)
    assert splits.val is not None
    assert splits.test is not None
    assert (splits.val.paths, splits.test.paths) == ([f"{root}/val/a/4.jpg"], [f"{root}/test/a/4.jpg"])


def test_calls_that_wait_run_in_threads_and_calls_that_compute_do_not() -> None:
    def wait(n: int) -> tuple[int, int]:
        time.sleep(0.02)
        return n, threading.get_ident()

    def work(n: int) -> tuple[int, int]:
        return n, threading.get_ident()

    for function, threads in ((wait, range(3, 50)), (work, range(1, 2))):
        results = list(threaded_map(function, range(64)))
        assert [n for n, _ in results] == list(range(64))
        assert len({ident for _, ident in results}) in threads


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def fail(n: int) -> int:
        time.sleep(0.02)
        if n == 30:
            raise ValueError("thirty")
        return n

    with pytest.raises(ValueError, match="thirty"):
        list(threaded_map(fail, range(64)))


def test_labels_follow_the_class_folder_even_for_deeper_folders(root: Path) -> None:
    touch(root, "train/loose.jpg")
    (listing,) = list_images(root, ["train"], (".jpg",))
    assert isinstance(listing, Listing)
    assert listing.classes == ["a", "b"]
    assert listing.labels({"a": 7, "b": 3}).tolist() == [-1, 7, 7, 3]
