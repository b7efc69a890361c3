"""Recomputed BatchNorm statistics equal those of torch's update_bn and of a plain loop."""

import copy

import torch
from tasks import make_batches, network
from torch import nn
from torch.optim.swa_utils import update_bn

from fovea.models.averaging.batch_norm import (
    differing_layers,
    recompute_statistics,
    running_statistics,
    trained_layers,
)


def batches() -> list[torch.Tensor]:
    return [batch.images for batch in make_batches(4, size=6)]


def deep() -> nn.Sequential:
    """Return a network with two BatchNorm layers, the second after the first."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 2), nn.BatchNorm2d(2))


def test_the_statistics_are_those_of_torchs_update_bn() -> None:
    ours, theirs = deep().eval(), deep().eval()
    update_bn(batches(), theirs)
    recompute_statistics(ours, ["1", "4"], batches())
    for key, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], tensor, rtol=0, atol=0)


def test_the_statistics_are_the_means_over_the_batches() -> None:
    net = network().eval()
    recompute_statistics(net, ["1"], batches())
    seen = [net[0](images) for images in batches()]
    mean = sum(x.mean((0, 2, 3)) for x in seen) / len(seen)
    var = sum(x.var((0, 2, 3)) for x in seen) / len(seen)
    for tensor, expected in zip(running_statistics(net, ["1"]), (mean, var), strict=True):
        torch.testing.assert_close(tensor, expected)


def test_dropout_is_off_and_the_mode_is_restored() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3, momentum=0.3)).eval()
    images = torch.randn(8, 3, 4, 4)
    recompute_statistics(net, ["1"], [images])
    torch.testing.assert_close(net[1].running_mean, images.mean((0, 2, 3)))
    assert not any(module.training for module in net.modules())
    assert net[1].momentum == 0.3


def test_other_layers_keep_their_statistics() -> None:
    net = deep().eval()
    before = copy.deepcopy(net.state_dict())
    recompute_statistics(net, ["4"], batches())
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {"4.running_mean", "4.running_var", "4.num_batches_tracked"}


def test_layers_in_evaluation_mode_or_without_statistics_are_not_trained() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3, track_running_stats=False))
    assert trained_layers(net) == ["0"]


def test_layers_differ_if_any_of_several_states_has_other_statistics() -> None:
    net = nn.Sequential(*deep(), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    states = [copy.deepcopy(net.state_dict()) for _ in range(3)]
    for state in states:
        state["1.weight"] += torch.rand(4)
    assert differing_layers(net, states) == []
    states[2]["4.running_var"][0] += 1
    assert differing_layers(net, states) == ["4"]
    states[1]["1.running_mean"][0] += 1
    assert differing_layers(net, states) == ["1", "4"]
    assert differing_layers(net, states[:1]) == []
