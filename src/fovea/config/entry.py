"""From a command line to a running job: Hydra composes, the config is checked, the job runs.

Nothing in this folder imports torch, so that a mistake is answered at once. This folder, build.py and the entry files
are all that knows Hydra and OmegaConf.
"""

# ruff: noqa: E402
import gc

gc.disable()  # until the job runs: collecting while modules load is a sixth of the time that a typing error takes

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

from fovea.config import saved
from fovea.config.check import check, check_plain_run
from fovea.config.explain import few_lines
from fovea.config.resolvers import CONF, load_environment, register_resolvers

USAGE = """fovea: image classification, single-label and multi-label

  python src/train.py [overrides]                        train, then test the best checkpoint
  python src/train.py resume=<run folder> [overrides]    go on where a run stopped
  python src/train.py -m seed=0,1,2 model=a,b            a sweep
  python src/evaluate.py run=<run folder> [overrides]    test a run again, or on other data
  python src/predict.py run=<run folder> source=<images> output=<.csv|.json|.parquet>
  python scripts/pack.py data=<name> output=<folder>     pack a dataset for fast reading (data.store=<folder>)

group=option takes conf/<group>/<option>.yaml; key.subkey=value sets a value; +key=value adds one.
--cfg job shows the config and runs nothing; --hydra-help, --info and -m are Hydra's.
"""


def entry(
    config_name: str, saved_run: str | None = None
) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a job into a program: Hydra composes `config_name`, the config is checked, the job runs.

    Args:
        config_name: the yaml in conf/.
        saved_run: the key that names a run folder, `resume` or `run`, if the program has one. Where it is typed, the
            run's own config.yaml is what the overrides apply to: resume.yaml, evaluate.yaml and predict.yaml take it in
            as `run_config`.
    """

    def decorate(job: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(job)
        def main() -> None:
            full_error = os.environ.get("HYDRA_FULL_ERROR")
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")  # file names may be anything
            typed = [_quoted(word) for word in sys.argv[1:]]

            @functools.wraps(job)
            def checked(cfg: DictConfig) -> None:
                gc.enable()
                _hand_on(full_error, typed)
                try:
                    # A sweep's other jobs go on after an error, so it must reach Hydra; a plain run's is told at once.
                    with nullcontext() if HydraConfig.get().mode == RunMode.MULTIRUN else few_lines(full_error == "1"):
                        check(cfg)
                        saved.make_absolute(cfg)
                        job(cfg)
                finally:
                    os.environ["HYDRA_FULL_ERROR"] = "1"

            load_environment()
            register_resolvers()
            with few_lines(full_error == "1"):
                name, arguments = _with_saved_run(config_name, saved_run, typed)
                if {"--help", "-h"} & set(arguments):
                    print(help_text(name, arguments))
                    return
                check_plain_run(name, arguments)
                sys.argv[1:] = arguments
                os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to few_lines, not to Hydra's own printing
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(checked)()

        return main

    return decorate


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


def _with_saved_run(config_name: str, key: str | None, typed: list[str]) -> tuple[str, list[str]]:
    """The yaml to compose and the overrides for it, with a saved run's config put where the yaml finds it."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        typed = [*typed, "hydra/job_logging=disabled"]
    words = [word for word in typed if not word.startswith("-") and "=" in word]
    overrides = OverridesParser.create().parse_overrides(words)
    folder = next((o.value() for o in overrides if o.key_or_group == key), None)
    base: dict[str, Any] = {}
    if folder is not None:
        base = saved.load(f"{key}={folder}", Path(str(folder)))
        replaced = [o for o in overrides if o.type == OverrideType.CHANGE and (CONF / o.key_or_group).is_dir()]
        if key == "resume":
            saved.refuse_another_past(o.key_or_group for o in overrides)
        else:
            saved.forget_limits(base)
        base = saved.with_groups(base, replaced)
        typed = [word for word in typed if word not in {o.input_line for o in replaced}]
    elif key == "run" and not any(word.startswith("-") for word in typed):
        raise ValueError("run=<run folder> is missing: which run is it about?")
    ConfigStore.instance().store(name="run_config", node=base)
    return ("resume" if key == "resume" and folder is not None else config_name), typed
