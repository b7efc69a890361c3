import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fovea.models.from_timm import build_timm
from fovea.models.weights.fill import load_weights


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224", "test_efficientnet.r160_in1k"])
def test_the_head_has_as_many_classes_as_asked(timm: Any, name: str) -> None:
    network = build_timm(name, num_classes=7, image_size=64)  # a ViT is built for this size only
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_options_reach_timm(timm: Any) -> None:
    assert build_timm("test_resnet", num_classes=7, drop_rate=0.4).drop_rate == 0.4


@pytest.mark.parametrize(
    ("name", "suggestion"), [("resnet5", "resnet50"), ("resnet50.a1_in2k", "resnet50.a1_in1k"), ("hf-hub:a/b", "timm")]
)
def test_the_error_for_an_unknown_name_suggests_similar_ones(timm: Any, name: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match=f"model.name={name}: .*{suggestion}"):
        build_timm(name, num_classes=3)


def test_weights_may_be_a_file_and_the_head_starts_at_random(
    timm: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = timm.create_model("test_resnet", num_classes=10).state_dict()
    torch.save({"state_dict_ema": state}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        network: Any = build_timm("test_resnet", num_classes=7, weights=str(tmp_path / "w.pth"))
    assert torch.equal(network.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    assert "not loaded     2  fc.weight, fc.bias" in caplog.text


def test_default_weights_are_loaded_by_timm(timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, tmp_path / "w.pth")
    overlay = {"file": str(tmp_path / "w.pth")}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, pretrained_cfg_overlay=overlay))
    network: Any = build_timm("test_resnet", 7, weights="DEFAULT")
    assert torch.equal(network.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_default_weights_of_a_network_without_published_ones_are_refused(timm: Any) -> None:
    with pytest.raises(ValueError, match=r"no weights for seresnet18; use model.weights=null"):
        build_timm("seresnet18", num_classes=3, weights="DEFAULT")


def test_the_error_of_a_failed_download_names_the_network_and_the_key_for_a_file(
    timm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UnreachableError(FileNotFoundError, ValueError):  # as Hugging Face's LocalEntryNotFoundError
        pass

    def create_model(name: str, pretrained: bool, **options: Any) -> None:
        raise UnreachableError("cannot reach the hub")

    monkeypatch.setattr(timm, "create_model", create_model)
    for name in ("test_resnet", "vit_tiny_patch16_224"):
        with pytest.raises(ValueError, match=rf"{name} \(cannot reach the hub\)[^$]*model.weights"):
            build_timm(name, num_classes=3, image_size=64, weights="DEFAULT")


@pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_options_that_make_timm_load_another_file_are_refused(timm: Any, option: str) -> None:
    options: dict[str, Any] = {option: "x"}
    with pytest.raises(ValueError, match=rf"model\.{option} is refused: .* use model\.weights"):
        build_timm("test_resnet", num_classes=3, **options)


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[timm\]"'):
        build_timm("resnet18", num_classes=3)


TRANSFORMERS = [
    ("vit_tiny_patch16_224", "pos_embed", {"depth": 1}),
    ("deit_tiny_distilled_patch16_224", "pos_embed", {"depth": 1}),
    ("swinv2_cr_tiny_224", "", {"depths": (1, 1, 1, 1)}),
    ("swin_tiny_patch4_window7_224", "layers.2.blocks.0.attn.relative_position_bias_table", {"depths": (1, 1, 1, 1)}),
]


@pytest.mark.filterwarnings("ignore")  # timm's own use of torch
@pytest.mark.parametrize(("name", "positions", "options"), TRANSFORMERS)
def test_a_file_loads_at_another_image_size_as_timm_loads_it(
    timm: Any, tmp_path: Path, name: str, positions: str, options: dict[str, Any]
) -> None:
    small, large = (timm.create_model(name, num_classes=5, img_size=size, **options) for size in (64, 128))
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in small.state_dict().items()}}, tmp_path / "w.pth"
    )
    convert = sys.modules[type(large).__module__].checkpoint_filter_fn
    expected = convert(small.state_dict(), large)
    network = build_timm(name, 5, image_size=128, weights=str(tmp_path / "w.pth"), weights_min_share=1.0, **options)
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.items())
    assert not positions or own[positions].shape != small.state_dict()[positions].shape


@pytest.mark.parametrize("size", [64, 96])
def test_published_weights_are_used_at_another_image_size_where_timm_allows_it(
    timm: Any, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"depth": 1}
    for name in ("vit_tiny_patch16_224", "cait_xxs24_224"):
        torch.save(timm.create_model(name, **options).state_dict(), tmp_path / f"{name}.pth")
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, **given: create(name, pretrained_cfg_overlay={"file": f"{tmp_path}/{name}.pth"}, **given),
    )
    network = build_timm("vit_tiny_patch16_224", 7, image_size=size, weights="DEFAULT", **options)
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 7)
    says = rf"data.image_size={size}: .* weights of cait_xxs24_224 .*pos_embed.*; type data.image_size=224"
    with pytest.raises(ValueError, match=says):
        build_timm("cait_xxs24_224", 7, image_size=size, weights="DEFAULT", **options)


def test_an_image_size_that_timm_can_not_build_is_refused_with_one_that_it_can(timm: Any) -> None:
    with pytest.raises(ValueError, match=r"data.image_size=90: .*xcit_nano_12_p16_224 .*; type data.image_size=224"):
        build_timm("xcit_nano_12_p16_224", 7, image_size=90)
    with pytest.raises(RuntimeError):  # not the image size is wrong
        build_timm("vit_tiny_patch16_224", 7, image_size=224, embed_dim=-1)


def test_both_heads_of_a_distilled_network_are_its_classifier(timm: Any, tmp_path: Path) -> None:
    file, options = tmp_path / "w.pth", {"depth": 1, "img_size": 64}
    torch.save(timm.create_model("deit_tiny_distilled_patch16_224", num_classes=10, **options).state_dict(), file)
    network = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=5, **options)
    report = load_weights(network, file, list("abcde"))
    assert report.not_loaded == ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"]
    assert report.warnings == []


def test_a_published_classifier_for_other_classes_is_loaded_with_a_warning(
    timm: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    overlay = {"file": str(tmp_path / "w.pth")}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, pretrained_cfg_overlay=overlay))
    build_timm("test_resnet", 1000, weights="DEFAULT", class_names=[f"class {n}" for n in range(1000)])
    assert "loaded unchanged, but the classes of this data are class 0, class 1" in caplog.text
