"""The keys that follow published weights have the weights' values, unless a command or a yaml sets them."""

from typing import Any

import pytest
from conf_groups import GROUPS, composed
from omegaconf import DictConfig, OmegaConf

from fovea.config import pretrained, saved
from fovea.config.check import check_progressive

OWN = {
    **{"image_size": 96, "eval_image_size": 120, "resize": 150, "interpolation": "bicubic"},
    **{"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]},
}
USUAL = {
    **{"data.image_size": 224, "data.eval_image_size": 224, "augment.eval.crop.resize": 256},
    **{"augment.train.crop.interpolation": "bilinear", "augment.eval.crop.interpolation": "bilinear"},
    **{"preprocess.mean": [0.485, 0.456, 0.406], "preprocess.std": [0.229, 0.224, 0.225]},
}


def values(cfg: DictConfig) -> dict[str, Any]:
    return {key: OmegaConf.select(cfg, key) for key in USUAL}


def filled(*words: str) -> DictConfig:
    cfg = composed("data=folder", *words)
    assert pretrained.fill_in(cfg, OWN)
    return cfg


def test_without_published_weights_the_keys_have_their_usual_values() -> None:
    assert values(composed("data=folder")) == USUAL


def test_keys_that_nobody_sets_have_the_weights_values() -> None:
    assert pretrained.FOLLOWS.keys() == USUAL.keys()
    assert values(filled()) == {key: OWN[name] for key, name in pretrained.FOLLOWS.items()}


@pytest.mark.parametrize("name", GROUPS["augment"])
def test_every_augmentation_resizes_with_the_weights_interpolation(name: str) -> None:
    cfg = filled(f"augment={name}")
    assert {cfg.augment[split].crop.interpolation for split in ("train", "eval")} == {"bicubic"}


@pytest.mark.parametrize(
    ("data", "size"), [("digits", 96), ("digits_multilabel", 96), ("cifar10", 96), ("imagenet", 96), ("coco", 448)]
)
def test_small_pictures_are_enlarged_for_the_weights_but_coco_keeps_its_size(data: str, size: int) -> None:
    assert filled(f"data={data}").data.image_size == size


@pytest.mark.parametrize("key", USUAL)
def test_a_typed_value_wins_even_if_it_is_the_usual_one(key: str) -> None:
    text = str(USUAL[key]).replace(" ", "")
    assert values(filled(f"{key}={text}"))[key] == USUAL[key]


def test_the_value_of_an_experiment_wins() -> None:
    cfg = filled("experiment=coco_asl")
    assert (cfg.data.image_size, cfg.preprocess.mean) == (448, [0.0, 0.0, 0.0])
    assert cfg.augment.eval.crop.interpolation == "bicubic"


def test_with_a_typed_image_size_evaluations_have_the_same_and_the_crop_ratio_is_the_weights() -> None:
    cfg = filled("data.image_size=64")
    assert (cfg.data.eval_image_size, cfg.augment.eval.crop.resize) == (64, 80)  # 64 * 150 / 120


def test_the_log_lists_what_is_taken_and_what_is_not() -> None:
    taken, kept = (pretrained.fill_in(composed("data=folder", "data.image_size=64", "augment=crop"), OWN) or "").split(
        "\n"
    )
    assert taken == (
        "taken: augment.train.crop.interpolation=bicubic, augment.eval.crop.interpolation=bicubic, "
        "preprocess.mean=[0.5, 0.4, 0.3], preprocess.std=[0.1, 0.2, 0.3]"
    )
    assert kept == (
        "not taken: data.image_size=64 (typed or set by a yaml; the weights have 96), data.eval_image_size=64 "
        "(follows the image size; the weights have 120), augment.eval.crop.resize=64 (typed or set by a yaml; the "
        "weights have 150)"
    )


def test_a_saved_run_keeps_the_values_of_its_first_start() -> None:
    again = DictConfig(saved.to_save(filled("data.image_size=64")))
    before = values(again)
    assert pretrained.fill_in(again, OWN | {"mean": [0.0, 0.0, 0.0]}) is None
    assert values(again) == before


def test_a_run_of_an_earlier_version_stays_as_it_is() -> None:
    cfg = composed("data=folder")
    del cfg.pretrained
    assert pretrained.fill_in(cfg, OWN) is None
    assert values(cfg) == USUAL  # what a new group of conf/ refers to has a value in such a run


def test_growing_images_are_compared_with_the_weights_size_once_it_is_known() -> None:
    words = ("data=folder", "data.progressive={start: 256, epochs: 3}", "model=torchvision", "model.weights=DEFAULT")
    cfg = composed(*words)
    check_progressive(cfg)
    pretrained.fill_in(cfg, OWN | {"image_size": 384})
    check_progressive(cfg)
    cfg.pretrained.image_size = 96
    with pytest.raises(ValueError, match=r"start=256 must be below data\.image_size=96"):
        check_progressive(cfg)
    with pytest.raises(ValueError, match=r"start=256 must be below data\.image_size=224"):
        check_progressive(composed(*words, "data.image_size=224"))
