"""A run's folder: its config, where it came from, what came out of it."""

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from fovea.config.explain import message
from fovea.config.saved import SECRET

PACKAGES = ("torch", "torchvision", "torchcodec", "lightning", "hydra-core", "omegaconf", "torchmetrics", "pillow")


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
        ValueError: there is no such checkpoint, or it is damaged.
    """
    file = folder / "checkpoints" / "last.ckpt"
    try:
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise ValueError(f"resume={folder}: there is no {file}: start the run again without resume=") from None
    except Exception as error:  # a damaged file makes an unpickler raise anything
        raise ValueError(
            f"{file} is damaged ({str(error).splitlines()[0]})\n"
            "Start a new run from the best one: ckpt_path=<run folder>/checkpoints/best.ckpt"
        ) from error
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
        self.begun = not before

    def update(self, **values: Any) -> None:
        """Write what is known now, and `values`."""
        self.begun = True
        seconds = round(self.seconds_before + time.monotonic() - self.started, 1)
        self.content |= values | {"seconds": seconds}
        if self.writes:
            write_json(self.file, self.content)

    @contextmanager
    def status(self) -> Iterator[None]:
        """`running` inside; then `finished`, `interrupted` or `failed` with the error's line.

        A run that is resumed keeps what it had until the first `update`: a resume that is refused changes nothing.
        """
        if self.begun:
            self.update()
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            if self.begun:
                self.update(status="interrupted")
            raise SystemExit(130) from stop
        except BaseException as error:
            if not self.begun:
                raise
            self.update(status="failed", error=f"{type(error).__name__}: {message(error).splitlines()[0]}")
            raise
        self.update(status="finished")


@contextmanager
def own_processes() -> Iterator[None]:
    """Take down the processes' group and its variables after a job: a sweep's next job starts processes of its own."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def everyones(files: set[str]) -> list[str]:
    """The files of all ranks together."""
    sets = [files]
    if torch.distributed.is_initialized():
        sets = [set()] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(sets, files)
    return sorted(set.union(*sets))


def write_provenance(folder: Path, seed: int, fingerprint: str) -> None:
    """Add this start to provenance.json: one entry for the run, one for each time it was resumed."""
    file = folder / "provenance.json"
    starts = json.loads(file.read_text("utf-8"))["starts"] if file.exists() else []
    starts.append(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "argv": [_masked(word) for word in sys.argv],
            "seed": seed,
            "data_fingerprint": fingerprint,
            "git": git_state(Path(__file__).parent),
            "versions": {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES},
            "hardware": hardware(),
        }
    )
    write_json(file, {"starts": starts})


def _masked(word: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}=***" if equals and SECRET.search(key) else word


def version_of(package: str) -> str | None:
    """None where it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, str] | None:
    """{"commit", "status", "diff"} of the tree that the code runs from, or None outside of one; .env is in no diff.

    The status names new files that git does not know yet; the diff can't show them.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True)
        return done.stdout.decode(errors="replace")

    try:
        commit, status = git("rev-parse", "HEAD").strip(), git("status", "--porcelain")
        return {"commit": commit, "status": status, "diff": git("diff", "HEAD", "--", ":!.env")}
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
    if not file.is_file():
        return None
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
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out)
        writer.writerow(["class", *metrics])
        columns = [column.tolist() for column in metrics.values()]
        for k, name in enumerate(class_names):
            writer.writerow([name, *("" if c[k] != c[k] else round(c[k], 6) for c in columns)])
