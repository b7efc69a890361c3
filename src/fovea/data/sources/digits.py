"""Real handwritten digits that need no download, for trying things out: one per picture, or several.

Source: the 1797 8x8 pictures in 17 shades of scikit-learn's `load_digits`, which are the test part of
https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits. Deviation: the split is ours
(seeded, stratified), so train and test share their writers.
"""

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fovea.data.index import Index, Splits
from fovea.data.sources.folder import read_folder
from fovea.data.sources.multilabel_csv import read_multilabel_csv
from fovea.data.split import split_off

SEED = 0
PICTURES = {"train": 2000, "val": 400, "test": 800}
CELL, MARGIN = 12, 4  # pixels: 2x2 cells in a picture of several digits, with room around for small shifts
UNKNOWN = 0.02  # of train's labels

Digits = tuple[np.ndarray, np.ndarray]  # (N, 8, 8) uint8, paper 0, ink up to 255; (N,) 0 to 9


def read_digits(root: Path) -> Splits:
    """One digit per picture, 8x8 gray: 1258 to train on, 180 to validate, 359 to test.

    Written to `root` where there is nothing yet.
    """
    write_once(root, _write_folders)
    return read_folder(root)


def read_digits_multilabel(root: Path) -> Splits:
    """Which digits are in a 32x32 picture of one to four: 2000 to train on, 400 to validate, 800 to test.

    Written to `root` where there is nothing yet. A picture holds digits of its own split in `read_digits`
    only. 2% of train's labels are unknown.
    """
    write_once(root, _write_scenes)
    return read_multilabel_csv(root)


def write_once(root: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a new folder `root`, whole or not at all, even if several processes try at once."""
    if _is_filled(root):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        made = Path(scratch) / root.name
        made.mkdir()
        write(made)
        try:
            made.rename(root)
        except OSError:
            if not _is_filled(root):  # else another process was first
                raise


def _is_filled(root: Path) -> bool:
    return root.exists() and (not root.is_dir() or any(root.iterdir()))


def _load() -> dict[str, tuple[list[int], Digits]]:
    """Of each split, the places in scikit-learn's order and the digits."""
    from sklearn.datasets import load_digits  # a second to import, and of no use once the files are there

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    everything = Index([str(n) for n in range(len(labels))], torch.from_numpy(labels).long())
    rest, test = split_off(everything, 0.2, SEED)
    train, val = split_off(rest, 0.125, SEED)
    places = {"train": train.paths, "val": val.paths, "test": test.paths}
    numbers = {split: [int(number) for number in paths] for split, paths in places.items()}
    return {split: (chosen, (images[chosen], labels[chosen])) for split, chosen in numbers.items()}


def _write_folders(root: Path) -> None:
    for split, (numbers, (images, labels)) in _load().items():
        for number, image, label in zip(numbers, images, labels, strict=True):
            folder = root / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:04}.png")


def _write_scenes(root: Path) -> None:
    (root / "images").mkdir()
    random = np.random.default_rng(SEED)
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "split", *range(10)])
        for split, (_, digits) in _load().items():
            for number in range(PICTURES[split]):
                path = f"images/{split}_{number:04}.png"
                scene, present = compose(digits, random)
                unknown = random.random(10) < (UNKNOWN if split == "train" else 0)
                Image.fromarray(scene).save(root / path)
                rows.writerow([path, split, *np.where(unknown, -1, present)])


def compose(digits: Digits, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (32, 32) uint8 of one to four digits, each somewhere in a cell of its own; (10,) 1 or 0."""
    images, labels = digits
    side = 2 * (MARGIN + CELL)
    scene, present = np.zeros((side, side), np.uint8), np.zeros(10, np.int64)
    for cell in random.permutation(4)[: random.integers(1, 5)]:
        chosen = random.integers(len(labels))
        top, left = MARGIN + CELL * np.array(divmod(cell, 2)) + random.integers(0, CELL - 8 + 1, 2)
        scene[top : top + 8, left : left + 8] = images[chosen]
        present[labels[chosen]] = 1
    return scene, present
