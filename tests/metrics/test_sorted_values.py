import torch

from fovea.metrics.sorted_values import sorted_values


def test_values_are_sorted_and_the_given_ones_are_left_as_they_were() -> None:
    values = torch.rand(300, 4, requires_grad=True)
    before, column = values.detach().clone(), values[:, 2]  # not contiguous
    found = sorted_values(column)
    assert torch.equal(found, column.sort().values)
    assert not found.requires_grad
    assert torch.equal(values, before)
    assert sorted_values(values[:0, 0]).shape == (0,)
