"""What several test files share."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SMALL = (
    "model=se_resnet_small",
    "data.image_size=16",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "report=false",
)


def make_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog", "owl"), images: int = 12, seed: int = 0) -> Path:
    """root/<class>/<n>.png: noise around a brightness that tells the class."""
    rng = np.random.default_rng(seed)
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            pixels = rng.integers(0, 60, (20, 24, 3)) + 80 * k
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


def deny_listing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No folder of that name can be listed; root may list everything, so taking its mode away would not do."""
    scandir = os.scandir

    def deny(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)


def some(cases: Iterable[Any]) -> list[Any]:
    """Every fourth of them by default, and all with `-m slow` beside."""
    return [
        case if n % 4 == 0 else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for n, case in enumerate(cases)
    ]
