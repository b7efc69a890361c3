"""Runs jobs through hydra.main: sweeps, and Hydra's own switches such as --cfg."""

import functools
import gc
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fovea.cli import job as jobs
from fovea.cli.command import Command, job_resume_command
from fovea.cli.errors.messages import short_errors
from fovea.cli.job import FULL_ERROR, Job, set_full_error, wants_tracebacks
from fovea.cli.sweep import PoolFolds, Sweep, is_sweep
from fovea.config.resolvers import CONF


class HydraMain:
    """Runs one command line through hydra.main: one job, or the jobs of a sweep one after the other."""

    def __init__(
        self, job: Job, command: Command, typed: list[str], trains: bool, pool_folds: PoolFolds | None = None
    ) -> None:
        """`typed` is the command line in Hydra's grammar. Only sweeps of trainings have a sweep folder."""
        self.job, self.command, self.typed = job, command, typed
        words = command.words if command.has_switches else ["-m", *command.words]
        self.sweep = Sweep(command.config_name, words, pool_folds) if trains and is_sweep(words) else None
        self.arguments = self.sweep.arguments if self.sweep else words
        self.full_error = os.environ.get(FULL_ERROR)  # as the user set it

    def run(self) -> None:
        """Call hydra.main."""

        @functools.wraps(self.job)
        def run_job(cfg: DictConfig) -> float | None:
            return self._run_job(cfg)

        sys.argv[1:] = self.arguments
        set_full_error("1")  # so that hydra.main raises errors instead of printing them
        with self.sweep.reported() if self.sweep else nullcontext():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=self.command.config_name)(run_job)()

    def _run_job(self, cfg: DictConfig) -> float | None:
        gc.enable()
        set_full_error(self.full_error)
        jobs.set_command_for_ranks(self.typed)
        try:
            if self.sweep:
                return self.sweep.run_job(cfg, self._begin, self._go_on, wants_tracebacks())
            with self._short_errors():
                self._begin(cfg)
            return None
        finally:
            set_full_error("1")

    def _short_errors(self) -> AbstractContextManager[None]:
        """Print errors briefly. In a multirun of evaluations or predictions Hydra stops at the first error instead."""
        many = HydraConfig.get().mode == RunMode.MULTIRUN
        return nullcontext() if many else short_errors(wants_tracebacks())

    def _begin(self, cfg: DictConfig) -> None:
        overrides = list(HydraConfig.get().overrides.task)
        self._check_and_start(cfg, Command(self.command.config_name, overrides, self.command.source))

    def _go_on(self, folder: Path) -> None:
        """Resume a job of the sweep."""
        command = job_resume_command(folder, HydraConfig.get().overrides.task)
        sys.argv[1:] = command.words  # for the other ranks
        self._check_and_start(hydra.compose(command.config_name, command.words), command)

    def _check_and_start(self, cfg: DictConfig, command: Command) -> None:
        if self.sweep is None:
            jobs.check_folder(command.config_name)
        jobs.make_paths_absolute(cfg)  # before the check, as hydra.job.chdir may have changed the current folder
        jobs.check_config(cfg, command)
        jobs.start(self.job, cfg)
