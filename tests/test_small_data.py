"""The usual batch size is lowered for small data, and a run keeps what it had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conf_groups import composed
from helpers import make_folder
from omegaconf import DictConfig, OmegaConf
from tasks import make_task, make_trainer

from fovea import build
from fovea.config import saved
from fovea.config.resolvers import register_resolvers


def config(root: Path, *overrides: str) -> DictConfig:
    cfg = composed("data=folder", f"data.root={root}", "data.read.cache=null", *overrides)
    cfg.update(class_names=None, num_classes=None)
    return cfg


@pytest.mark.parametrize("usual", [64, 32])
def test_the_batch_is_the_largest_half_with_eight_batches_but_not_below_four(usual: int) -> None:
    register_resolvers()
    for images in range(4, 2000, 3):
        halves = [usual // 2**n for n in range(8) if usual // 2**n >= 1]
        enough = [half for half in halves if images // half >= 8 and half >= 4]
        smallest = next(half for half in halves if half <= 4 and half <= images)
        node = OmegaConf.create({"batch": f"${{batch_for:{usual},{images}}}"})
        assert node.batch == max(enough, default=smallest), images


def test_a_hundred_and_twenty_images_make_fifteen_batches_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(make_folder(tmp_path / "few" / "train", images=40).parent, "data.val_fraction=0.1")
    data = build.datamodule(cfg)
    images = len(data.splits["train"])
    assert data.batch_size == cfg.data.batch_size == 8
    assert cfg.total_steps == 10 * (images // 8)
    assert f"data.batch_size is 8 instead of 64, so that an epoch has {images // 8} batches" in caplog.text


def test_a_batch_size_that_is_typed_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(make_folder(tmp_path / "few" / "train", images=12).parent, "data.batch_size=16")
    data = build.datamodule(cfg)
    assert (data.batch_size, cfg.data.batch_size) == (16, 16)
    assert "instead of" not in caplog.text


def test_a_run_keeps_its_batch_when_it_is_resumed_on_more_images_or_evaluated(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "few" / "train", images=40).parent
    cfg = config(root)
    assert build.datamodule(cfg).batch_size == 8
    cfg.run_dir = str(tmp_path)
    saved.save(cfg, tmp_path)
    make_folder(root / "train", images=200)
    for to_train in (True, False):
        again = OmegaConf.create(saved.load("", tmp_path))
        assert build.datamodule(again, to_train).batch_size == again.data.batch_size == 8


def test_an_epoch_that_a_sampler_makes_shorter_has_smaller_batches(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "few" / "train", images=40).parent
    assert build.datamodule(config(root, "sampler=class_balanced", "data.sampler.samples=60")).batch_size == 4


def test_a_run_of_few_images_says_what_to_type(invoke: Callable[..., Any], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "few" / "train", images=12).parent
    words = ("data=folder", f"data.root={root}", "model=se_resnet_small", "data.image_size=16", "data.num_workers=0")
    code, _, err = invoke("train", *words, "data.batch_size=1")
    assert code == 2
    assert "data.batch_size=1 is one image on each of 1 devices" in err
    assert "Traceback" not in err
    code, out, _ = invoke("train", *words, "data.batch_size=20", "trainer.max_epochs=1")
    assert code == 0
    assert "the whole run has only 1 optimizer steps" in out
    assert "left out of each epoch" in out


@pytest.mark.parametrize(("max_steps", "said"), [(41, True), (40, False), (-1, False)])
def test_steps_that_the_epochs_do_not_reach_are_warned_about(
    max_steps: int, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config(make_folder(tmp_path / "few" / "train", images=12).parent, "data.batch_size=8")
    cfg.trainer.max_steps = max_steps
    data, task = build.datamodule(cfg), make_task()
    caplog.clear()
    build.check_batch(cfg, data, task, make_trainer())
    assert ("ends the run after 40 steps" in caplog.text) == said
