"""A sweep's folder: its command, and what became of each job; run again, a sweep does only what is missing.

sweep.json         the command; multirun.yaml beside it is Hydra's
0/ 1/ ...          a run's folder for each job, with its overrides in job.json
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

from fovea.cli.errors.messages import shown
from fovea.cli.paths import value_of, with_value
from fovea.cli.sweep_direction import direction
from fovea.config.allowed_targets import allowed
from fovea.config.resolvers import CONF
from fovea.config.secrets import HIDDEN, secret_values, without_secrets, without_values
from fovea.config.untrusted import reaches_out
from fovea.error_text import line
from fovea.files import read_json, write_safely
from fovea.runs.checkpoint_names import TO_RESUME, existing
from fovea.runs.results_file import results_of

SWITCHES = ("-m", "--multirun", "hydra.mode=MULTIRUN")
COMMAND, JOB = "sweep.json", "job.json"
SEED = "hydra.sweeper.sampler.seed"
Run = Callable[[DictConfig], None]


class Sweep:
    """A sweep that is about to run, in its folder."""

    def __init__(self, config_name: str, arguments: list[str]) -> None:
        """Composes the sweep's own config, for its folder. An optimizing one without a seed is given one."""
        words = [word for word in arguments if word not in SWITCHES and not word.startswith("-")]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composer = GlobalHydra.instance().hydra
            assert composer is not None
            cfg = composer.compose_config(config_name, words, run_mode=RunMode.MULTIRUN, from_shell=False)
        self.folder = Path(str(cfg.hydra.sweep.dir)).absolute()
        seed = [self._seed()] if OmegaConf.select(cfg, SEED, default="") is None else []
        self.arguments = in_folder([*arguments, *seed, *direction(cfg, words)], self.folder)
        self.command = [masked(word) for word in [*words, *seed] if not word.startswith("hydra.sweep.dir=")]
        self.failed: list[int] = []
        self.refused = False

    def _seed(self) -> str:
        """The override with which a sampler proposes the same when the sweep goes on: its first one, or a new one."""
        before = kept_command(self.folder) if (self.folder / COMMAND).exists() else []
        first = (word for word in before if re.fullmatch(rf"{re.escape(SEED)}=\d+", word))
        return next(first, f"{SEED}={secrets.randbelow(2**32)}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Keep the command; at the end a table of all jobs. Exits with 1 where one isn't finished.

        Raises:
            ValueError: the folder has a run.
        """
        if (self.folder / "config.yaml").exists():
            raise ValueError(f"hydra.sweep.dir={self.folder} has a run: give the sweep a folder of its own")
        self.folder.mkdir(parents=True, exist_ok=True)
        new = not (self.folder / COMMAND).exists()
        if new:
            self._keep_command()
        jobs_of(self.folder)  # a damaged file of it is told before any job runs
        through = False
        try:
            yield
            through = True
        finally:
            rows = jobs_of(self.folder)
            if new and not rows and not through:
                self._remove()  # such as a key that is not there: no job could be composed
            else:
                print(table(self.folder, rows, "" if through else " that were begun"), flush=True)
        if not self.refused:
            self._keep_command()
        if self.failed or any(row["status"] != "finished" for row in rows):
            raise SystemExit(1)

    def _remove(self) -> None:
        for name in (COMMAND, "multirun.yaml"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # it had something else
            self.folder.rmdir()

    def _keep_command(self) -> None:
        write_safely(self.folder / COMMAND, json.dumps({"command": self.command}, indent=2) + "\n")

    def run_job(self, cfg: DictConfig, begin: Run, go_on: Callable[[Path], None], show: bool) -> float | None:
        """Run a job unless it is finished; resume it where it has a checkpoint; tell its failure.

        Args:
            cfg: the job's config.
            begin: trains with it.
            go_on: resumes the run in a folder.
            show: tracebacks, of all errors.

        Returns:
            The monitor's best value, which an optimizing sweeper follows.
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
                    f"{folder}: {cfg.monitor} was undefined in every validation, and the sweeper follows it: "
                    "monitor a figure that the labels of the validation images define"
                )
            if best is None and not sweeps_all:
                raise ValueError(
                    f"{folder} has no best checkpoint, and so no value of {cfg.monitor} for the sweeper to follow: "
                    "it needs callbacks=[checkpoints], trainer.enable_checkpointing=true and a validation"
                )
        except Exception as error:
            self.failed.append(number)
            text = None if show else shown(error)
            print(f"{name} failed", text or traceback.format_exc().rstrip(), sep="\n", file=sys.stderr, flush=True)
            if not self.refused and not (folder / "results.json").exists():
                content = {
                    "status": "failed",
                    "monitor": cfg.monitor,
                    "error": without_values(line(error), secret_values()),
                }
                write_safely(folder / "results.json", json.dumps(content, indent=2) + "\n")
            if not sweeps_all:
                raise  # an optimizing one is to know; the basic one would raise it again at the end
            return None
        return best["value"] if best else None

    def _claim(self, folder: Path, number: int, overrides: list[str]) -> None:
        """Raises ValueError where the folder has another job's run."""
        _mask_file(self.folder / "multirun.yaml")
        file = folder / JOB
        mine: dict[str, Any] = {"number": number, "overrides": [masked(word) for word in overrides]}
        theirs = _job(file) if file.exists() else mine
        if theirs != mine or (not file.exists() and (folder / "config.yaml").exists()):
            self.refused = True
            said = " ".join(theirs["overrides"]) if file.exists() else "a run that is no job of a sweep"
            raise ValueError(
                f"{folder} has another job's run: {said}\n"
                "Give the sweep a folder of its own: hydra.sweep.dir=<folder>.\n"
                f"An optimizing sweep proposes the same again only with the same {SEED}="
            )
        write_safely(file, json.dumps(mine, indent=2) + "\n")


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the command line asks for one."""
    return any(word in SWITCHES for word in words)


def with_sweeps_command(typed: list[str], keys: Sequence[str]) -> list[str]:
    """The command to run: what was typed, or with `resume=<sweep folder>` the sweep's own, in its folder.

    Raises:
        ValueError: more was typed beside it, the command had a secret or is none of fovea's own, or a single run was to
            be swept over.
    """
    said = [word for word in typed if "resume" in keys and word.startswith("resume=")]
    folder = Path(value_of(said[0])).absolute() if said else Path()
    if not said or not (folder / COMMAND).is_file() or (folder / "config.yaml").exists():
        if said and is_sweep(typed):
            raise ValueError(f"{said[0]} is no sweep's folder: without -m it goes on with that one run")
        return typed
    others = [word for word in typed if word not in (*SWITCHES, *said)]
    if others:
        raise ValueError(f"{others[0]} can't be typed beside {said[0]}: a sweep goes on as it was begun")
    command = kept_command(folder)
    if any(HIDDEN in word for word in command):
        raise ValueError(
            f"{folder / COMMAND}: the command had a secret, which isn't kept:\n  {' '.join(command)}\n"
            f"Type it again, with hydra.sweep.dir={folder}"
        )
    strange = next(filter(_is_strange, command), None)
    if strange:
        raise ValueError(
            f"{folder / COMMAND}: {strange} could run other code, or write elsewhere, so it is not taken from a file\n"
            + _again(folder)
        )
    return ["-m", *command, with_value("hydra.sweep.dir", folder)]


def kept_command(folder: Path) -> list[str]:
    """Raises ValueError where the file is damaged."""
    return [str(word) for word in read_json(folder / COMMAND, {"command": list}, _again(folder))["command"]]


def _again(folder: Path) -> str:
    return f"type the sweep's command again, with hydra.sweep.dir={folder}"


def _is_strange(word: str) -> bool:
    """Whether a word that somebody else may have written down reaches beyond the keys and groups of conf/."""
    key, _, value = word.lstrip("+~").partition("=")
    if word.startswith("-") or ".." in word:
        return True
    if key.startswith("hydra"):  # a launcher may take lines of a shell
        return not (key == "hydra/sweeper" or key.startswith("hydra.sweeper.")) or "_target_" in word
    named = value if key.endswith("_target_") else ",".join(re.findall(r"_target_['\"]?\s*:\s*([^,}\]]*)", value))
    targets = [text.strip(" '\"") for text in named.split(",") if text]
    inner = re.findall(r"([\w.]+)['\"]?\s*:", value)  # the keys of a mapping
    return not all(map(allowed, targets)) or any(
        reaches_out(f"{key}.{name}".rstrip("."), value) for name in ["", *inner]
    )


def in_folder(arguments: list[str], folder: Path) -> list[str]:
    """The command line with a sweep's folder; -m first, for argparse takes overrides in one place only."""
    dropped = (*SWITCHES, *(word for word in arguments if word.startswith("hydra.sweep.dir=")))
    return ["-m", *(word for word in arguments if word not in dropped), with_value("hydra.sweep.dir", folder)]


def masked(word: str) -> str:
    """`key=value` without a secret value."""
    return without_secrets(word, secret_values())


def _mask_file(file: Path) -> None:
    """Hydra writes down every word that was typed."""
    text = file.read_text("utf-8") if file.exists() else ""
    clean = without_secrets(text, secret_values())
    if clean != text:
        write_safely(file, clean)


def _can_go_on(folder: Path) -> bool:
    return bool(existing(folder, TO_RESUME)) and (folder / "config.yaml").exists()


def outcome_of(folder: Path) -> dict[str, Any]:
    """A run's results.json, with what it may lack before there is any."""
    return {"status": "not begun", "best": None, "monitor": ""} | results_of(folder)


def _job(file: Path) -> dict[str, Any]:
    remedy = f"take {file.parent} away, and the job is done again"
    return read_json(file, {"number": int, "overrides": list}, remedy)


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """{"number", "overrides", "status", "monitor", "value"} of each job in a sweep's folder, by number."""
    rows = []
    for file in folder.glob(f"**/{JOB}"):
        results = outcome_of(file.parent)
        value = results["best"]["value"] if results["best"] else None
        about = {key: results[key] for key in ("status", "monitor")} | {"value": value}
        rows.append(_job(file) | about)
    return sorted(rows, key=lambda row: row["number"])


def table(folder: Path, rows: Sequence[dict[str, Any]], which: str = "") -> str:
    """A line for each job, with those of its overrides that not all jobs have; `which` says it where there are more."""
    common = set.intersection(*(set(row["overrides"]) for row in rows)) if len(rows) > 1 else set()
    finished = sum(row["status"] == "finished" for row in rows)
    cells = [["job", "overrides", "status", rows[0]["monitor"] if rows else ""]]
    for row in rows:
        own = " ".join(word for word in row["overrides"] if word not in common)
        cells.append([str(row["number"]), own, row["status"], "" if row["value"] is None else f"{row['value']:.4f}"])
    widths = [max(len(line[k]) for line in cells) for k in range(4)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    again = "" if finished == len(rows) and not which else f"\nto do what is missing: resume={folder}"
    return "\n".join([f"sweep {folder}: {finished} of {len(rows)} jobs{which} are finished", *lines]) + again
