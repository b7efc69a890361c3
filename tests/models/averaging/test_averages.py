"""Averages of weights equal plain loops over tensors, and torch's own."""

import copy

import pytest
import torch
from tasks import network
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fovea.models.averaging.averages import mean_weights, move_average


def networks(count: int) -> list[nn.Module]:
    """Return networks whose parameters and buffers all differ."""
    made: list[nn.Module] = []
    for n in range(count):
        one = network()
        generator = torch.Generator().manual_seed(n)
        for tensor in one.state_dict().values():
            noise = torch.rand(tensor.shape, generator=generator) * 10
            tensor.copy_(noise if tensor.is_floating_point() else torch.tensor(n))
        made.append(one)
    return made


def test_parameters_and_running_statistics_are_averaged_and_counters_copied() -> None:
    average, raw = networks(2)
    before, new = copy.deepcopy(average.state_dict()), raw.state_dict()
    move_average(average, raw, share=0.25)
    for key, tensor in average.state_dict().items():
        moved = new[key] if key.endswith("num_batches_tracked") else 0.75 * before[key] + 0.25 * new[key]
        torch.testing.assert_close(tensor, moved)


def test_the_mean_of_several_weights_equals_torchs() -> None:
    made = networks(4)
    expected = AveragedModel(made[0], use_buffers=True)
    for one in made:
        expected.update_parameters(one)
    moved = copy.deepcopy(made[0])
    for n, one in enumerate(made[1:], start=2):
        move_average(moved, one, 1 / n)
    mean = mean_weights([one.state_dict() for one in made])
    for key, tensor in expected.module.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(mean[key], tensor)
            torch.testing.assert_close(moved.state_dict()[key], tensor)
            assert mean[key].dtype == tensor.dtype
    assert mean["1.num_batches_tracked"] == made[0].state_dict()["1.num_batches_tracked"]


def test_the_mean_of_one_network_is_a_copy_bit_for_bit() -> None:
    (one,) = networks(1)
    state = one.state_dict()
    for key, tensor in mean_weights([state]).items():
        assert torch.equal(tensor, state[key])
        assert tensor.data_ptr() != state[key].data_ptr()


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_weights_of_another_network_are_refused(change: str) -> None:
    first, other = network().state_dict(), dict(network().state_dict())
    if change == "missing":
        del other["5.bias"]
    elif change == "more":
        other["5.more"] = torch.zeros(2)
    else:
        other["5.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"weights 2: 5\.(bias|more) is .* only weights of the same network"):
        mean_weights([first, other])
