import logging
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from fovea.models.from_torchvision import build_torchvision
from fovea.models.weights.fill import load_weights

NAMES = models.list_models(module=models)


def on_meta(name: str, **options: Any) -> Any:
    """Build on the meta device: without memory or initialisation."""
    with torch.device("meta"):
        return build_torchvision(name, **options)


def logits_of(network: nn.Module, size: int) -> Tensor:
    device = next(network.parameters()).device
    return network(torch.zeros(2, 3, size, size, device=device))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 64),  # fc
        pytest.param("densenet121", 64, marks=pytest.mark.slow),  # classifier
        ("mobilenet_v3_small", 64),  # classifier[-1]
        ("squeezenet1_1", 64),  # classifier[1], a convolution
        ("vit_b_16", 64),  # heads.head
        ("swin_t", 64),  # head
        pytest.param("maxvit_t", 224, marks=pytest.mark.slow),  # classifier[-1], without bias
    ],
)
def test_the_head_has_as_many_classes_as_asked(name: str, size: int) -> None:
    network = on_meta(name, num_classes=7, image_size=size)
    assert logits_of(network, size).shape == (2, 7)
    assert list(network.parameters())[-1].shape[0] == 7  # head.py finds the classifier by its last parameter


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_heads_return_plain_logits_in_training(name: str) -> None:
    network = on_meta(name, num_classes=7).train()
    logits = logits_of(network, 96)
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 7)
    assert network.transform_input  # from ImageNet's normalisation to the [-1, 1] of the published weights


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "regnet_y_128gf"])  # 2.6 GB
def test_every_name_gives_logits_in_training(name: str) -> None:
    device = "cpu" if name.startswith("regnet") else "meta"  # RegNet's constructor computes with tensors
    with torch.device(device):
        network = build_torchvision(name, num_classes=7)
    assert logits_of(network.train(), 224 if device == "meta" else 32).shape == (2, 7)


def test_options_reach_torchvisions_function() -> None:
    assert on_meta("mobilenet_v3_small", num_classes=3, dropout=0.7).classifier[2].p == 0.7


@pytest.mark.parametrize(("name", "suggestion"), [("resnet5", "resnet50"), ("vitb16", "vit_b_16")])
def test_the_error_for_an_unknown_name_suggests_similar_ones(name: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match=f"model.name={name}.*{suggestion}"):
        build_torchvision(name, num_classes=3)


def test_detectors_are_refused() -> None:
    with pytest.raises(ValueError, match="no such classification network"):
        build_torchvision("fasterrcnn_resnet50_fpn", num_classes=3)


def test_an_image_size_that_is_no_multiple_of_the_patch_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.image_size=100: vit_b_16 .* 16"):
        build_torchvision("vit_b_16", num_classes=3, image_size=100)


def test_an_image_size_that_windows_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.image_size=256: maxvit_t needs a multiple of 224 pixels"):
        on_meta("maxvit_t", num_classes=3, image_size=256)


def test_published_weights_come_from_torchvision_and_the_head_starts_at_random(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published, calls = models.squeezenet1_1(num_classes=1000).state_dict(), []

    def get_state_dict(self: models.WeightsEnum, **options: Any) -> dict[str, Tensor]:
        calls.append((self, options))
        return published

    monkeypatch.setattr(models.SqueezeNet1_1_Weights, "get_state_dict", get_state_dict)
    with caplog.at_level(logging.INFO):
        network: Any = build_torchvision("squeezenet1_1", num_classes=5, weights="DEFAULT")
    options = {"progress": True, "check_hash": True, "weights_only": True}
    assert calls == [(models.SqueezeNet1_1_Weights.IMAGENET1K_V1, options)]
    assert torch.equal(network.features[0].weight, published["features.0.weight"])
    assert logits_of(network, 64).shape == (2, 5)
    assert "not loaded     2  classifier.1.weight, classifier.1.bias" in caplog.text


def test_the_error_of_a_failed_download_names_the_address_and_the_key_for_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get_state_dict(self: models.WeightsEnum, **options: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(models.SqueezeNet1_1_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(ValueError, match=r"squeezenet1_1-.*\.pth .*no route[^$]*model.weights"):
        build_torchvision("squeezenet1_1", num_classes=5, weights="IMAGENET1K_V1")


def test_the_error_for_unknown_weights_lists_the_published_ones() -> None:
    with pytest.raises(ValueError, match=r"model.weights=IMAGENET1K_V3: resnet50 has IMAGENET1K_V1, IMAGENET1K_V2"):
        build_torchvision("resnet50", num_classes=5, weights="IMAGENET1K_V3")


def test_weights_may_be_a_file(tmp_path: Path) -> None:
    source = models.mnasnet0_5(num_classes=5)  # its loader requires a version, which plain files don't have
    state = {name: torch.full_like(tensor, 2) for name, tensor in source.state_dict().items()}
    torch.save({"state_dict": {f"network.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.ckpt")
    network = build_torchvision("mnasnet0_5", num_classes=5, weights=str(tmp_path / "w.ckpt"))
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_densenet_file_with_the_published_names_is_loaded_completely(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = models.densenet121(num_classes=5).state_dict()
    old = {re.sub(r"(denselayer\d+\.(norm|conv))(\d)", r"\1.\3", name): tensor for name, tensor in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        network = build_torchvision("densenet121", num_classes=5, weights=str(tmp_path / "w.pth"))
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert "not loaded     0" in caplog.text
    assert "not used       0" in caplog.text


def vit(image_size: int, classes: int = 5) -> nn.Module:
    """Return a small VisionTransformer of torchvision."""
    return models.VisionTransformer(image_size, 16, 2, 2, 32, 64, num_classes=classes)


def test_position_embeddings_are_interpolated_for_another_image_size(tmp_path: Path) -> None:
    state = {name: torch.randn_like(tensor) for name, tensor in vit(32).state_dict().items()}
    published = {re.sub(r"mlp\.0\.", "mlp.linear_1.", name): tensor for name, tensor in state.items()}  # older names
    torch.save({f"module.{name}": tensor for name, tensor in published.items()}, tmp_path / "w.pth")
    network: Any = vit(64)
    report = load_weights(network, tmp_path / "w.pth", min_share=1.0)
    positions = state.pop("encoder.pos_embedding")  # class token and the patches of a 32-pixel image
    token, grid = network.encoder.pos_embedding[0, 0], network.encoder.pos_embedding[0, 1:].unflatten(0, (4, 4))
    torch.testing.assert_close(token, positions[0, 0])
    torch.testing.assert_close(grid[::3, ::3], positions[0, 1:].unflatten(0, (2, 2)))  # corners stay where they were
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in state.items())
    assert report.resampled == ["encoder.pos_embedding"]
    assert report.warnings == []
    assert logits_of(network, 64).shape == (2, 5)


def test_published_auxiliary_heads_cause_no_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published = models.googlenet(init_weights=False).state_dict()
    monkeypatch.setattr(models.GoogLeNet_Weights, "get_state_dict", lambda self, **options: published)
    build_torchvision("googlenet", 5, weights="DEFAULT", class_names=list("abcde"))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("alike", [True, False])
def test_a_published_classifier_for_other_classes_is_loaded_with_a_warning(
    alike: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    imagenet = models.SqueezeNet1_1_Weights.DEFAULT.meta["categories"]
    published = models.squeezenet1_1().state_dict()
    monkeypatch.setattr(models.SqueezeNet1_1_Weights, "get_state_dict", lambda self, **options: published)
    class_names = [name.title() for name in imagenet] if alike else [f"class {n}" for n in range(1000)]
    network: Any = build_torchvision("squeezenet1_1", 1000, weights="DEFAULT", class_names=class_names)
    assert torch.equal(network.classifier[1].weight, published["classifier.1.weight"])
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (not alike)
    assert alike or "loaded unchanged, but the classes of this data are class 0, class 1" in warned[0]
