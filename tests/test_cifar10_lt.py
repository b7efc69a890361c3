"""data=cifar10_lt is the published subset, and scripts/write_cifar10.py writes files with the names in its list."""

import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torchvision
from conf_groups import composed
from PIL import Image

from fovea.config.resolvers import PROJECT
from fovea.data.division.subset import take_subset
from fovea.data.sources.folder import read_folder

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]  # Cui et al. 2019; Cao et al. 2019
SCRIPT = runpy.run_path(str(PROJECT / "scripts" / "write_cifar10.py"))


def test_the_list_has_the_published_counts_and_is_what_its_yaml_says() -> None:
    draw, expected = random.Random(0), list[str]()
    for name, count in zip(NAMES, COUNTS, strict=True):
        order = list(range(5000))
        draw.shuffle(order)
        expected += [f"train/{name}/{n:04}" for n in sorted(order[:count])]
    assert Path(composed("data=cifar10_lt").data.subset).read_text().splitlines() == expected
    assert len(expected) == 12406


def test_the_written_files_are_numbered_by_class_in_the_order_of_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = [1, 0, 1, 1, 0, 1]
    data = SimpleNamespace(classes=["cat", "dog"], data=pixels, targets=labels)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", lambda *_, train, download: data)
    SCRIPT["write"](tmp_path, Path("."), False)
    written = {str(file.relative_to(tmp_path)): np.asarray(Image.open(file)) for file in tmp_path.rglob("*.png")}
    assert len(written) == 12
    for split in ("train", "test"):
        for place, image in {"dog/0000": 0, "dog/0002": 3, "dog/0003": 5, "cat/0001": 4}.items():
            np.testing.assert_array_equal(written[f"{split}/{place}.png"], pixels[image])
    (tmp_path / "list.txt").write_text("train/dog/0002\ntrain/cat/0001\n")
    subset = take_subset(read_folder(tmp_path), str(tmp_path / "list.txt"), str(tmp_path)).data.train
    assert subset is not None
    assert [path.removeprefix(str(tmp_path)) for path in subset.paths] == ["/train/cat/0001.png", "/train/dog/0002.png"]
