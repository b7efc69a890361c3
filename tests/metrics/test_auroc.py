"""AUROC per class and its mean, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fovea.metrics.auroc import AUROC, MeanAUROC

K = 6


@pytest.mark.parametrize("seed", range(5))
def test_each_class_equals_scikit_learn_over_its_known_entries(seed: int) -> None:
    """The scores have ties; class 2 has no positive, class 3 no negative, class 4 no known label."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 21, (60, K), generator=generator) / 20
    target = torch.randint(-1, 2, (60, K), generator=generator)
    target[:, 2], target[:, 3], target[:, 4] = 0, 1, -1
    each, mean = AUROC(K), MeanAUROC(K)
    for rows in torch.arange(60).split(16):
        each.update(scores[rows], target[rows])
        mean.update(scores[rows], target[rows])
    expected = [np.nan] * K
    for k in (0, 1, 5):
        known = target[:, k] >= 0
        expected[k] = roc_auc_score(target[known, k], scores[known, k])
    np.testing.assert_allclose(each.compute(), expected, rtol=1e-6)
    assert mean.compute().item() == pytest.approx(np.nanmean(expected))
    assert mean.defined is not None
    assert mean.defined.tolist() == [True, True, False, False, False, True]


def test_class_indices_are_measured_as_each_class_against_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities, labels = torch.rand(50, 3, generator=generator).softmax(1), torch.arange(50) % 3
    mean = MeanAUROC(3)
    mean.update(probabilities, labels)
    assert mean.compute().item() == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
