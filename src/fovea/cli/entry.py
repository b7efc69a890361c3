"""From a command line to a running job: Hydra composes, the config is checked, the job runs.

Nothing in this folder imports torch, so that a mistake is answered at once. This folder, build.py and the entry files
are all that knows Hydra and OmegaConf.
"""

# ruff: noqa: E402
import gc

gc.disable()  # until the job runs: collecting while modules load is a sixth of the time that a typing error takes

from fovea.cli.dependencies import exit_if_missing

exit_if_missing()

import errno
import functools
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra._internal.callbacks import Callbacks  # the one thing of run_job's that has no public name
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict, read_write

from fovea.cli.command import Command, read_command, to_go_on_with, without_dashes
from fovea.cli.environment import load_environment
from fovea.cli.help import help_text
from fovea.cli.messages import few_lines
from fovea.cli.named_run import with_run_folders
from fovea.cli.paths import make_absolute, quoted
from fovea.cli.suggest import refuse_options
from fovea.cli.sweep import Sweep, is_sweep, with_sweeps_command
from fovea.config.resolvers import CONF, register_resolvers
from fovea.distributed.rank import is_first

if TYPE_CHECKING:
    from fovea.config.check import Program

Job = Callable[[DictConfig], None]
FULL_ERROR = "HYDRA_FULL_ERROR"
log = logging.getLogger(__name__)


def entry(config_name: "Program", *saved_run: str) -> Callable[[Job], Callable[[], None]]:
    """Make a job into a program: Hydra composes `config_name`, the config is checked, the job runs.

    Args:
        config_name: the yaml in conf/.
        saved_run: the keys that name a run folder, `resume`, `rerun` or `run`, if the program has any. Where one is
            typed, the run's own config.yaml is what the overrides apply to: resume.yaml, rerun.yaml, evaluate.yaml and
            predict.yaml take it in as `run_config`.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @functools.wraps(job)
        def main() -> None:
            if os.environ.get("LOCAL_RANK", "0") != "0":  # until it listens to signals itself, the first process tells
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")  # file names may be anything
            register_resolvers()
            with few_lines(_in_full()):
                load_environment()
                words = without_dashes(sys.argv[1:])
                refuse_options(words)
                words = with_run_folders([quoted(word, is_sweep(words)) for word in words], saved_run)
                typed = with_sweeps_command(words, saved_run)
                asked = read_command(config_name, saved_run, typed)
                if asked.asks_for_help:
                    print(help_text(asked))
                elif asked.has_switches or is_sweep(asked.words) or not _ran_once(asked, typed, job):
                    _with_hydra(asked, typed, job, trains="resume" in saved_run)

        return main

    return decorate


def _ran_once(asked: Command, typed: list[str], job: Job) -> bool:
    """Run the job once, or say False where a yaml asks for a sweep (hydra.mode: MULTIRUN).

    hydra.main would compose the config twice more, half a second in all, and make the folder before it is checked.
    """
    with hydra.initialize_config_dir(str(CONF), job_name=asked.config_name, version_base="1.3"):
        cfg = hydra.compose(asked.config_name, asked.words, return_hydra_config=True)
        if cfg.hydra.mode == RunMode.MULTIRUN:
            return False
        cfg.hydra.mode = RunMode.RUN
        with open_dict(without_hydra := cfg.copy()):
            del without_hydra["hydra"]
        HydraConfig.instance().set_config(cfg)  # values may refer to it: ${hydra:runtime.choices.model}
        try:
            _check(without_hydra, asked)
        finally:
            HydraConfig.instance().cfg = None

        def run(cfg: DictConfig) -> None:
            gc.enable()
            _hand_on(typed)
            with few_lines(_in_full()):
                _check_folder(asked.config_name)
                _make_absolute(cfg)
                _begin(job, cfg)

        _as_hydra_runs_it(run, cfg)
    return True


def _as_hydra_runs_it(job: Job, cfg: DictConfig) -> None:
    """What hydra.main (1.3) does once it has composed."""
    callbacks, name = Callbacks(cfg), cfg.hydra.job.config_name
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    callbacks.on_run_start(config=cfg, config_name=name)
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=callbacks)
    done = run_job(job, cfg, job_dir_key="hydra.run.dir", job_subdir_key=None, hydra_context=context)
    callbacks.on_run_end(config=cfg, config_name=name, job_return=done)
    _ = done.return_value  # raises what the job raised


def _with_hydra(asked: Command, typed: list[str], job: Job, trains: bool) -> None:
    """Through hydra.main: sweeps, --cfg and the like."""
    words = asked.words if asked.has_switches else ["-m", *asked.words]
    sweep = Sweep(asked.config_name, words) if trains and is_sweep(words) else None
    full_error = os.environ.get(FULL_ERROR)

    def run(cfg: DictConfig, composed: Command) -> None:
        if sweep is None:
            _check_folder(asked.config_name)
        _make_absolute(cfg)  # before it is checked, for this may run in the job's own folder
        _check(cfg, composed)
        _begin(job, cfg)

    def begin(cfg: DictConfig) -> None:
        run(cfg, Command(asked.config_name, list(HydraConfig.get().overrides.task), asked.source))

    def go_on(folder: Path) -> None:
        again = to_go_on_with(folder, HydraConfig.get().overrides.task)
        sys.argv[1:] = again.words  # for the other processes
        run(hydra.compose(again.config_name, again.words), again)

    @functools.wraps(job)
    def one_of_many(cfg: DictConfig) -> float | None:
        gc.enable()
        _set(full_error)
        _hand_on(typed)
        try:
            if sweep is not None:
                return sweep.run_job(cfg, begin, go_on, _in_full())
            # Evaluating or predicting several times makes no folders of runs: the errors are for Hydra.
            with nullcontext() if HydraConfig.get().mode == RunMode.MULTIRUN else few_lines(_in_full()):
                begin(cfg)
            return None
        finally:
            _set("1")

    sys.argv[1:] = sweep.arguments if sweep else words
    _set("1")  # errors come to few_lines, not to Hydra's own printing
    with sweep.told() if sweep else nullcontext():
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=asked.config_name)(one_of_many)()


def _check(cfg: DictConfig, composed: Command) -> None:
    from fovea.config.check import check, check_overrides  # pydantic takes a fifth of a second, and --help needs none

    check(cfg, composed.config_name, composed.source)
    check_overrides(cfg, composed.config_name, composed.words)


def _make_absolute(cfg: DictConfig) -> None:
    make_absolute(cfg, Path(HydraConfig.get().runtime.cwd))


def _begin(job: Job, cfg: DictConfig) -> None:
    if not {"run", "usual"} & set(cfg) and is_first():  # neither evaluating nor packing: it trains
        from fovea.config.check import to_type_again

        for line in to_type_again(cfg):
            log.warning(line)
    job(cfg)


def _in_full() -> bool:
    return os.environ.get(FULL_ERROR) == "1"


def _set(full_error: str | None) -> None:
    os.environ.pop(FULL_ERROR, None)
    if full_error is not None:
        os.environ[FULL_ERROR] = full_error


def _hand_on(typed: list[str]) -> None:
    """Leave behind what the processes that Lightning starts for devices > 1 need: a command that means this one job."""
    job = HydraConfig.get()
    with read_write(job):  # type: ignore[arg-type]  # a DictConfig that is typed as what it holds
        job.run.dir = job.runtime.output_dir
    sys.argv[1:] = [*job.overrides.task, "hydra.mode=RUN"] if job.mode == RunMode.MULTIRUN else typed


def _check_folder(config_name: str) -> None:
    """Refuse one that can't be written to, or that has a run: its config and its figures would be lost."""
    folder = HydraConfig.get().runtime.output_dir
    if config_name != "pack" and not os.access(folder, os.W_OK):  # Hydra has made it, or found it
        raise OSError(errno.EACCES, "this folder can't be written to", folder)
    # to the others, the first rank's config may be there already
    if config_name in ("train", "rerun", "evaluate") and is_first() and (Path(folder) / "config.yaml").exists():
        go_on = f"To go on with it: resume={folder}\n" if config_name == "train" else ""
        other = "To train another one" if config_name == "train" else "Instead"
        raise ValueError(
            f"hydra.run.dir={folder} has a run already\n{go_on}{other}: hydra.run.dir=<another folder>, or none"
        )
