"""Losses of torch and timm are built from the lists of a config."""

from typing import Any

import pytest
import timm.loss
import torch
from torch import Tensor, nn

from fovea.losses.arguments import accepted, register_tensors, tensors


class Custom(nn.Module):
    def __init__(self, alpha: Tensor, names: list[str]) -> None:
        super().__init__()
        self.alpha, self.names = alpha, names

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return (self.alpha * logits).mean()


def build(kind: Any, **options: Any) -> Any:
    found = tensors(kind, options)
    return register_tensors(kind(**options | found), found)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (nn.CrossEntropyLoss, "weight"),
        (nn.BCEWithLogitsLoss, "weight"),
        (nn.BCEWithLogitsLoss, "pos_weight"),
        (nn.MultiMarginLoss, "weight"),
        (nn.MultiLabelSoftMarginLoss, "weight"),
        (timm.loss.BinaryCrossEntropy, "pos_weight"),
    ],
)
def test_a_list_becomes_a_tensor_that_moves_with_the_loss_and_is_not_in_checkpoints(kind: Any, name: str) -> None:
    loss = build(kind, **{name: [1, 4]})
    assert torch.equal(getattr(loss, name), torch.tensor([1.0, 4.0]))
    assert not loss.state_dict()
    assert getattr(loss.to("meta"), name).device.type == "meta"


def test_a_custom_loss_gets_tensors_for_parameters_annotated_so_and_lists_for_others() -> None:
    loss = build(Custom, alpha=[1, 2], names=["a", "b"])
    assert loss.names == ["a", "b"]
    assert loss.alpha.tolist() == [1, 2]
    assert loss.to("meta").alpha.device.type == "meta"


@pytest.mark.parametrize("values", [[1, -4], [1, float("nan")], [1, "x"], [[1, 2], 3]])
def test_a_list_with_a_wrong_weight_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"loss\.pos_weight"):
        tensors(nn.BCEWithLogitsLoss, {"pos_weight": values})


def test_class_names_are_passed_only_to_losses_that_take_them_and_typed_values_always() -> None:
    offered = {"class_names": ["a"], "class_counts": {"present": [1]}, "class_weights": None, "reduction": "sum"}
    assert accepted(nn.BCEWithLogitsLoss, offered) == {"reduction": "sum"}
    typed = {"label_smoothing": 0.1, "_target_": "x"}
    assert accepted(nn.BCEWithLogitsLoss, typed) == typed


def test_options_that_are_off_are_left_out_for_losses_without_them() -> None:
    off = {"task": "multilabel", "label_smoothing": 0.0, "sum_classes": False, "target_threshold": None}
    assert accepted(nn.BCEWithLogitsLoss, off) == {}


def test_class_weights_for_a_loss_without_them_are_refused() -> None:
    with pytest.raises(ValueError, match="BCEWithLogitsLoss takes no class weights"):
        accepted(nn.BCEWithLogitsLoss, {"class_weights": [1]})
