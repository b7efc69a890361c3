"""Writes provenance.json, with code, data, versions and hardware of each start, and compares it with a later start."""

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
from fovea.config.secrets import map_texts, secret_values, without_secrets
from fovea.data.fingerprint import Difference, compare
from fovea.files import read_json
from fovea.runs.results_file import results_of
from fovea.runs.run_folder import write_json

log = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "torchcodec", "lightning", "hydra-core", "omegaconf", "torchmetrics", "pillow")
FOLDERS = ("RUNS_DIR", "DATA_DIR", "IMAGENET_DIR")
CODE = ("src", "conf", "scripts")  # folders whose untracked files belong to the diff
LARGEST = 200_000  # bytes; larger untracked files are left out


def start(seed: int, data: dict[str, Any], world_size: int) -> dict[str, Any]:
    """Return the entry of this start, secrets masked; `data` is the data's fingerprint."""
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
    clean = map_texts(entry, lambda text: without_secrets(text, values))
    assert isinstance(clean, dict)
    return clean


def starts(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of the run, the latest last; [] if there is no provenance.json."""
    file = folder / "provenance.json"
    if not file.exists():
        return []
    content = read_json(file, {"starts": list}, "remove the file to continue without it")
    entries: list[dict[str, Any]] = content["starts"]
    return entries


def add(folder: Path, entry: dict[str, Any]) -> None:
    """Append the entry of this start to provenance.json."""
    write_json(folder / "provenance.json", {"starts": [*starts(folder), entry]})


def resumed(folder: Path, entry: dict[str, Any], forced: Sequence[str], force: bool) -> dict[str, Any]:
    """Log what has changed since the last start of the run in `folder`, and return the entry of this start.

    The entry gets `forced`, the changes made with force=true, and `ended_at`, the step at which a run that is now
    prolonged had ended: metrics.csv has a row there that an uninterrupted run lacks.

    Raises:
        ValueError: the data have changed and `force` is not set.
    """
    data = changed_data(folder, entry["data_fingerprint"])
    if data and data.certain and not force:
        raise ValueError(
            f"resume={folder}: the data differ from the run's ({data.text})\n"
            "force=true continues with them; the run will then not be reproducible from one command\n"
            f"To begin a new run from its weights: weights={folder}/checkpoints/last.ckpt"
        )
    if data and not data.certain:
        log.warning("the data may differ from the run's: %s", data.text)
    forced = [*forced, *([f"data: {data.text}"] if data and data.certain else [])]
    if forced:
        log.warning(
            "force=true: from here on the run differs from its beginning: %s\n"
            "An unfinished epoch continues at the same batch number, or begins again if it has fewer batches now",
            "; ".join(forced),
        )
    for line in starts(folder)[-1:] and changes(starts(folder)[-1], entry):
        log.warning("changed since the last start: %s", line)
    return entry | {"forced": forced, "ended_at": results_of(folder).get("steps")}


def log_changed_data(run: Path, data: dict[str, Any], same_source: bool) -> Difference | None:
    """Log how the data differ from those of the run's last start; as a warning if they come from the same source.

    Returns:
        the difference; None if there is none.
    """
    found = changed_data(run, data)
    if found is None:
        return None
    if not same_source:
        log.info("not the run's own data: %s", found.text)
    else:
        log.warning("the data %s from the run's: %s", "differ" if found.certain else "may differ", found.text)
    return found


def changed_data(run: Path, data: dict[str, Any]) -> Difference | None:
    """Compare the fingerprint `data` with that of the run's last start; None if they are equal or there is none."""
    saved = [entry["data_fingerprint"] for entry in starts(run)][-1:]
    if not saved:
        return None
    then = saved[0] if isinstance(saved[0], dict) else {"images": saved[0]}  # old runs have one digest only
    return compare(then, data)


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each change of devices, machine, libraries or code that may change the results."""
    lines = []
    devices = _changed({"devices": then.get("devices", now["devices"])}, now)
    if devices:
        lines.append(
            f"{', '.join(devices)}. Order and augmentation stay the same, but summation order, BatchNorm's statistics "
            "and dropout depend on the devices, so the weights are no longer bit for bit the same"
        )
    machine = [*_changed(then["hardware"], now["hardware"]), *_changed(then["versions"], now["versions"])]
    if machine:
        lines.append(
            f"{', '.join(machine)}. Order and augmentation stay the same; the weights may differ in their last bits"
        )
    return lines + _changed_code(then["git"], now["git"])


def _changed(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the changes of the keys that both have."""
    return [f"{key} {then[key]} then, {now[key]} now" for key in then if key in now and then[key] != now[key]]


def _changed_code(then: dict[str, str] | None, now: dict[str, str] | None) -> list[str]:
    if then is None or now is None:
        return [] if then is now else ["the code: in a git repository at only one of the starts, so not comparable"]
    if then["commit"] != now["commit"]:
        return [f"the code: commit {then['commit'][:10]} then, {now['commit'][:10]} now"]
    if then["diff"] != now["diff"]:
        return ["the code: the same commit, with different uncommitted changes"]
    return []


def version_of(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, str] | None:
    """Return {"commit", "status", "diff"} of the git repository, or None if the folder is not in one.

    The diff includes untracked files below CODE of at most LARGEST bytes, but no .env* except .env.example. `git apply`
    accepts it.
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
    """Return the machine's hardware, and torch's settings that choose among its algorithms."""
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
    """Return the CPU's model (from /proc/cpuinfo, if it exists) and the instruction set that torch uses."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
