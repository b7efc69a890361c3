"""A run's folder: its config, where it came from, what came out of it."""

import csv
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "torchmetrics")


def best_or_last(folder: Path) -> Path:
    """The run's best checkpoint; its last one where it was stopped before any validation.

    Raises:
        ValueError: the run has neither.
    """
    for name in ("best.ckpt", "last.ckpt"):
        if (folder / "checkpoints" / name).is_file():
            return folder / "checkpoints" / name
    raise ValueError(f"{folder}: the run has no checkpoint yet (checkpoints/best.ckpt or last.ckpt)")


def last_checkpoint(folder: Path) -> Path:
    """Where a resumed run goes on.

    Raises:
        ValueError: the run was stopped before its first checkpoint.
    """
    file = folder / "checkpoints" / "last.ckpt"
    if not file.is_file():
        raise ValueError(
            f"resume={folder}: the run stopped before its first checkpoint: start it again without resume="
        )
    return file


def write_json(file: Path, content: Any) -> None:
    """Written beside and renamed: whoever reads it sees the old one or the new one, whole."""
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, file)


class Results:
    """results.json of one run, true of the last thing that happened. Of a run's processes only one `writes`."""

    def __init__(self, folder: Path, monitor: str, writes: bool) -> None:
        self.file, self.writes = folder / "results.json", writes
        before = json.loads(self.file.read_text("utf-8")) if self.file.exists() else {}
        self.content: dict[str, Any] = before | {"status": "running", "monitor": monitor}
        self.content.pop("error", None)
        self.seconds_before, self.started = before.get("seconds", 0.0), time.monotonic()

    def update(self, **values: Any) -> None:
        seconds = round(self.seconds_before + time.monotonic() - self.started, 1)
        self.content |= values | {"seconds": seconds}
        if self.writes:
            write_json(self.file, self.content)

    @contextmanager
    def status(self) -> Iterator[None]:
        """`running` inside; then `finished`, `interrupted` or `failed` with the error's line."""
        self.update()
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            self.update(status="interrupted")
            raise SystemExit(130) from stop
        except BaseException as error:
            line = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
            self.update(status="failed", error=line)
            raise
        self.update(status="finished")


def write_provenance(folder: Path, seed: int, fingerprint: str) -> None:
    """Add this start to provenance.json: one entry for the run, one for each time it was resumed."""
    file = folder / "provenance.json"
    starts = json.loads(file.read_text("utf-8"))["starts"] if file.exists() else []
    starts.append(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "argv": sys.argv,
            "seed": seed,
            "data_fingerprint": fingerprint,
            "git": git_state(Path(__file__).parent),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "hardware": hardware(),
        }
    )
    write_json(file, {"starts": starts})


def git_state(folder: Path) -> dict[str, str] | None:
    """{"commit", "diff"} of the tree that the code runs from, or None outside of one. `.env` is never in a diff."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "diff": git("diff", "HEAD", "--", ":!.env")}
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware() -> dict[str, Any]:
    """What the run ran on."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def fitted(trainer: Trainer) -> dict[str, Any]:
    """What results.json says of the training: its length, its speed, its best checkpoint."""
    speed = trainer.callback_metrics.get("train/images_per_second")
    return {
        "best": _best(trainer),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "train_images_per_second": round(speed.item(), 1) if speed is not None else None,
    }


def _best(trainer: Trainer) -> dict[str, Any] | None:
    keeper = trainer.checkpoint_callback
    if not isinstance(keeper, ModelCheckpoint) or not keeper.best_model_path:
        return None
    file = Path(keeper.best_model_path)
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    score = None if keeper.best_model_score is None else keeper.best_model_score.item()
    return {
        "checkpoint": f"{file.parent.name}/{file.name}",
        "epoch": state["epoch"],
        "step": state["global_step"],
        "value": score,
    }


def figures(trainer: Trainer, split: str) -> dict[str, float]:
    """{metric: value} of what was logged under `<split>/`."""
    logged = {name.partition("/"): value.item() for name, value in trainer.callback_metrics.items()}
    return {name: value for (first, _, name), value in logged.items() if first == split}


def in_words(figures: Mapping[str, float]) -> str:
    """One line for the log."""
    return "  ".join(f"{name} {value:.4f}" for name, value in sorted(figures.items()))


def write_per_class(file: Path, class_names: Sequence[str], metrics: Mapping[str, Tensor]) -> None:
    """A CSV with a line for each class; what is not defined for a class is left empty."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["class", *metrics])
        columns = [column.tolist() for column in metrics.values()]
        for k, name in enumerate(class_names):
            writer.writerow([name, *("" if c[k] != c[k] else round(c[k], 6) for c in columns)])
