"""A checkpoint of another run is used only where its weights, or its whole state, mean the same."""

import copy
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conf_groups import composed
from helpers import SMALL
from omegaconf import DictConfig

from fovea.config import saved
from fovea.config.checkpoint_config import check_to_evaluate, check_to_train

Invoke = Callable[..., tuple[int, str, str]]
Config = dict[str, Any]


@pytest.fixture
def cfg() -> DictConfig:
    return composed("data=folder", "data.root=photos", "model=torchvision").copy()


@pytest.fixture
def config(cfg: DictConfig) -> Config:
    return saved.plain(cfg)


@pytest.fixture
def run(cfg: DictConfig, tmp_path: Path) -> Path:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    saved.save(cfg, tmp_path / "run")
    return tmp_path / "run"


def changed(config: Config, place: str, value: Any) -> Config:
    """The config with another value of a dotted key."""
    new = copy.deepcopy(config)
    *sections, key = place.split(".")
    node = new
    for section in sections:
        node = node[section]
    node[key] = value
    return new


OTHERS = [
    ("class_names", list("bacdefg"), "class_names: ['b', 'a', 'c', 'd', 'e', 'f', 'g'] in the checkpoint, ['a', 'b', "),
    ("model.name", "resnet34", "model.name: resnet34 in the checkpoint, resnet18 here"),
    (
        "preprocess.std",
        [0.5, 0.5, 0.5],
        "preprocess.std: [0.5, 0.5, 0.5] in the checkpoint, [0.229, 0.224, ",
    ),
    ("cosine_scale", 30.0, "cosine_scale: 30.0 in the checkpoint, None here"),
]


@pytest.mark.parametrize(("key", "value", "said"), OTHERS)
def test_weights_of_other_classes_another_network_or_other_preprocessing_are_refused(
    config: Config, run: Path, tmp_path: Path, key: str, value: Any, said: str
) -> None:
    file, stored = tmp_path / "other.ckpt", changed(config, key, value) | {"run_dir": "/runs/other"}
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        check_to_evaluate(file, stored, config, run)
    assert str(error.value).endswith("run=<its run folder>, which was /runs/other in its training")
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        check_to_train(file, stored, config)
    assert str(error.value).endswith(f"weights={file}")


def test_a_checkpoint_in_a_run_folder_is_to_be_evaluated_with_that_run(
    config: Config, run: Path, tmp_path: Path
) -> None:
    saved.save(DictConfig(config), tmp_path)
    file = tmp_path / "checkpoints" / "best.ckpt"
    with pytest.raises(ValueError, match=f"Use the config of its own run: run={re.escape(str(file))}$"):
        check_to_evaluate(file, changed(config, "model.name", "resnet34"), config, run)


def test_of_many_classes_the_first_that_differs_is_named(config: Config, tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(100)]
    config = changed(config, "class_names", names)
    with pytest.raises(ValueError, match=r"class_names\[40\]: x in the checkpoint, class 40 here"):
        check_to_train(tmp_path / "a.ckpt", changed(config, "class_names", [*names[:40], "x", *names[41:]]), config)
    with pytest.raises(ValueError, match="class_names: 90 values in the checkpoint, 100 here"):
        check_to_train(tmp_path / "a.ckpt", changed(config, "class_names", names[:90]), config)


def test_values_that_were_typed_for_an_evaluation_are_accepted_with_the_runs_own_checkpoints(
    config: Config, run: Path, tmp_path: Path
) -> None:
    typed = changed(config, "preprocess.mean", [0, 0, 0])
    typed["data"]["eval_image_size"] = 32
    check_to_evaluate(run / "checkpoints" / "last.ckpt", config, typed, run)
    check_to_evaluate(tmp_path / "a copy.ckpt", config, typed, run)
    check_to_evaluate(tmp_path / "of another run.ckpt", changed(config, "preprocess.mean", [0, 0, 0]), typed, run)


def test_what_one_config_lacks_files_of_weights_and_spellings_of_a_number_are_not_compared(
    config: Config, run: Path, tmp_path: Path
) -> None:
    stored = changed(config, "model.weights", "DEFAULT") | {"preprocess": {"mean": [1.0, 0.0, 0.5]}}
    stored = changed(stored, "model.weights_min_share", 0.9)
    del stored["cosine_scale"]
    config = changed(config, "preprocess.mean", [1, 0, 0.5])
    config["data"]["root"] = "/elsewhere"
    for content in (stored, {}, {"model": "of another project"}):
        check_to_evaluate(tmp_path / "a.ckpt", content, config, run)
        check_to_train(tmp_path / "a.ckpt", content, config)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optimizer._target_", "torch.optim.AdamW", "optimizer._target_: torch.optim.AdamW in the checkpoint"),
        ("optimizer.nesterov", True, "optimizer.nesterov: True in the checkpoint, False here"),
        ("optimizer.fused", True, "optimizer.fused: True in the checkpoint, None here"),
        ("parameter_groups._target_", "fovea.optim.parameter_groups.head_faster", "parameter_groups._target_: "),
        ("freeze", "backbone", "freeze: backbone in the checkpoint, None here"),
    ],
)
def test_a_training_is_not_continued_with_an_optimizer_that_the_state_does_not_fit(
    config: Config, run: Path, tmp_path: Path, key: str, value: Any, said: str
) -> None:
    file, stored = tmp_path / "an other.ckpt", changed(config, key, value)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        check_to_train(file, stored, config)
    assert "plateau" not in str(error.value)
    assert str(error.value).endswith(f"a new optimizer: 'weights={file}'")
    check_to_evaluate(file, stored, config, run)


RATES = [("optimizer.lr", 0.3), ("optimizer.weight_decay", 0.1), ("lr_scaling", "linear"), ("lr_reference_batch", 512)]


@pytest.mark.parametrize(("key", "value"), RATES)
def test_other_rates_are_refused_only_with_a_plateau_schedule_which_would_not_use_them(
    config: Config, tmp_path: Path, key: str, value: Any
) -> None:
    stored = changed(config, key, value)
    check_to_train(tmp_path / "other.ckpt", stored, config)
    plateau = changed(config, "scheduler._target_", "torch.optim.lr_scheduler.ReduceLROnPlateau")
    with pytest.raises(ValueError, match=rf"{key}: {value} in the checkpoint, (?s:.*)A plateau schedule goes on with"):
        check_to_train(tmp_path / "other.ckpt", stored, plateau)


@pytest.mark.parametrize(
    "key", ["image_size", "dropout", "drop_path_rate", "stochastic_depth_prob", "weights_min_share"]
)
def test_weights_fit_whatever_the_image_size_and_the_dropout_of_their_training(
    config: Config, run: Path, tmp_path: Path, key: str
) -> None:
    stored, config = changed(config, f"model.{key}", 0.1), changed(config, f"model.{key}", 0.2)
    check_to_train(tmp_path / "other.ckpt", stored, config)
    check_to_evaluate(tmp_path / "other.ckpt", stored, config, run)


@pytest.mark.parametrize("key", ["scheduler", "warmup", "data", "trainer", "loss", "augment", "callbacks", "seed"])
def test_a_training_may_be_continued_with_another_schedule_and_other_data(
    config: Config, tmp_path: Path, key: str
) -> None:
    check_to_train(tmp_path / "other.ckpt", config | {key: {"a": 1}, "num_classes": None, "pretrained": {}}, config)


@pytest.fixture
def other(trained: Path, tmp_path: Path) -> Path:
    """A checkpoint of a run like `trained`, whose classes were in another order."""
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    content["config"]["class_names"].reverse()
    torch.save(content, tmp_path / "other.ckpt")
    return tmp_path / "other.ckpt"


@pytest.mark.parametrize("program", ["evaluate", "predict", "train"])
def test_programs_refuse_a_checkpoint_of_other_classes(
    invoke: Invoke, trained: Path, other: Path, folder: Path, program: str
) -> None:
    words = {"evaluate": [f"run={trained}"], "predict": [f"run={trained}", f"source={folder}"]}
    words["train"] = ["data=folder", f"data.root={folder}", *SMALL]
    code, _, err = invoke(program, *words[program], f"ckpt_path={other}")
    assert code == 2
    assert "class_names: ['owl', 'dog', 'cat'] in the checkpoint, ['cat', 'dog', 'owl'] here" in err
    assert len(err.strip().splitlines()) <= 8


@pytest.mark.slow
def test_a_training_goes_on_from_another_runs_state_with_its_own_rate(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path
) -> None:
    file = trained / "checkpoints" / "last.ckpt"
    words = (
        "data=folder",
        f"data.root={folder}",
        *SMALL,
        "trainer.max_epochs=2",
        "optimizer.lr=0.3",
        "trainer.log_every_n_steps=1",
    )
    run = tmp_path / "second"
    code, out, err = invoke("train", *words, f"ckpt_path={file}", f"hydra.run.dir={run}")
    assert code == 0, err
    assert "epoch 2" in out
    rows = csv.DictReader((run / "metrics.csv").open())
    rates = [float(row["lr-SGD/pg1"]) for row in rows if row.get("lr-SGD/pg1")]
    assert 0.1 < max(rates) < 0.3  # the second half of a cosine of 0.3


@pytest.mark.slow
def test_a_network_for_another_image_size_whose_weights_have_other_shapes_is_refused(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    vit = ("model=timm", "model.name=test_vit", "data.image_size=32", "data.eval_image_size=32")
    words = ("data=folder", f"data.root={folder}", *SMALL, *vit)
    assert invoke("train", *words, f"hydra.run.dir={tmp_path / 'first'}")[0] == 0
    file = tmp_path / "first" / "checkpoints" / "last.ckpt"
    code, _, err = invoke("train", *words, "data.image_size=48", "trainer.max_epochs=2", f"ckpt_path={file}")
    assert code == 2
    assert "network.pos_embed is (1, 5, 64) in the checkpoint and (1, 10, 64) in this network" in err
