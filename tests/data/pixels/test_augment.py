import numpy as np

from fovea.data.pixels.augment import FLIP, Augment
from fovea.data.pixels.crop import PaddedCrop


def flips(augment: Augment, epoch: int, repetition: int = 0, seed: int = 3, images: int = 400) -> np.ndarray:
    keys = np.array([(epoch, index, repetition) for index in range(images)])
    return augment.views(seed, keys, np.full((images, 2), 32))[:, FLIP]


def test_an_alternating_flip_mirrors_each_image_in_every_second_epoch() -> None:
    augment = Augment(PaddedCrop(32, padding=2), alternating_flip=True)
    first = flips(augment, 0)
    assert 0.4 < first.mean() < 0.6
    assert not np.array_equal(first, flips(augment, 0, seed=4))
    for epoch in range(1, 5):
        assert np.array_equal(flips(augment, epoch), first ^ epoch % 2)
    assert np.array_equal(flips(augment, 0, repetition=1), 1 - first)


def test_an_alternating_flip_changes_nothing_else_of_a_view() -> None:
    keys, sizes = np.array([(2, index, 0) for index in range(50)]), np.full((50, 2), 32)
    plain, alternating = (Augment(PaddedCrop(32), alternating_flip=on).views(0, keys, sizes) for on in (False, True))
    assert np.array_equal(np.delete(plain, FLIP, axis=1), np.delete(alternating, FLIP, axis=1))
    assert not np.array_equal(plain, alternating)
