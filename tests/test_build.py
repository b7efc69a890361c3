"""Parts are found by their class, whatever their key and place in the config."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from conf_groups import composed
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig, OmegaConf
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor, nn
from torch.optim import LBFGS

from fovea import build
from fovea.callbacks.ema import EMA
from fovea.callbacks.epoch_log import EpochLog
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop, PaddedCrop
from fovea.parts import trainer_parts
from fovea.runs import run_folder
from fovea.training.save_best import SaveBest
from fovea.training.save_last import SaveLast


class OneSize(nn.Module):
    """A network for images of 16 pixels."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 16, "16 pixels expected"
        return images.flatten(1)[:, :7]


class MyEMA(EMA):
    pass


class MyLBFGS(LBFGS):
    pass


EMA_NODE = {"_target_": f"{MyEMA.__module__}.MyEMA", "decay": 0.5}
EPOCH_LOG = {"_target_": "fovea.callbacks.epoch_log.EpochLog"}


def config(monitor: str = "val/accuracy", **callbacks: Any) -> DictConfig:
    return DictConfig({"monitor": monitor, "metrics": {"accuracy": {}}, "callbacks": callbacks})


def best(tmp_path: Path, name: str = "checkpoints") -> dict[str, Any]:
    target = "fovea.training.save_best.SaveBest"
    return {"_target_": target, "folder": str(tmp_path / name), "monitor": "val/accuracy", "mode": "max"}


def kinds(callbacks: list[Callback]) -> list[str]:
    return [type(callback).__name__ for callback in callbacks]


def test_an_evaluation_builds_the_averages_whatever_they_are_called_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing = {"_target_": "a_package_that_is_not_installed.Callback"}
    cfg = config(ema=EPOCH_LOG, smooth=EMA_NODE, other=missing, left_out=None)
    assert kinds(trainer_parts.averages(cfg)) == ["MyEMA"]
    assert "callbacks.other is left out" in caplog.text


def test_a_network_of_one_size_is_refused_for_the_images_that_it_gets() -> None:
    cfg, task = composed(), make_task(network=OneSize())
    for size, eval_size, to_train, key in (
        (16, 24, True, "data.eval_image_size=24"),
        (16, 24, False, "data.eval_image_size=24"),
        (24, 16, True, "data.image_size=24"),
    ):
        cfg.data.image_size, cfg.data.eval_image_size = size, eval_size
        with pytest.raises(ValueError, match=f"16 pixels expected\nchange {key} or the network"):
            build.check_network(cfg, task, to_train)
    cfg.data.image_size, cfg.data.eval_image_size = 24, 16
    build.check_network(cfg, task, to_train=False)


@pytest.mark.parametrize(
    ("tta", "views", "size"), [("none", 1, 16), ("flip", 2, 16), ("flip_shift", 6, 16), ("flip_five_crop", 10, 18)]
)
def test_test_time_augmentation_gives_the_network_views_of_the_evaluations_size(
    tta: str, views: int, size: int
) -> None:
    cfg, task, augment = composed(), make_task(network=OneSize()), Augment(CenterCrop(16, 18))
    seen: list[Tensor] = []
    task.network.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    OmegaConf.update(cfg, "tta", tta, force_add=True)
    widened = build.average_views(cfg, task, augment)
    assert (widened.crop.size, augment.crop.size) == (size, 16)
    task.averaged_views(task.network)(torch.zeros(2, 3, size, size))
    assert [len(images) for images in seen] == [2] * views


@pytest.mark.parametrize(("kind", "activation"), [("multiclass", nn.Softmax(1)), ("multilabel", nn.Sigmoid())])
def test_the_views_probabilities_are_those_of_the_datas_task(
    kind: Literal["multiclass", "multilabel"], activation: nn.Module
) -> None:
    cfg, task, images = composed(), make_task(network=OneSize(), task=kind), torch.randn(2, 3, 16, 16)
    cfg.task = kind
    OmegaConf.update(cfg, "tta", "flip", force_add=True)
    build.average_views(cfg, task, Augment(CenterCrop(16, 18)))
    expected = (activation(task.network(images)) + activation(task.network(images.flip(-1)))) / 2
    torch.testing.assert_close(activation(task.averaged_views(task.network)(images)), expected)


def test_five_crops_of_an_image_without_a_border_are_refused() -> None:
    cfg = composed()
    OmegaConf.update(cfg, "tta", "five_crop", force_add=True)
    with pytest.raises(ValueError, match=r"size=16 and resize=16: type augment\.eval\.crop\.resize=18, or tta=flip"):
        build.average_views(cfg, make_task(), Augment(CenterCrop(16, 16)))
    with pytest.raises(ValueError, match=r"PaddedCrop has size=16 and resize=None"):
        build.average_views(cfg, make_task(), Augment(PaddedCrop(16)))


def test_figures_of_averaged_weights_can_be_monitored_where_a_callback_is_an_average() -> None:
    assert kinds(trainer_parts.callbacks(config("val/ema_accuracy", smooth=EMA_NODE))) == ["MyEMA"]
    swa = {"_target_": "fovea.callbacks.swa.SWA", "after_step": 1}
    assert kinds(trainer_parts.callbacks(config("val/swa_accuracy", ema=EMA_NODE, swa=swa))) == ["MyEMA", "SWA"]
    with pytest.raises(ValueError, match=r"monitor=val/swa_accuracy is not logged .*callbacks=\[default,swa\]"):
        trainer_parts.callbacks(config("val/swa_accuracy", smooth=EMA_NODE))
    with pytest.raises(ValueError, match=r"monitor=val/ema_accuracy is not logged without averaged weights"):
        trainer_parts.callbacks(config("val/ema_accuracy", ema=EPOCH_LOG))


def test_the_last_checkpoint_is_written_after_all_other_callbacks(tmp_path: Path) -> None:
    last = {"_target_": "fovea.training.save_last.SaveLast", "folder": str(tmp_path)}
    callbacks = trainer_parts.callbacks(config(a=last, b=best(tmp_path), c=EPOCH_LOG))
    assert kinds(callbacks) == ["SaveBest", "EpochLog", "SaveLast"]


def test_two_callbacks_that_would_write_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two of one, two would write .*checkpoints/best\.ckpt"):
        trainer_parts.callbacks(config(one=best(tmp_path), two=best(tmp_path)))
    with pytest.raises(ValueError, match="two of one, two would write the averaged weights"):
        trainer_parts.callbacks(config(one=EMA_NODE, two=EMA_NODE))
    assert len(trainer_parts.callbacks(config(one=best(tmp_path), two=best(tmp_path, "elsewhere")))) == 2


def test_an_optimizer_is_known_by_its_class() -> None:
    assert trainer_parts.builds(DictConfig({"_target_": f"{MyLBFGS.__module__}.MyLBFGS"}), LBFGS)
    assert not trainer_parts.builds(DictConfig({"_target_": "torch.optim.SGD"}), LBFGS)


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_checkpoint_is_the_monitors_whatever_other_callbacks_there_are(tmp_path: Path, order: int) -> None:
    mine = SaveBest(str(tmp_path / "checkpoints"), "val/accuracy", "max")
    others = [EpochLog(), ModelCheckpoint(tmp_path / "by_loss", monitor="val/loss"), SaveLast(str(tmp_path / "last"))]
    same = ModelCheckpoint(tmp_path / "three", monitor="val/accuracy", mode="max", save_top_k=3)
    trainer = make_trainer(*[*others, same, mine][::order], max_epochs=2, enable_checkpointing=True)
    trainer.fit(make_task(), datamodule=Data(make_batches(3), make_batches(2, seed=9)))
    found = run_folder.fit_results(trainer, "val/accuracy", {})["best"]
    assert found["checkpoint"] == "checkpoints/best.ckpt"
    assert mine.best_model_score is not None
    assert found["value"] == mine.best_model_score.item()
    assert run_folder.fit_results(trainer, "val/f1", {})["best"] is None


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("trainer.profiler=null", trainer_parts.NoProfiler),
        ("trainer.profiler=simple", SimpleProfiler),
        ("debug=profile", SimpleProfiler),
    ],
)
def test_the_profiler_is_a_name_a_node_or_none(tmp_path: Path, override: str, kind: type) -> None:
    cfg = composed(override, "trainer=cpu", "callbacks=[]", "logger=[]")
    cfg.run_dir = str(tmp_path)
    trainer: Any = build.trainer(cfg)
    assert type(trainer.profiler) is kind


def test_an_unknown_profiler_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="trainer.profiler=fast: there are simple, advanced, pytorch, xla"):
        trainer_parts.profiler("fast")
