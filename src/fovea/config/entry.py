"""From a command line to a running job: Hydra composes, the config is checked, the job runs.

Nothing in this folder imports torch, so that a mistake is answered at once. This folder, build.py and the entry files
are all that knows Hydra and OmegaConf.
"""

# ruff: noqa: E402
import gc

gc.disable()  # until the job runs: collecting while modules load is a sixth of the time that a typing error takes

import errno
import functools
import io
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from fovea.config import past, saved, untrusted
from fovea.config.check import check, check_plain_run
from fovea.config.explain import few_lines
from fovea.config.resolvers import CONF, load_environment, register_resolvers
from fovea.config.sweep import Sweep, command_of, in_folder, is_sweep

USAGE = """fovea: image classification, single-label and multi-label

  python src/train.py [overrides]                        train, then test the best checkpoint
  python src/train.py resume=<run folder> [overrides]    go on where a run stopped
  python src/train.py rerun=<run folder>                 train it again, and say whether the result is identical
  python src/train.py -m seed=0,1,2 model=a,b            a sweep
  python src/evaluate.py run=<run folder> [overrides]    test a run again, or on other data
  python src/predict.py run=<run folder> source=<images> output=<.csv|.json|.parquet>
  python scripts/pack.py data=<name> output=<folder>     pack a dataset for fast reading (data.store=<folder>)

group=option takes conf/<group>/<option>.yaml; key.subkey=value sets a value; +key=value adds one.
--cfg job shows the config and runs nothing; --hydra-help, --info and -m are Hydra's.
"""


def entry(config_name: str, *saved_run: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a job into a program: Hydra composes `config_name`, the config is checked, the job runs.

    Args:
        config_name: the yaml in conf/.
        saved_run: the keys that name a run folder, `resume`, `rerun` or `run`, if the program has any. Where one is
            typed, the run's own config.yaml is what the overrides apply to: resume.yaml, rerun.yaml, evaluate.yaml and
            predict.yaml take it in as `run_config`.
    """

    def decorate(job: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(job)
        def main() -> None:
            full_error = os.environ.get("HYDRA_FULL_ERROR")
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")  # file names may be anything
            typed = [_quoted(word) for word in without_dashes(sys.argv[1:])]
            source: untrusted.Source | None = None

            def run(cfg: DictConfig) -> None:
                folder = HydraConfig.get().runtime.output_dir
                _check_writable(folder)
                if name == "train" and sweep is None:
                    _check_unused(folder)
                check(cfg, source)
                saved.make_absolute(cfg)
                job(cfg)

            def resumed(folder: Path) -> DictConfig:
                nonlocal source
                its_cfg, source = _resumed(folder)
                return its_cfg

            @functools.wraps(job)
            def checked(cfg: DictConfig) -> float | None:
                nonlocal source
                source = of_command
                gc.enable()
                _hand_on(full_error, typed)
                try:
                    if sweep is not None:
                        return sweep.run_job(cfg, run, resumed, full_error == "1")
                    # Evaluating or predicting several times makes no folders of runs: the errors are for Hydra.
                    with nullcontext() if HydraConfig.get().mode == RunMode.MULTIRUN else few_lines(full_error == "1"):
                        run(cfg)
                    return None
                finally:
                    os.environ["HYDRA_FULL_ERROR"] = "1"

            load_environment()
            register_resolvers()
            with few_lines(full_error == "1"):
                typed = command_of(typed, saved_run)
                name, arguments, of_command = _with_saved_run(config_name, saved_run, typed)
                if {"--help", "-h"} & set(arguments):
                    print(help_text(name, arguments))
                    return
                source = of_command
                check_plain_run(name, arguments, source)
                sweep = Sweep(name, arguments) if is_sweep(arguments) and "resume" in saved_run else None
                sys.argv[1:] = in_folder(arguments, sweep.folder) if sweep else arguments
                os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to few_lines, not to Hydra's own printing
                with sweep.told() if sweep else nullcontext():
                    hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(checked)()

        return main

    return decorate


def without_dashes(words: list[str]) -> list[str]:
    """`--rerun <folder>` and `--rerun=<folder>` are rerun=<folder>."""
    if "--rerun" in words[:-1]:
        n = words.index("--rerun")
        words = [*words[:n], f"--rerun={words[n + 1]}", *words[n + 2 :]]
    return [word.removeprefix("--") if word.startswith("--rerun=") else word for word in words]


def _quoted(word: str) -> str:
    """Hydra's grammar stumbles over é, parentheses and more in a plain value; in quotes it takes any path."""
    key, _, value = word.partition("=")
    if word.startswith("-") or not value or value[0] in "'\"[{$":
        return word
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{key}='{escaped}'"
    return word


def help_text(config_name: str, arguments: list[str]) -> str:
    """Usage, groups and the config as the overrides leave it. (Hydra's own help loads every yaml, twice.)"""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
    groups = [f"  {f.name}: {', '.join(sorted(y.stem for y in f.glob('*.yaml')))}" for f in folders]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(config_name, [word for word in arguments if not word.startswith("-")])
    return "\n".join([USAGE, "Groups", *groups, "", "Config", OmegaConf.to_yaml(composed)])


def _hand_on(full_error: str | None, typed: list[str]) -> None:
    """Leave behind what the processes that Lightning starts for devices > 1 need: a command that means this one job."""
    if full_error is None:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    else:
        os.environ["HYDRA_FULL_ERROR"] = full_error
    job = HydraConfig.get()
    with read_write(job):  # type: ignore[arg-type]  # a DictConfig that is typed as what it holds
        job.run.dir = job.runtime.output_dir
    one_of_many = job.mode == RunMode.MULTIRUN
    sys.argv[1:] = [*job.overrides.task, "hydra.mode=RUN"] if one_of_many else typed


def _resumed(folder: Path) -> tuple[DictConfig, untrusted.Source | None]:
    """The config to go on with in the folder of a sweep's job, and where it is from.

    Values of its sections that the job's own command types are typed again: they are the user's word, not the folder's.
    sys.argv becomes the command for its other processes.
    """
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    again = [
        o.input_line or "" for o in overrides if o.type == OverrideType.CHANGE and untrusted.is_built(o.key_or_group)
    ]
    name, words, source = _with_saved_run("train", ("resume",), [_quoted(f"resume={folder}"), *again])
    sys.argv[1:] = words
    return hydra.compose(name, words), source


def _check_writable(folder: str) -> None:
    """Hydra has made it, or found it."""
    if not os.access(folder, os.W_OK):
        raise OSError(errno.EACCES, "this folder can't be written to", folder)


def _check_unused(folder: str) -> None:
    """Two trainings don't share a folder: the second would test the best checkpoint of the first."""
    first = all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
    if first and (Path(folder) / "config.yaml").exists():  # to the others, the first rank's may be there already
        raise ValueError(
            f"hydra.run.dir={folder} has a run already\n"
            f"To go on with it: resume={folder}\n"
            "To train another one: hydra.run.dir=<another folder>, or none"
        )


def _with_saved_run(
    config_name: str, keys: tuple[str, ...], typed: list[str]
) -> tuple[str, list[str], untrusted.Source | None]:
    """The yaml to compose, the overrides for it, and the saved run, whose config is put where the yaml finds it."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        typed = [*typed, "hydra/job_logging=disabled"]
    words = [word for word in typed if word.startswith("~") or (not word.startswith("-") and "=" in word)]
    overrides = OverridesParser.create().parse_overrides(words)
    named = {o.key_or_group: o.value() for o in overrides if o.key_or_group in keys}
    if len(named) > 1:
        raise ValueError(" and ".join(f"{key}=" for key in named) + " both name a run: keep one of them")
    key, folder = next(((key, Path(str(value))) for key, value in named.items() if value is not None), ("", None))
    base: dict[str, Any] = {}
    source = None
    if folder is not None:
        base = saved.load(f"{key}={folder}", folder, from_its_start=key == "rerun")
        untrusted.check(untrusted.Source(folder, frozenset(o.key_or_group for o in overrides)), base)
        groups = [o for o in overrides if o.type == OverrideType.CHANGE and (CONF / o.key_or_group).is_dir()]
        as_it_was = past.as_they_were(folder, groups, overrides) if key == "resume" else []
        chosen = [o for o in groups if o not in as_it_was]
        if key == "run":
            saved.forget_limits(base)
        base = saved.with_groups(base, chosen)
        source = untrusted.Source(folder, saved.trusted(base, chosen, overrides))
        untrusted.check(source, base)
        if key == "resume":
            force = any(o.key_or_group == "force" and o.value() is True for o in overrides)
            others = [o for o in overrides if o.key_or_group not in ("resume", "force") and o not in as_it_was]
            base["forced"] = past.forced(folder, base, others, force)
        elif key == "rerun":
            past.refuse_unfinished(f"rerun={folder}", folder)
        typed = [word for word in typed if word not in {o.input_line for o in groups}]
    elif keys == ("run",) and not any(word.startswith("-") for word in typed):
        raise ValueError("run=<run folder> is missing: which run is it about?")
    ConfigStore.instance().store(name="run_config", node=base)
    return (key if key in ("resume", "rerun") else config_name), typed, source
