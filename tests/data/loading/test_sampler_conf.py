"""The sampler config group: its key is data.sampler, a resumed run keeps it, and evaluation does not need it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conf_groups import GROUPS, composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fovea.cli.paths import make_absolute
from fovea.config import saved
from fovea.config.check import check
from fovea.data.index import Index
from fovea.data.loading.samplers import Shuffled

OURS = {"class_balanced": [], "repeated_augmentation": [], "shuffled": [], "weighted": ["data.sampler.power=0.5"]}


def saved_run(*overrides: str) -> dict[str, Any]:
    config = OmegaConf.to_container(composed(*overrides))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def sampler_of(*overrides: str) -> Any:
    index = Index([f"{n}.png" for n in range(30)], torch.arange(30) % 3)
    return instantiate(composed(*overrides).data.sampler, _convert_="all")(index, ["0", "1", "2"])


@pytest.mark.parametrize("name", GROUPS["sampler"])
def test_every_sampler_draws_an_epoch_or_names_the_option_it_needs(name: str) -> None:
    try:
        sampler = sampler_of(f"sampler={name}", *OURS.get(name, []))
    except ValueError as error:  # weighted needs weights
        if name in OURS or "data.sampler." not in str(error):
            raise
        return
    drawn = sampler.draw(seed=0, epoch=0)
    assert len(drawn) == len(sampler) > 0
    assert min(drawn) >= 0
    assert max(drawn) < 30


@pytest.mark.parametrize("name", OURS)
def test_an_epoch_is_as_long_as_the_data(name: str) -> None:
    assert len(sampler_of(f"sampler={name}", *OURS[name])) == 30


def test_the_default_is_shuffling() -> None:
    assert isinstance(sampler_of(), Shuffled)


def test_sampler_options_are_set_below_data_sampler() -> None:
    assert len(sampler_of("sampler=class_balanced", "data.sampler.samples=12")) == 12
    excluding = sampler_of("sampler=weighted", "data.sampler.class_weights={0: 1, 1: 0, 2: 0.0}")
    assert set((excluding.draw(0, 0) % 3).tolist()) == {0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.sampler.samples=0", "data.sampler.samples=0"),
        ("data.sampler.power=-1", "data.sampler.power=-1"),
        ("data.sampler.class_weights={a: -1}", "data.sampler.class_weights.a=-1"),
        ("data.sampler.file=not/there.csv", "data.sampler.file=not/there.csv: there is no such file"),
    ],
)
def test_an_invalid_option_is_an_error_before_data_are_read(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(composed("sampler=weighted", override), "train")


@pytest.mark.parametrize("override", ["sampler=class_balanced", "data.sampler.samples=12"])
def test_resume_refuses_another_sampler(override: str, invoke: Callable[..., Any], trained: Path) -> None:
    done = invoke("train", f"resume={trained}", override)
    assert done.code == 2
    assert "sampler" in done.err


def test_a_run_resumed_on_other_data_keeps_its_sampler() -> None:
    base = saved_run("sampler=class_balanced", "data.sampler.samples=12")
    other = saved.with_groups(base, OverridesParser.create().parse_overrides(["data=cifar10"]))
    assert other["data"]["read"]["_target_"] == "fovea.data.sources.folder.read_folder"
    assert other["data"]["sampler"] == base["data"]["sampler"]


@pytest.mark.parametrize("replaced", [[], ["data=cifar10"]])
def test_evaluation_does_not_need_the_samplers_files(replaced: list[str]) -> None:
    base = saved_run("sampler=weighted", "data.sampler.file=gone.csv")
    saved.forget_limits(base)
    config = saved.with_groups(base, OverridesParser.create().parse_overrides(replaced))
    assert "gone.csv" not in yaml.safe_dump(config)
    check(OmegaConf.create(config | {"run_dir": "run"}), "evaluate")


def test_the_path_of_a_weights_file_is_made_absolute(tmp_path: Path) -> None:
    cfg = composed("sampler=weighted", "data.sampler.file=weights.csv")
    make_absolute(cfg, tmp_path)
    assert cfg.data.sampler.file == str(tmp_path / "weights.csv")
