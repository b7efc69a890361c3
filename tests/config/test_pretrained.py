"""The keys that follow published weights have the weights' values, unless a command or a yaml sets them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conf_groups import GROUPS, composed
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from fovea import build
from fovea.cli.command import read_command
from fovea.config import pretrained, saved
from fovea.config.check import check, check_growing_images
from fovea.data.progressive import Progression
from fovea.models.preprocessing import Preprocessing
from fovea.parts import network_parts

OWN: dict[str, Any] = {
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


@pytest.mark.parametrize(
    ("words", "kept"),
    [((), True), (("seed=1",), True), (("model.name=vit_b_16",), False), (("model.weights=x",), False)],
)
def test_a_rerun_with_other_weights_has_their_preprocessing(tmp_path: Path, words: tuple[str, ...], kept: bool) -> None:
    cfg = filled("model=torchvision", "model.weights=DEFAULT")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved.to_save(cfg)))
    (tmp_path / "results.json").write_text('{"status": "finished"}')
    read_command("train", ("rerun",), [f"rerun='{tmp_path}'", *words])
    again = ConfigStore.instance().load("run_config.yaml").node
    assert again.pretrained == (OWN if kept else dict.fromkeys(OWN))


def test_a_run_of_an_earlier_version_stays_as_it_is() -> None:
    cfg = composed("data=folder")
    del cfg.pretrained
    assert pretrained.fill_in(cfg, OWN) is None
    assert values(cfg) == USUAL  # what a new group of conf/ refers to has a value in such a run


def test_growing_images_are_compared_with_the_weights_size_once_it_is_known() -> None:
    words = (f"data.root='{Path.cwd()}'", "data.progressive={start: 256, epochs: 3}")
    network = ("model=torchvision", "model.weights=DEFAULT")
    cfg = composed("data=folder", *words, *network)
    check(cfg, "train")
    pretrained.fill_in(cfg, OWN | {"image_size": 384})
    check_growing_images(cfg)
    cfg.pretrained.image_size = 96
    with pytest.raises(ValueError, match=r"start=256 must be below data\.image_size=96"):
        check_growing_images(cfg)
    with pytest.raises(ValueError, match=r"start=256 must be below data\.image_size=224"):
        check(composed("data=folder", *words, *network, "data.image_size=224"), "train")


@pytest.mark.parametrize(
    ("start", "batch", "own"), [(256, None, None), (256, None, 96), (None, None, 96), (None, 4, None), (64, None, 96)]
)
def test_images_that_start_with_their_full_size_are_refused_when_it_is_known_and_only_these(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start: int | None, batch: int | None, own: int | None
) -> None:
    """find_lr.py and find_batch_size.py leave data.progressive.epochs alone, without a batch size."""
    found = Preprocessing(**OWN) if own else None
    monkeypatch.setattr(network_parts, "preprocessing", lambda node: found)
    cfg = composed("data=folder", f"data.root='{folder}'", "model=torchvision", "model.weights=a.pth")
    cfg.task = cfg.num_classes = cfg.class_names = None
    cfg.data.progressive.update({"start": start, "batch_size": batch, "epochs": 3})
    if start == 256:
        with pytest.raises(ValueError, match=rf"start=256 must be below data\.image_size={own or 224}"):
            build.datamodule(cfg)
    else:
        assert build.datamodule(cfg).growing == (Progression(64, 96, 3, 32) if start else None)
