"""Runs one job: composes its config, checks it, makes its folder and calls it."""

import errno
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra._internal.callbacks import Callbacks  # run_job needs them, and they have no public name
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict, read_write

from fovea.cli.command import Command
from fovea.cli.errors.messages import short_errors
from fovea.cli.paths import make_absolute
from fovea.cli.screen import warnings_logged
from fovea.config.resolvers import CONF
from fovea.distributed.rank import is_first

Job = Callable[[DictConfig], None]
FULL_ERROR = "HYDRA_FULL_ERROR"
SCRIPTS = (
    "pack",
    "browse",
    "verify",
    "plot_schedule",
    "find_lr",
    "find_batch_size",
)  # programs in scripts/, which make no run folder
log = logging.getLogger(__name__)


def run_single_job(job: Job, command: Command, typed: list[str]) -> bool:
    """Run the job and return True; return False, without running, if a yaml asks for a sweep (hydra.mode: MULTIRUN).

    hydra.main is not used because it would compose the config twice more, which takes half a second, and make the
    folder before the config is checked.
    """
    with hydra.initialize_config_dir(str(CONF), job_name=command.config_name, version_base="1.3"):
        cfg = hydra.compose(command.config_name, command.words, return_hydra_config=True)
        if cfg.hydra.mode == RunMode.MULTIRUN:
            return False
        cfg.hydra.mode = RunMode.RUN
        _check_before_it_runs(cfg, command)

        def run(cfg: DictConfig) -> None:
            gc.enable()
            set_command_for_ranks(typed)
            with short_errors(wants_tracebacks()):
                check_folder(command.config_name)
                make_paths_absolute(cfg)
                start(job, cfg)

        _run_as_hydra_does(run, cfg)
    return True


def _check_before_it_runs(cfg: DictConfig, command: Command) -> None:
    with open_dict(without_hydra := cfg.copy()):
        del without_hydra["hydra"]
    HydraConfig.instance().set_config(cfg)  # values may refer to it: ${hydra:runtime.choices.model}
    try:
        check_config(without_hydra, command)
    finally:
        HydraConfig.instance().cfg = None


def _run_as_hydra_does(job: Job, cfg: DictConfig) -> None:
    """Do what hydra.main (1.3) does after composing."""
    callbacks, name = Callbacks(cfg), cfg.hydra.job.config_name
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    callbacks.on_run_start(config=cfg, config_name=name)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks)
    done = run_job(job, cfg, job_dir_key="hydra.run.dir", job_subdir_key=None, hydra_context=context)
    callbacks.on_run_end(config=cfg, config_name=name, job_return=done)
    _ = done.return_value  # raises what the job raised


def check_config(cfg: DictConfig, command: Command) -> None:
    """Raise ValueError for a value that the programs can't use."""
    from fovea.config.check import check, check_overrides  # here, because --help needs no pydantic (0.2 s to import)

    check(cfg, command.config_name, command.source)
    check_overrides(cfg, command.config_name, command.words)


def make_paths_absolute(cfg: DictConfig) -> None:
    """Make relative paths absolute; they are relative to the folder in which the command was typed."""
    make_absolute(cfg, Path(HydraConfig.get().runtime.cwd))


def start(job: Job, cfg: DictConfig) -> None:
    """Call the job. Before a training, warn about values that every later command on its run has to type again."""
    trains = not {"run", "output"} & set(cfg)  # evaluate and predict have `run`, the programs in scripts/ `output`
    if trains and is_first():
        from fovea.config.check import values_to_retype

        for line in values_to_retype(cfg):
            log.warning(line)
    with warnings_logged():
        job(cfg)


def check_folder(config_name: str) -> None:
    """Check that the output folder is writable and holds no other run, whose files would be overwritten.

    Raises:
        OSError: the folder can't be written to.
        ValueError: the folder holds a run.
    """
    folder = HydraConfig.get().runtime.output_dir
    if config_name not in SCRIPTS and not os.access(folder, os.W_OK):  # Hydra has made it, or found it
        raise OSError(errno.EACCES, "this folder can't be written to", folder)
    # rank 0 may have written its config.yaml by the time that the other ranks come here
    if config_name in ("train", "rerun", "evaluate") and is_first() and (Path(folder) / "config.yaml").exists():
        go_on = f"To go on with it: resume={folder}\n" if config_name == "train" else ""
        raise ValueError(
            f"hydra.run.dir={folder} has a run already\n"
            f"{go_on}To use a new folder: hydra.run.dir=<another folder>, or no hydra.run.dir= for the usual one"
        )


def set_command_for_ranks(typed: list[str]) -> None:
    """Set sys.argv to a command that runs this job alone. If devices > 1, Lightning starts the other ranks with it."""
    job = HydraConfig.get()
    with read_write(job):  # type: ignore[arg-type]  # a DictConfig that is typed as what it holds
        job.run.dir = job.runtime.output_dir
    sys.argv[1:] = [*job.overrides.task, "hydra.mode=RUN"] if job.mode == RunMode.MULTIRUN else typed


def wants_tracebacks() -> bool:
    """Whether the user asked for the traceback of every error."""
    return os.environ.get(FULL_ERROR) == "1"


def set_full_error(value: str | None) -> None:
    """Set HYDRA_FULL_ERROR, or remove it."""
    os.environ.pop(FULL_ERROR, None)
    if value is not None:
        os.environ[FULL_ERROR] = value
