from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fovea.data.index import Index, distinct
from fovea.data.loading import samples
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, RandomResizedCrop
from fovea.data.pixels.decode import read_image


def dataset(root: Path) -> ImageDataset:
    """Five readable images of different sizes, the third turned by its EXIF orientation, and a damaged one."""
    paths = [str(root / f"{n} é.png") for n in range(5)] + [str(root / "no.png")]
    for n, path in enumerate(paths[:5]):
        noise = np.random.default_rng(n).integers(0, 256, (20 + n, 30, 3), dtype=np.uint8)
        exif = Image.Exif()
        if n == 2:
            exif[0x0112] = 6
        Image.fromarray(noise).save(path, exif=exif)
    Path(paths[5]).write_bytes(b"no image")
    return ImageDataset(Index(paths, torch.arange(6) % 2), Augment(RandomResizedCrop(16)), 3, "skip")


def test_every_class_is_chosen_once_before_any_is_chosen_twice() -> None:
    targets = torch.tensor([0] * 90 + [1] * 9 + [2])
    assert Counter(targets[samples.choose(targets, 3, 0)].tolist()) == {0: 1, 1: 1, 2: 1}
    chosen = samples.choose(targets, 8, 1)
    assert Counter(targets[chosen].tolist()) in ({0: 4, 1: 3, 2: 1}, {0: 3, 1: 4, 2: 1})
    assert targets[chosen].tolist() == sorted(targets[chosen].tolist())
    assert chosen == samples.choose(targets, 8, 1) != samples.choose(targets, 8, 2)
    assert samples.choose(targets, 500, 0) == list(range(100))
    assert samples.choose(targets, 0, 0) == samples.choose(targets[:0], 3, 0) == []


def test_images_with_several_labels_are_chosen_alike() -> None:
    chosen = samples.choose(torch.zeros(50, 3, dtype=torch.int8), 10, 0)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen)


def test_whole_images_are_shrunk_and_unreadable_ones_are_none(tmp_path: Path) -> None:
    images = dataset(tmp_path)
    whole = samples.whole(images, 1, 100)
    assert whole is not None
    assert torch.equal(whole, read_image(images.index.paths[1]))
    small = samples.whole(images, 1, 10)
    assert small is not None
    assert small.shape == (3, 7, 10)
    assert samples.whole(images, 5, 10) is None


def test_what_the_network_gets_is_what_a_training_reads(tmp_path: Path) -> None:
    images = dataset(tmp_path)
    shown = samples.as_trained(images, 4, 3, 100)
    for epoch, image in enumerate(shown):
        assert torch.equal(image, images[(epoch, 4, 0)][0])
    assert not torch.equal(shown[0], shown[1])
    same = ImageDataset(images.index, Augment(CenterCrop(16, 16)))
    first, second = samples.as_trained(same, 4, 2, 8)
    assert first.shape == (3, 8, 8)
    assert torch.equal(first, second)


def test_sizes_are_upright_and_leave_out_unreadable_images(tmp_path: Path) -> None:
    found = samples.sizes(dataset(tmp_path), [0, 2, 4, 5])
    assert found.tolist() == [[20, 30], [30, 22], [24, 30]]


def test_a_split_that_is_another_one_is_left_out() -> None:
    train, val = (Index(["x"], torch.zeros(1)) for _ in range(2))
    assert list(distinct({"train": train, "val": val, "test": val})) == ["train", "val"]
    assert list(distinct({"test": val})) == ["test"]
