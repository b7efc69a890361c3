"""What several test files share."""

from pathlib import Path

import numpy as np
from PIL import Image

SMALL = (
    "model=se_resnet_small",
    "data.image_size=16",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=1",
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
