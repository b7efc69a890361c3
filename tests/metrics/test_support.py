"""The number of images per class, compared with a plain count."""

import torch

from fovea.metrics.support import Support


def test_an_index_target_counts_each_image_once() -> None:
    metric = Support(4)
    metric.update(torch.rand(3, 4), torch.tensor([2, 0, 2]))
    metric.update(torch.rand(0, 4), torch.zeros(0, dtype=torch.int64))
    metric.update(torch.rand(1, 4), torch.tensor([3]))
    assert metric.compute().tolist() == [1, 0, 2, 1]


def test_only_known_positives_count() -> None:
    metric = Support(3)
    metric.update(torch.rand(3, 3), torch.tensor([[1, -1, 0], [1, 1, -1], [-1, -1, -1]]))
    metric.update(torch.rand(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert metric.compute().tolist() == [2, 1, 0]
