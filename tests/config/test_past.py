from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from fovea.config import past, saved
from fovea.config.resolvers import register_resolvers

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.image_size=24", "data.image_size: 16 then, 24 now"),
        ("data.batch_size=4", "force=true changes it from here on"),
        ("loss.label_smoothing=0.2", "loss.label_smoothing: 0.0 then, 0.2 now"),
        ("augment=none", "augment"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches: 1 then, 2 now"),
        ("seed=3", "seed: 0 then, 3 now"),
        ("~optimizer.momentum", "optimizer.momentum can't be changed by resume="),
        ("model.width=99", "weights="),
        ("sampler=class_balanced", "sampler= can't be chosen for a trained run"),
    ],
)
def test_resuming_refuses_what_would_change_the_past(invoke: Invoke, trained: Path, override: str, said: str) -> None:
    code, _, err = invoke("train", f"resume={trained}", override)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("override", ["optimizer.lr=0.5", "model.width=32"])
def test_what_the_checkpoint_brings_along_can_not_be_forced(invoke: Invoke, trained: Path, override: str) -> None:
    code, _, err = invoke("train", f"resume={trained}", override, "force=true")
    assert code == 2
    assert "can't be changed by resume=" in err


def test_what_is_typed_as_it_was_is_no_change(invoke: Invoke, trained: Path, trained_once: tuple[Path, Path]) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    command = ["data=folder", f"data.root={trained_once[1]}", "model=se_resnet_small", "optimizer=sgd", "seed=0"]
    values = [
        "data.image_size=16",
        "data.batch_size=8",
        f"optimizer.lr={config['optimizer']['lr']}",
        "sampler=shuffled",
    ]
    code, out, err = invoke("train", f"resume={trained}", *command, *values, "trainer.max_epochs=2")
    assert code == 0, err
    assert "force" not in out


def test_force_is_for_resuming_alone(invoke: Invoke) -> None:
    code, _, err = invoke("train", "force=true")
    assert code == 2
    assert "force: there is no such key" in err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, of which the config says where its data were and how they were divided."""
    register_resolvers()
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    read = {"_target_": "fovea.data.folder.read_folder", "_partial_": True, "cache": None}
    data = {"root": str(tmp_path / "data"), "store": None, "read": read, "image_size": 16}
    data |= {"val_fraction": 0.2, "test_fraction": 0.3, "split_seed": 7}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {}, "data": data}))
    return tmp_path


def divided(run: Path, *words: str, **data: object) -> tuple[float, float, int]:
    """What is carved out where `data` replaces the run's own and `words` were typed."""
    cfg = DictConfig(saved.load("", run))
    cfg.data.update(data)
    past.divide_as_trained(cfg, run, words)
    return cfg.data.val_fraction, cfg.data.test_fraction, cfg.data.split_seed


def test_a_runs_own_data_are_divided_as_trained_by_whatever_way_they_are_named(run: Path) -> None:
    assert divided(run) == (0.2, 0.3, 7)
    again = {"val_fraction": 0.1, "test_fraction": 0.0, "split_seed": 0}  # data=folder brings its own
    assert divided(run, "data=folder", root=str(run / "link"), image_size=32, **again) == (0.2, 0.3, 7)
    read = {"_target_": "fovea.data.folder.read_folder", "_partial_": True, "cache": "/other", "layout": "auto"}
    assert divided(run, read=read, **again) == (0.2, 0.3, 7)


def test_other_data_are_divided_only_where_a_fraction_is_typed(run: Path) -> None:
    assert divided(run, root="/elsewhere") == (0.0, 0.0, 0)
    assert divided(run, store="/packed") == (0.0, 0.0, 0)
    typed = ("data.test_fraction=0.5", "data.split_seed=2")
    assert divided(run, *typed, root="/elsewhere", test_fraction=0.5, split_seed=2) == (0.0, 0.5, 2)
