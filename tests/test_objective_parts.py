"""Objectives are built from the config, with the loss that they get."""

import pytest
import torch
from conf_groups import composed
from torch import nn

from fovea import build
from fovea.parts import objective_parts


def test_a_task_that_is_to_be_trained_minimizes_the_objective_of_the_config() -> None:
    task = build.task(composed("data=digits"))
    assert task.objective is not None
    target = torch.tensor([0, 6, 3])
    measured, logits = task.objective(task.network.eval(), torch.randn(3, 3, 16, 16), target)
    torch.testing.assert_close(measured.value, nn.functional.cross_entropy(logits, target))
    assert build.task(composed("data=digits"), to_train=False).objective is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["+objective.weight=2"], "supervised.supervised got an unexpected keyword argument 'weight'"),
        (["objective._target_=fovea.objectives.supervised.superb"], "superb can't be imported: is it spelt right"),
    ],
)
def test_an_objective_that_does_not_take_its_keys_is_refused_before_training(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        objective_parts.objective(composed(*words), nn.CrossEntropyLoss())
