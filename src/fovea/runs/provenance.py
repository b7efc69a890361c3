"""provenance.json: where a run came from, an entry for each start; and what is no longer as it was."""

import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fovea.config.resolvers import PROJECT
from fovea.config.secrets import everywhere, secret_values, without_secrets
from fovea.data.fingerprint import Difference, compare
from fovea.files import read_json
from fovea.runs.results_file import results_of
from fovea.runs.run_folder import write_json

log = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "torchcodec", "lightning", "hydra-core", "omegaconf", "torchmetrics", "pillow")
FOLDERS = ("RUNS_DIR", "DATA_DIR", "IMAGENET_DIR")
CODE = ("src", "conf", "scripts")  # where new files that git does not know yet belong to the run
LARGEST = 200_000  # bytes of such a file


def start(seed: int, data: dict[str, Any], world_size: int) -> dict[str, Any]:
    """This start's entry; `data` is their fingerprint. No secret is in it."""
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "argv": list(sys.argv),
        "environment": {name: os.environ.get(name) for name in FOLDERS},
        "seed": seed,
        "devices": world_size,
        "data_fingerprint": data,
        "git": git_state(PROJECT),
        "versions": {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES},
        "hardware": hardware(),
    }
    values = secret_values()
    clean = everywhere(entry, lambda text: without_secrets(text, values))
    assert isinstance(clean, dict)
    return clean


def starts(folder: Path) -> list[dict[str, Any]]:
    """The run's, the last one last; none where it has no provenance.json."""
    file = folder / "provenance.json"
    if not file.exists():
        return []
    entries: list[dict[str, Any]] = read_json(file, {"starts": list}, "remove it to go on without it")["starts"]
    return entries


def add(folder: Path, entry: dict[str, Any]) -> None:
    """Write down this start: one entry for the run, one for each time it was resumed."""
    write_json(folder / "provenance.json", {"starts": [*starts(folder), entry]})


def go_on(folder: Path, entry: dict[str, Any], forced: Sequence[str], force: bool) -> dict[str, Any]:
    """Say what is not as it was when the run in `folder` last started.

    Returns:
        This start's entry, with what was forced and, where the run had come to an end before (trainer.max_steps), the
        step of it, for which metrics.csv has a row that a run of one go has not.

    Raises:
        ValueError: the data are other ones, and `force` is not set.
    """
    data = other_data(folder, entry["data_fingerprint"])
    if data and data.certain and not force:
        raise ValueError(
            f"resume={folder}: the data are no longer the run's ({data.text})\n"
            "force=true goes on with these; no command repeats such a run\n"
            f"To begin a new run from its weights: weights={folder}/checkpoints/last.ckpt"
        )
    if data and not data.certain:
        log.warning("the data may be no longer the run's: %s", data.text)
    forced = [*forced, *([f"data: {data.text}"] if data and data.certain else [])]
    if forced:
        log.warning(
            "force=true: from here on, not what the run began with: %s\nAn epoch that was under way goes on at the "
            "same batch's number, or begins again where it has fewer batches now",
            "; ".join(forced),
        )
    for line in starts(folder)[-1:] and changes(starts(folder)[-1], entry):
        log.warning("not as at the last start: %s", line)
    return entry | {"forced": forced, "ended_at": results_of(folder).get("steps")}


def say_other_data(run: Path, data: dict[str, Any], same_source: bool) -> None:
    """Warn where the data are not what the run in `run` last started with though they should be; else just say it."""
    found = other_data(run, data)
    if found is None:
        return
    if not same_source:
        log.info("not the run's own data: %s", found.text)
        return
    log.warning("the data %s the run's: %s", "are no longer" if found.certain else "may be no longer", found.text)


def other_data(run: Path, data: dict[str, Any]) -> Difference | None:
    """How data of this fingerprint differ from those that the run in `run` last started with."""
    known = [one["data_fingerprint"] for one in starts(run)][-1:]
    if not known:
        return None
    then = known[0] if isinstance(known[0], dict) else {"images": known[0]}  # runs from before there was more
    return compare(then, data)


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What may make results differ, of code, libraries and machine, and how: a line each, none where nothing does."""
    lines = []
    devices = _others({"devices": then.get("devices", now["devices"])}, now)
    if devices:
        lines.append(
            f"{', '.join(devices)}. Order and augmentation stay the same; the sums' order, BatchNorm's statistics and "
            "dropout follow from the devices, so the weights are no longer bit for bit the same"
        )
    machine = [*_others(then["hardware"], now["hardware"]), *_others(then["versions"], now["versions"])]
    if machine:
        lines.append(
            f"{', '.join(machine)}. Order and augmentation stay the same; the weights may no longer be bit for bit"
        )
    return lines + _other_code(then["git"], now["git"])


def _others(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Of the keys that both have."""
    return [f"{key} {then[key]} then, {now[key]} now" for key in then if key in now and then[key] != now[key]]


def _other_code(then: dict[str, str] | None, now: dict[str, str] | None) -> list[str]:
    if then is None or now is None:
        return [] if then is now else ["the code: in a git repository only once, so it can't be compared"]
    if then["commit"] != now["commit"]:
        return [f"the code: commit {then['commit'][:10]} then, {now['commit'][:10]} now"]
    if then["diff"] != now["diff"]:
        return ["the code: the same commit, with other changes that are not committed"]
    return []


def version_of(package: str) -> str | None:
    """None where it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, str] | None:
    """{"commit", "status", "diff"} of the tree that the code runs from, or None outside of one.

    The diff has new files too, where they are text below CODE of LARGEST bytes at most, and no .env* but .env.example;
    `git apply` takes it.
    """

    def git(*words: str) -> str:
        options = ("--no-optional-locks", "-c", "core.quotepath=false")
        done = subprocess.run(["git", "-C", str(folder), *options, *words], capture_output=True, check=False)
        if done.returncode not in (0, 1) or (done.returncode == 1 and "--no-index" not in words):
            raise subprocess.CalledProcessError(done.returncode, "git")
        return done.stdout.decode(errors="replace")

    plain = ("diff", "--no-ext-diff", "--no-textconv", "--no-color")
    secrets, example = ":(exclude,glob)**/.env*", ":(glob)**/.env.example"
    try:
        commit, status = git("rev-parse", "HEAD").strip(), git("status", "--porcelain", "--", ".")
        diff = git(*plain, "HEAD", "--", ".", secrets) + git(*plain, "HEAD", "--", example)
        new = git("ls-files", "-z", "--others", "--exclude-standard", "--", *CODE, secrets).split("\0")
        for name in sorted(name for name in new if name and _is_small(folder / name)):
            diff += git(*plain, "--no-index", "--", os.devnull, name)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "status": status, "diff": diff}


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= LARGEST


def hardware() -> dict[str, Any]:
    """What the run ran on, and the settings that decide which of its algorithms are used."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "cudnn": torch.backends.cudnn.version() if gpus else None,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def _cpu() -> str:
    """The model where the system says it, and the instructions that torch uses of it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
