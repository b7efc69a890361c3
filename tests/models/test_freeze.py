"""Frozen parameters and their BatchNorm statistics stay bit for bit the same, and the rest is trained."""

import copy

import pytest
import torch
from conf_groups import composed
from tasks import Data, make_batches, make_task, make_trainer
from torch import nn

from fovea import build
from fovea.models.freeze import freeze
from fovea.models.se_resnet import SEResNet
from fovea.optim.parameter_groups import head_faster, no_decay_on_norms_and_biases


def small() -> SEResNet:
    torch.manual_seed(0)
    return SEResNet(3, width=8, stem="small")


def frozen(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if not parameter.requires_grad}


def test_the_backbone_is_everything_but_the_classifier() -> None:
    network = small()
    freeze(network, "backbone")
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}


def test_names_match_modules_at_any_depth_and_parameters_and_may_have_a_wildcard() -> None:
    network = small()
    freeze(network, ["conv1", "layer1.0", "layer4.*.bias"])
    expected = {
        name
        for name, _ in network.named_parameters()
        if name.startswith(("conv1.", "layer1.0.")) or (name.startswith("layer4.") and name.endswith(".bias"))
    }
    assert frozen(network) == expected


def test_only_completely_frozen_layers_are_in_evaluation_mode() -> None:
    network = small()
    freeze(network, ["bn1", "layer1", "layer2.0.bn1.bias"])
    modes = {name: module.training for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    evaluated = {name for name, training in modes.items() if not training}
    assert evaluated == {"bn1", *(name for name in modes if name.startswith("layer1."))}


def test_training_with_validations_changes_only_what_is_not_frozen() -> None:
    network = make_task().network
    freeze(network, ["backbone"])
    before = copy.deepcopy(network.state_dict())
    task = make_task(network=network, parameter_groups=no_decay_on_norms_and_biases)
    make_trainer(max_epochs=2).fit(task, datamodule=Data(make_batches(4), make_batches(2, seed=7)))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"5.weight", "5.bias"}
    assert network.training


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["layer9"], r"freeze=layer9: .* It has conv1, bn1, layer1, layer2, layer3, layer4, fc$"),
        (["backbone", "fc"], "every parameter would be frozen"),
        (["*"], "every parameter would be frozen"),
    ],
)
def test_an_unknown_name_and_freezing_everything_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(small(), names)


def test_the_config_freezes_and_warns_if_the_frozen_weights_are_random(caplog: pytest.LogCaptureFixture) -> None:
    network = build.task(composed("data=digits", "freeze=[conv1,bn1]")).network
    assert frozen(network) == {"conv1.weight", "bn1.weight", "bn1.bias"}
    assert "starts from random weights" in caplog.text
    caplog.clear()
    build.task(composed("data=digits", "freeze=backbone", "weights=some.ckpt"))
    assert not caplog.text


def test_head_faster_gives_the_backbone_a_tenth_of_the_rate_and_each_parameter_one_group() -> None:
    cfg = composed("data=digits", "parameter_groups=head_faster", "optimizer.lr=0.5")
    task = build.task(cfg)
    optimizer = task.configure_optimizers()["optimizer"]
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    parameters = dict(task.network.named_parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(parameters)
    decay = cfg.optimizer.weight_decay
    for name, parameter in parameters.items():
        rate = 0.5 if name.startswith("fc.") else 0.05
        assert rates[id(parameter)] == (pytest.approx(rate), decay if parameter.ndim > 1 else 0.0), name


def test_the_classifier_may_be_given_by_name_and_a_frozen_backbone_has_no_group() -> None:
    network = small()
    groups = head_faster(network, lr=1.0, backbone_factor=0.1, classifier=["fc.*", "layer4.*"])
    fast = {id(p) for group in groups if group["lr"] == 1.0 for p in group["params"]}
    assert fast == {id(p) for name, p in network.named_parameters() if name.startswith(("fc.", "layer4."))}
    freeze(network, ["backbone"])
    assert {g["lr"] for g in head_faster(network, lr=1.0, backbone_factor=0.1, classifier=["fc.*"])} == {1.0}
    with pytest.raises(ValueError, match=r"parameter_groups.classifier=\['layer4.\*'\]"):
        head_faster(network, lr=1.0, backbone_factor=0.1, classifier=["layer4.*"])
