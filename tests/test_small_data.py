"""The default batch size is lowered for small data, and a run keeps its batch size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conf_groups import composed
from helpers import make_folder
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from tasks import make_task, make_trainer

from fovea import build
from fovea.cli.command import read_command
from fovea.config import saved
from fovea.config.resolvers import register_resolvers


def config(root: Path, *overrides: str) -> DictConfig:
    cfg = composed("data=folder", f"data.root={root}", "data.read.cache=null", *overrides)
    cfg.update(class_names=None, num_classes=None)
    return cfg


@pytest.mark.parametrize("usual", [64, 32])
def test_the_batch_is_halved_until_an_epoch_has_eight_batches_but_not_below_four(usual: int) -> None:
    register_resolvers()
    for images in range(4, 2000, 3):
        halves = [usual // 2**n for n in range(8) if usual // 2**n >= 1]
        enough = [half for half in halves if images // half >= 8 and half >= 4]
        smallest = next(half for half in halves if half <= 4 and half <= images)
        node = OmegaConf.create({"batch": f"${{batch_for:{usual},{images}}}"})
        assert node.batch == max(enough, default=smallest), images


def test_a_lowered_batch_size_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(make_folder(tmp_path / "few" / "train", images=40).parent, "data.val_fraction=0.1")
    data = build.datamodule(cfg)
    images = len(data.splits["train"])
    assert data.batch_size == cfg.data.batch_size == 8
    assert cfg.total_steps == cfg.trainer.max_epochs * (images // 8)
    assert f"data.batch_size is 8 instead of 64, so that an epoch has {images // 8} batches" in caplog.text


def test_all_folds_have_the_batch_size_of_the_smallest_one(tmp_path: Path) -> None:
    """An epoch has 63 or 64 images, and a batch of 8 needs 64."""
    root, batch = make_folder(tmp_path / "all", ("a", "b"), 44), "data.batch_size='${batch_for:8,${epoch_images}}'"
    words = ("data.folds=5", "data.val_fraction=0.1", batch)
    sizes = {}
    for fold in range(5):
        cfg = config(root, *words, f"data.fold={fold}")
        sizes[fold] = (len(build.datamodule(cfg).splits["train"]), cfg.data.batch_size)
    assert {images for images, _ in sizes.values()} == {63, 64}
    assert {size for _, size in sizes.values()} == {4}


def test_a_given_batch_size_is_not_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(make_folder(tmp_path / "few" / "train", images=12).parent, "data.batch_size=16")
    data = build.datamodule(cfg)
    assert (data.batch_size, cfg.data.batch_size) == (16, 16)
    assert "instead of" not in caplog.text


def test_a_run_keeps_its_batch_size_when_resumed_on_more_images_or_evaluated(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "few" / "train", images=40).parent
    cfg = config(root)
    assert build.datamodule(cfg).batch_size == 8
    cfg.run_dir = str(tmp_path)
    saved.save(cfg, tmp_path)
    make_folder(root / "train", images=200)
    for to_train in (True, False):
        loaded = OmegaConf.create(saved.load("", tmp_path))
        assert build.datamodule(loaded, to_train).batch_size == loaded.data.batch_size == 8


def test_the_batch_size_follows_the_length_of_the_samplers_epoch(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "few" / "train", images=40).parent
    assert build.datamodule(config(root, "sampler=class_balanced", "data.sampler.samples=60")).batch_size == 4


def test_the_messages_about_few_images_name_the_batch_size(invoke: Callable[..., Any], tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("max_steps", "warned"), [(41, True), (40, False), (-1, False)])
def test_max_steps_beyond_the_last_epoch_gives_a_warning(
    max_steps: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(tmp_path / "few" / "train", images=12).parent
    cfg = config(folder, "data.batch_size=8", "trainer.max_epochs=10")
    cfg.trainer.max_steps = max_steps
    data, task = build.datamodule(cfg), make_task()
    caplog.clear()
    build.check_batch(cfg, data, task, make_trainer())
    assert ("ends the run after 40 steps" in caplog.text) == warned


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ((), True),
        (("seed=1",), True),
        (("data.limit_per_class=5",), False),
        (("data=folder",), False),
    ],
)
def test_a_rerun_with_other_data_counts_their_images_again(tmp_path: Path, words: tuple[str, ...], kept: bool) -> None:
    """Class weights, margins and log frequencies of the loss follow these counts."""
    cfg = config(make_folder(tmp_path / "few" / "train", images=40).parent)
    build.datamodule(cfg)
    cfg.run_dir = str(tmp_path)
    saved.save(cfg, tmp_path)
    (tmp_path / "results.json").write_text('{"status": "finished"}')
    read_command("train", ("rerun",), [f"rerun='{tmp_path}'", *words])
    again = ConfigStore.instance().load("run_config.yaml").node
    expected = (cfg.class_counts, cfg.epoch_images) if kept else (None, None)
    assert (again.class_counts, again.epoch_images) == expected
