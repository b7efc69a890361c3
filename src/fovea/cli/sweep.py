"""Runs a sweep in its folder, which keeps its command and its jobs, so that a stopped sweep can be resumed.

sweep.json         the command; multirun.yaml beside it is Hydra's
0/ 1/ ...          a run folder for each job; job.json holds its overrides
leaderboard.*      the jobs' figures side by side, as CSV and as a page
"""

import json
import re
import secrets
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fovea.cli.errors.messages import screen_text
from fovea.cli.paths import value_of, with_value
from fovea.cli.screen import terminal_width
from fovea.cli.sweep_direction import direction
from fovea.config.allowed_targets import allowed
from fovea.config.resolvers import CONF
from fovea.config.secrets import HIDDEN, secret_values, without_secrets, without_values
from fovea.config.untrusted import is_unsafe_override
from fovea.distributed.rank import is_first
from fovea.error_text import line
from fovea.files import read_json, write_safely
from fovea.leaderboard import leaderboard
from fovea.leaderboard.entries import JOB, Entry, jobs_of, read_job
from fovea.runs.checkpoint_names import TO_RESUME, existing
from fovea.runs.results_file import results_of

SWITCHES = ("-m", "--multirun", "hydra.mode=MULTIRUN")
COMMAND = "sweep.json"
SEED = "hydra.sweeper.sampler.seed"
Run = Callable[[DictConfig], None]
PoolFolds = Callable[[Path, Sequence[Entry]], list[str]]


class Sweep:
    """A sweep that is about to run in its folder."""

    def __init__(self, config_name: str, arguments: list[str], pool_folds: PoolFolds | None = None) -> None:
        """Compose the sweep's own config, which names its folder. An optimizing sweep without a seed gets one.

        `pool_folds` is called with the folder and the jobs at the end, if these have folds; it returns lines to print.
        """
        words = [word for word in arguments if word not in SWITCHES and not word.startswith("-")]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composer = GlobalHydra.instance().hydra
            assert composer is not None
            cfg = composer.compose_config(config_name, words, run_mode=RunMode.MULTIRUN, from_shell=False)
        self.folder = Path(str(cfg.hydra.sweep.dir)).absolute()
        seed = [self._seed()] if OmegaConf.select(cfg, SEED, default="") is None else []
        self.arguments = with_folder([*arguments, *seed, *direction(cfg, words)], self.folder)
        self.command = [masked(word) for word in [*words, *seed] if not word.startswith("hydra.sweep.dir=")]
        self.pool_folds = pool_folds
        self.failed: list[int] = []
        self.refused = False

    def _seed(self) -> str:
        """Return the override of the sampler's seed: the saved one, which makes a resumed sweep repeat its trials."""
        saved = saved_command(self.folder) if (self.folder / COMMAND).exists() else []
        first = (word for word in saved if re.fullmatch(rf"{re.escape(SEED)}=\d+", word))
        return next(first, f"{SEED}={secrets.randbelow(2**32)}")

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Save the command and, at the end, print a table of all jobs. Exit with 1 if a job is not finished.

        Raises:
            ValueError: the folder is a run's.
        """
        if (self.folder / "config.yaml").exists():
            raise ValueError(f"hydra.sweep.dir={self.folder} has a run: choose another folder for the sweep")
        self.folder.mkdir(parents=True, exist_ok=True)
        new = not (self.folder / COMMAND).exists()
        if new:
            self._save_command()
        jobs_of(self.folder)  # a damaged file is reported before any job runs
        completed = False
        try:
            yield
            completed = True
        finally:
            jobs = jobs_of(self.folder)
            if new and not jobs and not completed:
                self._remove()  # no job could be composed, for example because of an unknown key
            else:
                self._report(jobs, "" if completed else " that were begun")
        if not self.refused:
            self._save_command()
        if self.failed or any(job.status != "finished" for job in jobs):
            raise SystemExit(1)

    def _report(self, jobs: Sequence[Entry], restriction: str) -> None:
        """Print a table of the jobs and write the leaderboard. `restriction` follows the word jobs."""
        finished = sum(job.status == "finished" for job in jobs)
        count = f"{finished} of {len(jobs)} jobs{restriction} are finished"
        lines = [f"sweep {self.folder}: {count}"]
        if jobs:
            pooled = self._pooled(jobs)
            lines += [leaderboard.text(jobs, terminal_width()), *pooled]
        if finished < len(jobs) or restriction:
            lines.append(f"to run the missing jobs: resume={self.folder}")
        print("\n".join(lines), flush=True)
        if jobs and is_first():
            try:
                page = leaderboard.write(self.folder, f"sweep {self.folder.name}", [f"{count}.", *pooled], jobs, None)
                print(f"leaderboard: {page}", flush=True)
            except OSError as error:
                print(f"warning: the leaderboard can't be written: {error}", file=sys.stderr, flush=True)

    def _pooled(self, jobs: Sequence[Entry]) -> list[str]:
        """Pool the folds of the jobs that have some, and return lines about them, or why that can't be done."""
        if self.pool_folds is None or not is_first() or all(job.config.get("data.folds") is None for job in jobs):
            return []
        try:
            return self.pool_folds(self.folder, jobs)
        except (ValueError, OSError) as error:
            return [f"warning: {error}"]

    def _remove(self) -> None:
        for name in (COMMAND, "multirun.yaml"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # the folder has other files
            self.folder.rmdir()

    def _save_command(self) -> None:
        write_safely(self.folder / COMMAND, json.dumps({"command": self.command}, indent=2) + "\n")

    def run_job(self, cfg: DictConfig, begin: Run, go_on: Callable[[Path], None], show: bool) -> float | None:
        """Run a job unless it is finished; resume it if it has a checkpoint. Print its error if it fails.

        Args:
            cfg: the job's config.
            begin: trains with `cfg`.
            go_on: resumes the run in a folder.
            show: print the traceback of every error.

        Returns:
            The monitor's best value, for an optimizing sweeper.
        """
        here = HydraConfig.get()
        folder, number, overrides = Path(here.runtime.output_dir), here.job.num, list(here.overrides.task)
        sweeps_all = str(here.sweeper._target_).endswith(".BasicSweeper")
        name = f"job {number} ({' '.join(masked(word) for word in overrides)})"
        try:
            self._claim(folder, number, overrides)
            if outcome_of(folder)["status"] == "finished":
                print(f"{name} is finished: skipped", flush=True)
            else:
                go_on(folder) if _can_go_on(folder) else begin(cfg)
            best = outcome_of(folder)["best"]
            if best and best["value"] is None and not sweeps_all:
                raise ValueError(
                    f"{folder}: {cfg.monitor} was undefined in every validation, so the sweeper has no value to "
                    "optimize: choose a monitor that the labels of the validation images define"
                )
            if best is None and not sweeps_all:
                raise ValueError(
                    f"{folder} has no best checkpoint, so the sweeper has no value of {cfg.monitor} to optimize: "
                    "it needs callbacks=[checkpoints], trainer.enable_checkpointing=true and a validation"
                )
        except Exception as error:
            self.failed.append(number)
            text = None if show else screen_text(error)
            print(f"{name} failed", text or traceback.format_exc().rstrip(), sep="\n", file=sys.stderr, flush=True)
            if not self.refused and not (folder / "results.json").exists():
                content = {
                    "status": "failed",
                    "monitor": cfg.monitor,
                    "error": without_values(line(error), secret_values()),
                }
                write_safely(folder / "results.json", json.dumps(content, indent=2) + "\n")
            if not sweeps_all:
                raise  # an optimizing sweeper records the failure; the basic one would raise the error at the end
            return None
        return best["value"] if best else None

    def _claim(self, folder: Path, number: int, overrides: list[str]) -> None:
        """Write job.json. Raises ValueError if the folder has another job's run."""
        _mask_file(self.folder / "multirun.yaml")
        file = folder / JOB
        job: dict[str, Any] = {"number": number, "overrides": [masked(word) for word in overrides]}
        previous = read_job(file) if file.exists() else job
        if previous != job or (not file.exists() and (folder / "config.yaml").exists()):
            self.refused = True
            other = " ".join(previous["overrides"]) if file.exists() else "a run that is not a job of a sweep"
            raise ValueError(
                f"{folder} has another job's run: {other}\n"
                "Choose another folder for the sweep: hydra.sweep.dir=<folder>.\n"
                f"An optimizing sweep proposes the same trials only with the same {SEED}="
            )
        write_safely(file, json.dumps(job, indent=2) + "\n")


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the command line asks for a sweep."""
    return any(word in SWITCHES for word in words)


def with_sweep_command(typed: list[str], keys: Sequence[str]) -> list[str]:
    """Return the command to run: the typed one or, for `resume=<sweep folder>`, the saved command of that sweep.

    Raises:
        ValueError: other overrides were typed with resume=; the saved command had a secret or has an unsafe override;
            or -m was typed with the folder of a single run.
    """
    resumed = next((word for word in typed if "resume" in keys and word.startswith("resume=")), None)
    folder = Path(value_of(resumed)).absolute() if resumed else Path()
    if not resumed or not (folder / COMMAND).is_file() or (folder / "config.yaml").exists():
        if resumed and is_sweep(typed):
            raise ValueError(f"{resumed} is not a sweep's folder: to resume a single run, type it without -m")
        return typed
    others = [word for word in typed if word not in (*SWITCHES, resumed)]
    if others:
        raise ValueError(f"{others[0]} can't be combined with {resumed}: a sweep resumes with its own command")
    command = saved_command(folder)
    if any(HIDDEN in word for word in command):
        raise ValueError(
            f"{folder / COMMAND}: the command had a secret, which is not saved:\n  {' '.join(command)}\n"
            f"Type it again, with hydra.sweep.dir={folder}"
        )
    unsafe = next(filter(_is_unsafe, command), None)
    if unsafe:
        raise ValueError(
            f"{folder / COMMAND}: {unsafe} could run other code, or write elsewhere, so it is not taken from a file\n"
            + _retype(folder)
        )
    return ["-m", *command, with_value("hydra.sweep.dir", folder)]


def saved_command(folder: Path) -> list[str]:
    """Read the command from sweep.json. Raises ValueError if the file is damaged."""
    return [str(word) for word in read_json(folder / COMMAND, {"command": list}, _retype(folder))["command"]]


def _retype(folder: Path) -> str:
    return f"type the sweep's command again, with hydra.sweep.dir={folder}"


def _is_unsafe(word: str) -> bool:
    """Whether a word of a saved command, maybe a stranger's, could do more than set keys and groups of conf/."""
    key, _, value = word.lstrip("+~").partition("=")
    if word.startswith("-") or ".." in word:
        return True
    if key.startswith("hydra"):  # a launcher may run shell commands
        return not (key == "hydra/sweeper" or key.startswith("hydra.sweeper.")) or "_target_" in word
    named = value if key.endswith("_target_") else ",".join(re.findall(r"_target_['\"]?\s*:\s*([^,}\]]*)", value))
    targets = [text.strip(" '\"") for text in named.split(",") if text]
    inner = re.findall(r"([\w.]+)['\"]?\s*:", value)  # the keys of a mapping
    return not all(map(allowed, targets)) or any(
        is_unsafe_override(f"{key}.{name}".rstrip("."), value) for name in ["", *inner]
    )


def with_folder(arguments: list[str], folder: Path) -> list[str]:
    """Return the command line with the sweep's folder. -m comes first: argparse takes overrides in one place only."""
    dropped = (*SWITCHES, *(word for word in arguments if word.startswith("hydra.sweep.dir=")))
    return ["-m", *(word for word in arguments if word not in dropped), with_value("hydra.sweep.dir", folder)]


def masked(word: str) -> str:
    """Return `key=value` with a secret value masked."""
    return without_secrets(word, secret_values())


def _mask_file(file: Path) -> None:
    """Mask the secrets in a file of Hydra's, which holds every word that was typed."""
    text = file.read_text("utf-8") if file.exists() else ""
    clean = without_secrets(text, secret_values())
    if clean != text:
        write_safely(file, clean)


def _can_go_on(folder: Path) -> bool:
    return bool(existing(folder, TO_RESUME)) and (folder / "config.yaml").exists()


def outcome_of(folder: Path) -> dict[str, Any]:
    """Read a run's results.json; values that it lacks get defaults."""
    return {"status": "not begun", "best": None, "monitor": ""} | results_of(folder)
