import torch

from fovea.data.random_numbers import mix


def test_neighbouring_images_epochs_and_seeds_draw_different_numbers() -> None:
    seeds = {mix(seed, epoch, index) & 0xFFFFFFFF for seed in range(4) for epoch in range(10) for index in range(500)}
    assert len(seeds) >= 4 * 10 * 500 - 5  # 2^32 values: a collision is possible, many are not


def test_the_first_draws_of_neighbouring_images_are_uniform() -> None:
    draws = torch.stack([torch.rand(1, generator=torch.Generator().manual_seed(mix(0, 0, i))) for i in range(2000)])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(draws.var() - 1 / 12) < 0.01
