import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from fovea.optim.learning_rates import learning_rates


def sgd() -> SGD:
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)], lr=1.0)


def test_a_schedule_by_steps_has_a_rate_for_each_step() -> None:
    found = learning_rates(LambdaLR(sgd(), lambda step: 1 / (step + 1)), "step", 5, lambda step: step // 2)
    np.testing.assert_allclose(found, [[1 / n, 0.1 / n] for n in (1, 2, 3, 4, 5)])


@pytest.mark.parametrize("steps", [7, 9])
def test_a_schedule_by_epochs_changes_at_the_end_of_each_epoch(steps: int) -> None:
    found = learning_rates(StepLR(sgd(), 1, 0.5), "epoch", steps, lambda step: step // 3)
    assert found[:, 0].tolist() == [0.5 ** (step // 3) for step in range(steps)]


def test_a_plateau_schedule_keeps_its_rate() -> None:
    assert learning_rates(ReduceLROnPlateau(sgd(), patience=0), "epoch", 4, int).tolist() == [[1.0, 0.1]] * 4
