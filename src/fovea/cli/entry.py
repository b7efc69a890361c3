"""Turns a command line into a running job: Hydra composes the config, fovea checks it, the job runs.

Nothing in this folder imports torch, so errors are reported within a second. Only this folder, config/, build.py,
parts/, load_run.py and the entry files import Hydra or OmegaConf.
"""

# ruff: noqa: E402
import gc

gc.disable()  # until the job runs: collecting while modules load takes a sixth of the time until an error is reported

from fovea.cli.dependencies import exit_if_missing

exit_if_missing()

import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fovea.cli.all_folds import with_all_folds
from fovea.cli.command import read_command, with_rerun_override
from fovea.cli.environment import load_environment
from fovea.cli.errors.messages import short_errors
from fovea.cli.errors.suggest import refuse_options
from fovea.cli.help import help_text
from fovea.cli.hydra_main import HydraMain
from fovea.cli.job import Job, run_single_job, wants_tracebacks
from fovea.cli.named_run import with_run_folders
from fovea.cli.paths import quoted
from fovea.cli.sweep import SWITCHES, PoolFolds, is_sweep, with_sweep_command
from fovea.config.resolvers import register_resolvers
from fovea.distributed.memory import keep_freed_memory
from fovea.distributed.threads import sleep_while_waiting

if TYPE_CHECKING:
    from fovea.config.check import Program


def entry(
    config_name: "Program", *saved_run: str, pool_folds: PoolFolds | None = None
) -> Callable[[Job], Callable[[], None]]:
    """Decorate a job to make it a program: Hydra composes `config_name`, the config is checked, the job runs.

    Args:
        config_name: the yaml in conf/.
        saved_run: the program's keys that name a run folder: `resume`, `rerun` or `run`. If one is typed, overrides
            apply to that run's config.yaml, which resume.yaml, rerun.yaml, evaluate.yaml and predict.yaml include as
            `run_config`.
        pool_folds: called at the end of a sweep over folds, with its folder and jobs; it returns lines to print.
    """

    def decorate(job: Job) -> Callable[[], None]:
        @functools.wraps(job)
        def main() -> None:
            with prepared():
                _run(job, config_name, saved_run, pool_folds)

        return main

    return decorate


@contextmanager
def prepared() -> Iterator[None]:
    """Prepare the process of a program and load .env; errors within the context are printed briefly."""
    _prepare_process()
    with short_errors(wants_tracebacks()):
        load_environment()
        yield


def _prepare_process() -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":  # rank 0 reports Ctrl-C; the other ranks exit silently
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    sleep_while_waiting()
    keep_freed_memory()
    register_resolvers()


def _run(job: Job, config_name: "Program", saved_run: Sequence[str], pool_folds: PoolFolds | None) -> None:
    """Print the help, or run the job or the sweep."""
    typed = _typed(sys.argv[1:], saved_run)
    command = read_command(config_name, saved_run, typed)
    if command.asks_for_help:
        print(help_text(command))
    elif command.has_switches or is_sweep(command.words) or not run_single_job(job, command, typed):
        HydraMain(job, command, typed, trains="resume" in saved_run, pool_folds=pool_folds).run()


def _typed(arguments: Sequence[str], saved_run: Sequence[str]) -> list[str]:
    """Return the arguments in Hydra's grammar; `last`, a run's files and sweep folders are replaced."""
    words = with_rerun_override(list(arguments))
    refuse_options(words)
    if "resume" in saved_run:
        words = with_all_folds(words, SWITCHES)
    words = [quoted(word, is_sweep(words)) for word in words]
    return with_sweep_command(with_run_folders(words, saved_run), saved_run)
