"""The digits that come with scikit-learn, written once as image files."""

import csv
import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fovea.data.index import Index, Splits
from fovea.data.sources.digits import compose, read_digits, read_digits_multilabel, write_once

SPLITS = ("train", "val", "test")


def index_of(splits: Splits, split: str) -> Index:
    index = getattr(splits, split)
    assert index is not None
    return index


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return read_digits(tmp_path_factory.mktemp("single") / "digits")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return read_digits_multilabel(tmp_path_factory.mktemp("several") / "digits")


def test_the_files_contain_each_of_sklearns_digits_once(single: Splits) -> None:
    pixels, labels = load_digits(return_X_y=True)
    numbers = []
    for split in SPLITS:
        index = index_of(single, split)
        for path, target in zip(index.paths, index.targets.tolist(), strict=True):
            number = int(Path(path).stem)
            numbers.append(number)
            assert target == labels[number]
            with Image.open(path) as image:
                assert (image.mode, image.size) == ("L", (8, 8))
                assert np.abs(np.array(image) / 255 - pixels[number].reshape(8, 8) / 16).max() <= 0.5 / 255
    assert sorted(numbers) == list(range(1797))
    assert single.class_names == tuple("0123456789")


def test_the_splits_are_stratified(single: Splits) -> None:
    sizes = {split: len(index_of(single, split)) for split in SPLITS}
    assert sizes == {"train": 1258, "val": 180, "test": 359}
    for split, size in sizes.items():
        counts = Counter(index_of(single, split).targets.tolist())
        assert all(abs(counts[digit] - size / 10) <= 0.05 * size / 10 + 2 for digit in range(10))


def test_a_scene_contains_the_digits_of_its_label() -> None:
    images = np.stack([np.full((8, 8), 10 + digit, np.uint8) for digit in range(10)])  # one gray level per digit
    random = np.random.default_rng(0)
    numbers: Counter[int] = Counter()
    for _ in range(200):
        scene, present = compose((images, np.arange(10)), random)
        assert scene.shape == (32, 32)
        shades, areas = np.unique(scene[scene > 0], return_counts=True)
        assert (shades - 10).tolist() == present.nonzero()[0].tolist()
        assert (areas % 64 == 0).all()  # whole digits that do not overlap
        numbers[areas.sum() // 64] += 1
    assert set(numbers) == {1, 2, 3, 4}


def quarters(path: str) -> list[np.ndarray]:
    scene = np.array(Image.open(path))
    return [scene[top : top + 16, left : left + 16] for top in (0, 16) for left in (0, 16)]


def test_scenes_of_a_split_show_only_digits_of_that_split(single: Splits, several: Splits) -> None:
    """A digit is recognised by its ink, cut out."""

    def cut(image: np.ndarray) -> bytes:
        rows, columns = np.nonzero(image.any(1))[0], np.nonzero(image.any(0))[0]
        return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].tobytes()

    own = {s: {cut(np.array(Image.open(path))) for path in index_of(single, s).paths} for s in SPLITS}
    for split in SPLITS:
        shown = {cut(part) for path in index_of(several, split).paths[:100] for part in quarters(path) if part.any()}
        assert len(shown) > 80
        assert shown <= own[split]


def test_labels_are_unknown_in_two_percent_of_train_only(several: Splits) -> None:
    assert several.task == "multilabel"
    assert several.class_names == tuple("0123456789")
    assert [len(index_of(several, split)) for split in SPLITS] == [2000, 400, 800]
    unknown = {split: (index_of(several, split).targets == -1).float().mean().item() for split in SPLITS}
    assert unknown["train"] == pytest.approx(0.02, abs=3 * (0.02 * 0.98 / 20000) ** 0.5)  # three sigma
    assert unknown["val"] == unknown["test"] == 0
    present = (index_of(several, "test").targets == 1).float()  # (N, 10)
    assert set(present.sum(1).tolist()) == {1, 2, 3, 4}
    assert present.mean(0).min() > 0.1


def test_the_csv_has_a_column_per_digit(several: Splits) -> None:
    root = Path(several.train.paths[0]).parents[1]
    rows = list(csv.DictReader(open(root / "labels.csv", newline="")))  # noqa: SIM115
    assert list(rows[0]) == ["path", "split", *"0123456789"]
    marks = torch.tensor([[float(row[digit]) for digit in "0123456789"] for row in rows if row["split"] == "train"])
    assert torch.equal(marks, several.train.targets)


def test_reading_again_writes_nothing(single: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(single.train.paths[0]).parents[2]
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr("fovea.data.sources.digits._load", None)
    assert read_digits(root).train.paths == single.train.paths
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.slow
def test_writing_twice_gives_identical_files(several: Splits, tmp_path: Path) -> None:
    root = Path(several.train.paths[0]).parents[1]
    read_digits_multilabel(tmp_path / "again")
    files = sorted(path.relative_to(root) for path in root.rglob("*.*"))
    assert all((tmp_path / "again" / file).read_bytes() == (root / file).read_bytes() for file in files)


def test_nothing_remains_if_writing_fails(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_once(tmp_path / "data", fail)
    assert not any(tmp_path.iterdir())
    write_once(tmp_path / "data", lambda folder: (folder / "whole").touch())
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["whole"]


def _write(root: Path, barrier: object, name: str) -> None:
    def write(folder: Path) -> None:
        (folder / name).touch()
        barrier.wait(timeout=20)  # type: ignore[attr-defined]  # both are in the middle of it

    write_once(root, write)


def test_two_processes_can_write_the_same_folder_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_write, args=(tmp_path / "data", barrier, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in (tmp_path / "data").iterdir()] in (["a"], ["b"])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
