"""Every command of the guides is accepted, the parts of those that train are built, and links and tables are right."""

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
import torch
from conf_groups import GROUPS, composed
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fovea.cli.command import read_command
from fovea.cli.entry import _typed
from fovea.cli.paths import quoted
from fovea.config import run_length, saved
from fovea.config.check import Program, check, check_overrides
from fovea.config.resolvers import CONF, PROJECT
from fovea.data.index import Index
from fovea.models.freeze import freeze
from fovea.models.se_resnet import SEResNet
from fovea.parts import loss_parts, optimization_parts, trainer_parts

DOCS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
PROGRAMS: dict[str, tuple[Program, tuple[str, ...]]] = {  # script -> its yaml in conf/, the keys that name a run
    "src/train.py": ("train", ("resume", "rerun")),
    "src/evaluate.py": ("evaluate", ("run",)),
    "src/predict.py": ("predict", ("run",)),
    "src/report.py": ("report", ("run",)),
    "scripts/pack.py": ("pack", ()),
    "scripts/plot_schedule.py": ("plot_schedule", ()),
    "scripts/find_lr.py": ("find_lr", ()),
    "scripts/find_batch_size.py": ("find_batch_size", ()),
    "scripts/verify.py": ("verify", ()),
    "scripts/browse.py": ("browse", ()),
}


def commands(file: Path) -> list[str]:
    """The lines of its bash blocks that start a program; lines that end with a backslash go on."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", file.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" # ")[0].strip() for line in lines if re.match(r" *python (src|scripts)/", line)]


COMMANDS = list(dict.fromkeys(command for file in DOCS for command in commands(file)))
NEW = [c for c in COMMANDS if c.startswith("python src/train.py") and not re.search(r" (-|resume=|rerun=)", c)]
OTHERS = [c for c in COMMANDS if c not in NEW and not re.search(r" --|rename\.py|compare\.py|soup\.py", c)]
OF_FOLDERS = [c for c in COMMANDS if re.search(r"(src/compare|scripts/soup)\.py", c)]  # read by argparse


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has finished, as far as a command line is concerned."""
    folder = tmp_path_factory.mktemp("runs") / "train" / "first"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt", "corrections.csv", "subset.txt", "ImageNet_LT_train.txt"):
        (folder / "checkpoints" / name).touch()
    cfg = composed("data=folder", "data.root=photos")
    cfg.run_dir = str(folder)
    saved.save(cfg, folder)
    (folder / "results.json").write_text(json.dumps({"status": "finished"}))
    (folder / "predictions.csv").touch()  # for baseline=
    (folder / "soup.safetensors").touch()
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep before its first job."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweep.json").write_text(json.dumps({"command": ["seed=0,1"]}))
    return folder


def first_job(words: list[str]) -> Iterator[str]:
    """The overrides of a sweep's first job: the first of several values, or the start of an interval."""
    for override in OverridesParser.create().parse_overrides([word for word in words if word != "-m"]):
        value = override.value() if override.is_sweep_override() else None
        if isinstance(value, IntervalSweep):
            yield f"{override.get_key_element()}={value.start}"
        elif value is not None:
            yield f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        else:
            yield override.input_line or ""


@pytest.mark.parametrize("command", OTHERS)
def test_a_command_of_the_guides_that_starts_from_a_run_sweeps_or_packs_is_accepted(
    command: str, run: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNS_DIR", str(run.parents[1]))  # for run=last
    monkeypatch.setenv("IMAGENET_DIR", "imagenet")
    command = command.replace("<run folder>", str(run)).replace("<sweep folder>", str(sweep))
    _, script, *words = shlex.split(command)
    assert (PROJECT / script).is_file()
    program, keys = PROGRAMS[script]
    asked = read_command(program, keys, _typed(words, keys))
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = list(first_job(asked.words))
        cfg = hydra.compose(asked.config_name, overrides)
        check(cfg, asked.config_name, asked.source)
        check_overrides(cfg, asked.config_name, overrides)


@pytest.mark.parametrize("command", OF_FOLDERS)
def test_a_command_of_the_guides_that_names_folders_is_accepted(command: str) -> None:
    _, script, *words = re.sub("<[a-z ]+>", "x", command).split()
    parser = runpy.run_path(str(PROJECT / script))["parser"]()
    assert parser.parse_intermixed_args(words).folders[0] == words[0]


@pytest.mark.parametrize("command", NEW)
def test_a_command_of_the_guides_is_accepted_and_its_parts_are_built(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "imagenet")
    monkeypatch.chdir(run / "checkpoints")  # for weights=best.ckpt, data.corrections= and data.subset=
    cfg = composed(*map(quoted, shlex.split(command.replace("<run folder>", ".."))[2:]))
    cfg.class_counts = {"present": [20] * 7, "absent": [10] * 7}
    check(cfg, "train")
    run_length.fill_in(cfg, [20])
    network = SEResNet(7, width=4)
    if cfg.freeze:
        freeze(network, cfg.freeze)
    optimizer = optimization_parts.optimizer(cfg.optimizer)(optimization_parts.parameter_groups(cfg, network)(network))
    scheduler = OmegaConf.to_container(cfg.scheduler, resolve=True)
    assert isinstance(scheduler, dict)
    del scheduler["interval"]
    instantiate(scheduler, _convert_="all")(optimizer)
    index = Index([f"{n}.png" for n in range(30)], torch.arange(30) % 7)
    assert len(instantiate(cfg.data.sampler, _convert_="all")(index, list("abcdefg")))
    for part in (cfg.mixing, cfg.augment, cfg.metrics):
        instantiate(part, _convert_="all")
    loss_parts.from_node(cfg.loss)
    trainer_parts.callbacks(cfg)


def test_the_table_of_schedules_says_which_unit_each_has_and_whether_it_needs_an_end() -> None:
    text = (PROJECT / "docs" / "optimization.md").read_text("utf-8")
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


def test_every_link_leads_to_a_file_and_the_readme_lists_every_guide() -> None:
    linked = {file: re.findall(r"\]\(([\w./-]+)\)", file.read_text("utf-8")) for file in DOCS}
    assert not [(file, link) for file, links in linked.items() for link in links if not (file.parent / link).is_file()]
    assert {f"docs/{file.name}" for file in DOCS if file.parent == PROJECT / "docs"} <= set(
        linked[PROJECT / "README.md"]
    )


def test_every_link_to_a_section_leads_to_a_heading() -> None:
    for file in DOCS:
        for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", file.read_text("utf-8")):
            text = (file.parent / target if target else file).read_text("utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings], file


def test_the_table_of_own_parts_names_every_group_and_files_that_are_there() -> None:
    text = (PROJECT / "docs" / "own-parts.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (?:none|`([\w/.]+)`) \| .+ \|$", text, re.MULTILINE)
    assert sorted(group for groups, _ in rows for group in re.findall(r"\w+", groups)) == sorted(GROUPS)
    assert not [place for _, place in rows if not (PROJECT / "src" / "fovea" / place).exists()]
