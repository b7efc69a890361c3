"""Errors for other programs' options, keys and names suggest what to type."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fovea.cli.errors import suggest
from fovea.cli.errors.suggest import aliased, near_options, refuse_options, replacements
from fovea.config import saved
from fovea.config.resolvers import CONF, register_resolvers

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("--lr 0.1", "optimizer.lr=0.1"),
        ("--lr=0.1 seed=3 --epochs 10 -b 64", "optimizer.lr=0.1 trainer.max_epochs=10 data.batch_size=64"),
        ("--learning-rate 1e-3 --batch-size 64", "optimizer.lr=1e-3 data.batch_size=64"),
        ("--resume last", "resume=last"),
        ("--epocs 3", "trainer.max_epochs=3"),
        ("--optimizer.lr 0.1", "optimizer.lr=0.1"),
        ("--optimizer AdamW --loss ce", "optimizer=adamw loss=cross_entropy"),
        ("--model resnet50 --pretrained", "model=torchvision model.name=resnet50 model.weights=DEFAULT"),
        ("--data-dir ./photos --seed 1", "data=folder data.root=./photos seed=1"),
        ("--epochs -m", "trainer.max_epochs=<value>"),
        ("--nothing-like-it 3", "<key>=3 (--help lists the keys)"),
    ],
)
def test_the_error_for_an_option_with_dashes_names_the_override(typed: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match="values are typed as key=value, without dashes") as caught:
        refuse_options(typed.split())
    assert str(caught.value).splitlines()[1:] == [f"Type: {suggestion}"]


@pytest.mark.parametrize("typed", ["-m seed=1", "--cfg job", "--info defaults", "a=-1", "~b", "--help", "--multirun"])
def test_switches_of_hydra_and_overrides_pass(typed: str) -> None:
    refuse_options(typed.split())


def test_the_error_for_a_key_of_other_programs_names_our_key() -> None:
    assert aliased(["lr=0.1", "seed=1", "epochs=10", "batch-size=3"]) == [
        "optimizer.lr=0.1",
        "trainer.max_epochs=10",
        "data.batch_size=3",
    ]


def test_every_alias_is_a_key_or_a_group() -> None:
    register_resolvers()
    config = OmegaConf.create(saved.composed("optimizer=sgd"))
    missing = object()
    for key in suggest.ALIASES:
        known = (CONF / key).is_dir() or OmegaConf.select(config, key, default=missing) is not missing
        assert known or key == "hydra.run.dir", key


@pytest.mark.parametrize(
    ("group", "option", "near"),
    [
        ("optimizer", "SGD", "sgd"),
        ("optimizer", "AdamW", "adamw"),
        ("loss", "ce", "cross_entropy"),
        ("loss", "CrossEntropyLoss", "cross_entropy"),
        ("loss", "BCEWithLogitsLoss", "bce"),
        ("scheduler", "OneCycleLR", "one_cycle"),
        ("scheduler", "CosineAnnealingLR", "cosine"),
        ("trainer", "GPU", "gpu"),
        ("model", "se-resnet", "se_resnet"),
    ],
)
def test_another_spelling_and_the_name_of_a_class_suggest_the_yaml(group: str, option: str, near: str) -> None:
    assert near_options(group, option)[0] == near


def test_a_networks_name_and_a_folder_suggest_two_overrides(tmp_path: Path) -> None:
    resnet = ["model=torchvision model.name=resnet18", "model=timm model.name=resnet18"]
    assert replacements("model", "resnet18") == replacements("model", "ResNet-18") == resnet
    tagged = "convnext_tiny.fb_in22k"
    assert (
        replacements("model", tagged) == replacements("model", f"timm/{tagged}") == [f"model=timm model.name={tagged}"]
    )
    assert replacements("model", "se_resnett") == replacements("data", "cifar100") == []
    assert replacements("data", "./my photos") == ["data=folder data.root='./my photos'"]
    assert replacements("data", str(tmp_path)) == [f"data=folder data.root={tmp_path}"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--lr 0.1", "Type: optimizer.lr=0.1"),
        ("lr=0.1 epochs=3", "lr: there is no such key. Type optimizer.lr=0.1 trainer.max_epochs=3"),
        ("optimizer.momentum=0.9", "no such key. These have it: optimizer=lars, optimizer=muon, optimizer=rmsprop,"),
        ("model=resnet18", "Type model=torchvision model.name=resnet18 or model=timm model.name=resnet18"),
        ("optimizer=radam", "optimizer=adam optimizer._target_=torch.optim.RAdam"),
        ("scheduler=constant_lr", "Did you mean constant?"),
        ("scheduler=multiplicative", "scheduler=exponential"),
        ("data=./photos", "Type data=folder data.root=./photos"),
        ("hydra/launcher=ray", "hydra/launcher=ray is a plugin of Hydra that is not installed: pip install hydra-ray-"),
        ("hydra/launcher=nope", "Plugins to install: joblib, ray"),
    ],
)
def test_an_error_in_the_command_line_has_few_lines_and_makes_no_folder(
    invoke: Invoke, runs: Callable[[], list[Path]], typed: str, said: str
) -> None:
    code, out, err = invoke("train", *typed.split())
    assert code == 2
    assert said in err
    assert len((out + err).splitlines()) <= 5
    assert not re.search("Traceback", err)
    assert not runs()


def test_a_sweep_of_which_no_job_can_be_composed_leaves_no_folder(invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke("train", "-m", "lr=0.1,0.2")
    assert code == 2
    assert "error: lr: there is no such key. Type optimizer.lr=0.1,0.2" in err
    assert "jobs" not in out
    assert not list((tmp_path / "runs").rglob("sweep*"))
