import itertools

import torch

from fovea.data.random_numbers import derive_seed


def test_neighbouring_images_epochs_and_seeds_draw_different_numbers() -> None:
    keys = itertools.product(range(4), range(10), range(500))  # (seed, epoch, index)
    seeds = {derive_seed(*key) & 0xFFFFFFFF for key in keys}
    assert len(seeds) >= 4 * 10 * 500 - 5  # a few collisions are possible among 2^32 values


def test_the_first_draws_of_neighbouring_images_are_uniform() -> None:
    seeds = [derive_seed(0, 0, index) for index in range(2000)]
    draws = torch.stack([torch.rand(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(draws.var() - 1 / 12) < 0.01
