"""Every command of docs/ that trains composes, is accepted, and its parts are built."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from conf_groups import GROUPS, composed
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fovea import build, trainer_parts
from fovea.config import run_length
from fovea.config.check import check
from fovea.config.resolvers import CONF, PROJECT
from fovea.data.index import Index
from fovea.models.freeze import freeze
from fovea.models.se_resnet import SEResNet

DOCS = sorted((PROJECT / "docs").glob("*.md"))


def commands(file: Path) -> list[str]:
    """The lines of its bash blocks that start a program; lines that end with a backslash go on."""
    blocks = re.findall(r"^```bash\n(.*?)^```", file.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" # ")[0].strip() for line in lines if line.startswith("python src/")]


TRAIN = [command for file in DOCS for command in commands(file) if command.startswith("python src/train.py")]
NEW = [command for command in TRAIN if not re.search(r" (-m|resume=|rerun=)", command)]


@pytest.mark.parametrize("command", NEW)
def test_a_command_of_the_guides_is_accepted_and_its_parts_are_built(command: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    cfg = composed(*shlex.split(command.replace("<run folder>", str(tmp_path)))[2:])
    check(cfg, "train")
    run_length.fill_in(cfg, batches=20)
    network = SEResNet(7, width=4)
    if cfg.freeze:
        freeze(network, cfg.freeze)
    optimizer = instantiate(cfg.optimizer, _convert_="all")(
        build._parameter_groups(cfg.parameter_groups, network)(network)
    )
    scheduler = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(scheduler, dict)
    del scheduler["interval"]
    instantiate(scheduler, _convert_="all")(optimizer)
    index = Index([f"{n}.png" for n in range(30)], torch.arange(30) % 7)
    assert len(instantiate(cfg.data.sampler, _convert_="all")(index, list("abcdefg")))
    for part in (cfg.mixing, cfg.augment, cfg.metrics):
        instantiate(part, _convert_="all")
    build._loss(cfg.loss)
    trainer_parts.callbacks(cfg)


def test_the_table_of_schedules_says_which_unit_each_has_and_whether_it_needs_an_end() -> None:
    text = (PROJECT / "docs" / "training.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w.*?) \| (epoch|step) \| .* \| (yes|no) \|$", text, re.MULTILINE)
    said = {name: (unit, end) for names, unit, end in rows for name in re.findall(r"`(\w+)`", names)}
    assert len(said) > 15
    for name, (unit, end) in said.items():
        needs_end = name not in run_length.without_end()
        interval = OmegaConf.load(CONF / "scheduler" / f"{name}.yaml").interval
        assert (interval, end) == (unit, "yes" if needs_end else "no"), name


def test_every_option_that_the_tables_of_the_guides_name_is_a_yaml() -> None:
    for file in DOCS:
        for header, body in re.findall(
            r"^\| `(\w+)=` \|.*\n\|[-|]+\n((?:\|.*\n)+)", file.read_text("utf-8"), re.MULTILINE
        ):
            named = [name for row in body.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
            assert named
            assert set(named) <= set(GROUPS[header])


def test_the_table_of_own_parts_names_every_group_and_files_that_are_there() -> None:
    text = (PROJECT / "docs" / "own-parts.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (?:none|`([\w/.]+)`) \| .+ \|$", text, re.MULTILINE)
    assert sorted(group for groups, _ in rows for group in re.findall(r"\w+", groups)) == sorted(GROUPS)
    assert not [place for _, place in rows if not (PROJECT / "src" / "fovea" / place).exists()]
