"""Checkpoint files: written so that a kill or a full disk can't spoil them, read so that no code in them is run."""

import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from fovea.config.files import GO_ON_FROM, replacing

log = logging.getLogger(__name__)

NEEDED = (  # to go on with a training
    *("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks"),
    *("running", "last_logged_step"),
)


class SafeCheckpointIO(CheckpointIO):
    """Lightning writes into the system's temporary folder, and over the old file where that is another file system."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises OSError naming the file, with what was there before intact."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".tmp")
        try:
            with replacing(file, beside), open(beside, "wb") as out:
                torch.save(checkpoint, out)
        except OSError as error:
            what = f"the checkpoint could not be written ({error.strerror})"
            raise OSError(error.errno, what, str(file)) from None

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain containers; whatever is asked for, no code in the file is run."""
        content: dict[str, Any] = read(Path(path), mapped=False)
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read(file: Path, mapped: bool = True) -> Any:
    """Tensors on the CPU and plain containers.

    Args:
        file: what torch.save wrote.
        mapped: tensors are read from the disk when they are used.

    Raises:
        ValueError: it names code, which is not run, or is damaged.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # an unpickler raises anything
        raise ValueError(f"{file} {_reason(error)}") from error


def _reason(error: Exception) -> str:
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named:
        return f"holds an object, {named[1]}, and building it would run code named in the file"
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return f"is damaged, or no checkpoint of plain data ({first}): copy it again"


def to_evaluate(run: Path, named: str | None) -> Path:
    """The checkpoint that was named; or the run's best one, or its last where it was stopped before any validation.

    Raises:
        ValueError: there is none, or not one of plain data: some of Lightning's strategies would load it nevertheless.
    """
    files = [Path(named)] if named else [run / "checkpoints" / name for name in ("best.ckpt", *GO_ON_FROM)]
    there = next((file for file in files if file.is_file()), None)
    if there is None:
        raise ValueError(f"{run}: the run has no checkpoint yet (checkpoints/best.ckpt or last.ckpt)")
    read(there)
    return there


def last_good(folder: Path) -> Path:
    """Where a resumed run goes on: checkpoints/last.ckpt; the one before it where that is damaged, which is said.

    new.ckpt is there, whole, where a kill came before it was given the name of last.ckpt.

    Raises:
        ValueError: neither is there and whole.
    """
    damaged: list[str] = []
    for name in GO_ON_FROM:
        file = folder / "checkpoints" / name
        if not file.is_file():
            continue
        fault = fault_of(file)
        if fault is None:
            for line in damaged:
                log.error("%s; going on from the one before it, %s", line, file)
            return file
        damaged.append(fault)
    if not damaged:
        raise ValueError(
            f"resume={folder}: there is no {folder}/checkpoints/last.ckpt: start the run again without resume="
        )
    remedy = "Start a new run from the best one: weights=<run folder>/checkpoints/best.ckpt"
    raise ValueError("\n".join([*damaged, remedy]))


def to_start_from(file: Path) -> Path:
    """What ckpt_path= names. Raises ValueError where a training can't take up its state."""
    fault = fault_of(file)
    if fault:
        raise ValueError(f"ckpt_path={fault}\nweights=<file> takes the weights of a file, and nothing else")
    return file


def fault_of(file: Path) -> str | None:
    """Why a training can't go on from this file, naming it, or None. Every byte is read, no code in it is run."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()  # compares checksums
    except zipfile.BadZipFile:
        return f"{file} is damaged: cut short, or no checkpoint"
    except Exception as error:  # of a damaged archive zipfile raises a lot
        return f"{file} is damaged ({error})"
    if bad:
        return f"{file} is damaged (in {bad})"
    try:
        content = read(file)
    except ValueError as error:
        return str(error)
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    return f"{file} is no checkpoint of a training: it has no {', '.join(missing)}" if missing else None
