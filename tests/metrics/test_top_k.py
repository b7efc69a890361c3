"""Top-k accuracy, compared with scikit-learn; there is none for k or fewer classes."""

import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from fovea.metrics.top_k import top_k_accuracy


def test_top_k_equals_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(200, 8, generator=generator).softmax(1)
    labels = torch.randint(0, 8, (200,), generator=generator)
    metric = top_k_accuracy(num_classes=8, k=5)
    assert metric is not None
    for rows in torch.arange(200).split(64):
        metric.update(probabilities[rows], labels[rows])
    assert metric.compute().item() == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))


@pytest.mark.parametrize(("num_classes", "exists"), [(2, False), (5, False), (6, True)])
def test_there_is_no_top_5_of_five_classes(num_classes: int, exists: bool) -> None:
    assert (top_k_accuracy(num_classes, k=5) is not None) is exists
