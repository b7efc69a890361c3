"""Small example datasets of real handwritten digits that need no download: one or several digits per image.

Source: scikit-learn's `load_digits`, 1797 images of 8x8 pixels in 17 gray levels, which are the test part of
https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits. Deviation: the split is made here
(seeded, stratified), so the same writers occur in train and test.
"""

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fovea.data.division.split import split_off
from fovea.data.index import Index, Splits
from fovea.data.sources.folder import read_folder
from fovea.data.sources.multilabel_csv import read_multilabel_csv

SEED = 0
SCENES = {"train": 2000, "val": 400, "test": 800}  # images with several digits
CELL, MARGIN = 12, 4  # pixels: a scene has 2x2 cells, larger than a digit so that its position varies
UNKNOWN = 0.02  # fraction of the training labels

Digits = tuple[np.ndarray, np.ndarray]  # (N, 8, 8) uint8, background 0, ink up to 255; (N,) 0 to 9


def read_digits(root: Path) -> Splits:
    """Read images of one digit each, 8x8 gray: 1258 for training, 180 for validation, 359 for test.

    They are written to `root` first if it does not exist or is empty.
    """
    write_once(root, _write_folders)
    return read_folder(root)


def read_digits_multilabel(root: Path) -> Splits:
    """Read 32x32 images of one to four digits, labelled with the digits present: 2000 train, 400 val, 800 test.

    They are written to `root` first if it does not exist or is empty. An image uses only digits of its own split in
    `read_digits`. 2% of the training labels are unknown.
    """
    write_once(root, _write_scenes)
    return read_multilabel_csv(root)


def write_once(root: Path, write: Callable[[Path], None]) -> None:
    """Create the folder `root` atomically by calling `write`; several processes may call this at the same time."""
    if _is_filled(root):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        temporary = Path(scratch) / root.name
        temporary.mkdir()
        write(temporary)
        try:
            temporary.rename(root)
        except OSError:
            if not _is_filled(root):  # otherwise another process was faster
                raise


def _is_filled(root: Path) -> bool:
    return root.exists() and (not root.is_dir() or any(root.iterdir()))


def _load() -> dict[str, tuple[list[int], Digits]]:
    """Return for each split the positions in scikit-learn's order and the digits."""
    from sklearn.datasets import load_digits  # takes a second to import and is not needed once the files exist

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    index = Index([str(n) for n in range(len(labels))], torch.from_numpy(labels).long())
    rest, test = split_off(index, 0.2, SEED)
    train, val = split_off(rest, 0.125, SEED)
    splits = {"train": train, "val": val, "test": test}
    positions = {split: [int(position) for position in part.paths] for split, part in splits.items()}
    return {split: (chosen, (images[chosen], labels[chosen])) for split, chosen in positions.items()}


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
            for number in range(SCENES[split]):
                path = f"images/{split}_{number:04}.png"
                scene, present = compose(digits, random)
                unknown = random.random(10) < (UNKNOWN if split == "train" else 0)
                Image.fromarray(scene).save(root / path)
                rows.writerow([path, split, *np.where(unknown, -1, present)])


def compose(digits: Digits, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Compose one to four digits, each at a random position in its own cell: image (32, 32) uint8, labels (10,)."""
    images, labels = digits
    side = 2 * (MARGIN + CELL)
    scene, present = np.zeros((side, side), np.uint8), np.zeros(10, np.int64)
    for cell in random.permutation(4)[: random.integers(1, 5)]:
        chosen = random.integers(len(labels))
        top, left = MARGIN + CELL * np.array(divmod(cell, 2)) + random.integers(0, CELL - 8 + 1, 2)
        scene[top : top + 8, left : left + 8] = images[chosen]
        present[labels[chosen]] = 1
    return scene, present
