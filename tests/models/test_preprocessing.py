"""The preprocessing of published weights, beside the libraries' own transforms on the same image.

Nothing is downloaded: the entries of the weights are part of the libraries, and other ones stand in for odd ones.
"""

import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from conf_groups import composed
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor
from torchvision import models

from fovea.config import pretrained
from fovea.data.loading.given_images import GivenImages
from fovea.models.from_timm import timm_preprocessing
from fovea.models.from_torchvision import torchvision_preprocessing
from fovea.parts import network_parts


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


def photo() -> Image.Image:
    """A smooth picture of 420 x 360 pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((420, 360), Image.Resampling.BICUBIC)


def network_input(*words: str) -> Tensor:
    """(1, 3, S, S), as an evaluation gives it to a network with these weights."""
    cfg = composed("data=folder", "model.weights=DEFAULT", *words)
    own = network_parts.preprocessing(cfg.model)
    assert own is not None
    pretrained.fill_in(cfg, own._asdict())
    dataset = GivenImages([photo()], instantiate(cfg.augment.eval, _convert_="all"), (255, 255, 255))
    result: Tensor = instantiate(cfg.preprocess)(dataset.__getitems__([(0, 0, 0)]).images)
    return result


def assert_alike(found: Tensor, expected: Tensor) -> None:
    """Few pixels may be rounded otherwise, by one of 255; another interpolation differs by five times as much."""
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 2e-4


@pytest.mark.parametrize(
    ("name", "weights"), [("resnet18", "DEFAULT"), ("mobilenet_v2", "IMAGENET1K_V2"), ("efficientnet_b1", "DEFAULT")]
)
def test_torchvisions_weights_get_the_pixels_of_their_own_transforms(name: str, weights: str) -> None:
    expected = models.get_model_weights(name)[weights].transforms()(photo())[None]
    assert_alike(network_input("model=torchvision", f"model.name={name}", f"model.weights={weights}"), expected)


@pytest.mark.parametrize(
    "name", ["resnet50.a1_in1k", "inception_v3.tv_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k"]
)
def test_timms_weights_get_the_pixels_of_timms_evaluation(timm: Any, name: str) -> None:
    published = timm.models.get_pretrained_cfg(name).to_dict()
    options = timm.data.resolve_data_config(pretrained_cfg=published, use_test_size=True)
    expected = timm.data.create_transform(**options)(photo())[None]
    assert_alike(network_input("model=timm", f"model.name={name}"), expected)


def test_timms_training_size_is_not_that_of_its_test(timm: Any) -> None:
    own = timm_preprocessing("resnet50.a1_in1k", "DEFAULT")
    assert own is not None
    assert (own.image_size, own.eval_image_size, own.resize) == (224, 288, 288)


@pytest.mark.parametrize("weights", [None, "weights.pth"])
@pytest.mark.parametrize("model", ["torchvision", "timm"])
def test_other_weights_have_no_preprocessing_of_their_own(model: str, weights: str | None) -> None:
    cfg = composed(f"model={model}")
    cfg.model.weights = weights
    assert network_parts.preprocessing(cfg.model) is None
    assert network_parts.preprocessing(composed("model=se_resnet").model) is None


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"interpolation": "lanczos"}, "interpolation lanczos, which crops don't have: here bicubic"),
        ({"interpolation": "nearest"}, "interpolation nearest, which crops don't have: here bilinear"),
        ({"crop_mode": "squash"}, "made square with crop_mode=squash; here their middle is cropped"),
        ({"input_size": (3, 64, 48)}, r"\(64, 48\) pixels; here they are squares of the shorter side"),
    ],
)
def test_what_crops_can_not_do_is_said_once(
    timm: Any, entry: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usual = {"url": "x", "input_size": (3, 48, 48), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center"}
    stand_in = timm.models.PretrainedCfg(**(usual | entry))
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: stand_in)
    own = timm_preprocessing("test_resnet", "DEFAULT")
    assert own is not None
    assert (own.image_size, own.eval_image_size, own.resize) == (48, 48, 53)
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert re.search(words, warning)


def test_unknown_names_and_weights_are_refused_as_when_the_network_is_built(timm: Any) -> None:
    with pytest.raises(ValueError, match=r"model.weights=IMAGENET1K_V3: resnet50 has IMAGENET1K_V1, IMAGENET1K_V2"):
        torchvision_preprocessing("resnet50", "IMAGENET1K_V3")
    with pytest.raises(ValueError, match=r"=IMAGENET1K_FEATURES: .* are missing; vgg16 has IMAGENET1K_V1 too"):
        torchvision_preprocessing("vgg16", "IMAGENET1K_FEATURES")
    with pytest.raises(ValueError, match=r"model.name=resnet5: .*resnet50"):
        torchvision_preprocessing("resnet5", "DEFAULT")
    with pytest.raises(ValueError, match=r"model.name=resnet5: .*resnet50"):
        timm_preprocessing("resnet5", "DEFAULT")
    with pytest.raises(ValueError, match=r"no weights for seresnet18"):
        timm_preprocessing("seresnet18", "DEFAULT")


def test_networks_that_rescale_their_input_get_imagenets_normalization() -> None:
    for name in ("googlenet", "inception_v3"):
        own = torchvision_preprocessing(name, "DEFAULT")
        assert own is not None
        torch.testing.assert_close(own.mean, [0.485, 0.456, 0.406])
