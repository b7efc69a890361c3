import torch

from fovea.training.step_seed import seed_step

CPU = torch.device("cpu")


def drawn(seed: int, step: int, rank: int) -> float:
    seed_step(seed, step, rank, CPU)
    return torch.rand(1, dtype=torch.float64).item()


def test_a_step_draws_the_same_again_and_no_two_steps_ranks_or_seeds_draw_the_same() -> None:
    places = [(seed, step, rank) for seed in range(3) for step in range(20) for rank in range(3)]
    once, again = [drawn(*place) for place in places], [drawn(*place) for place in places]
    assert once == again
    assert len(set(once)) == len(places)
