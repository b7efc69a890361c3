"""Checkpoint files that a kill or a full disk can't spoil."""

import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from fovea.config.files import GO_ON_FROM

log = logging.getLogger(__name__)

NEEDED = (  # to go on with a training
    *("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks"),
    *("running", "last_logged_step"),
)


class SafeCheckpointIO(CheckpointIO):
    """Writes beside, flushes to the disk, renames: whoever reads sees the old file or the new one, whole.

    Lightning's own writes into the system's temporary folder; where that is another file system, the old file is
    overwritten byte by byte.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises OSError naming the file, with what was there before intact."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".tmp")
        try:
            with open(beside, "wb") as out:
                torch.save(checkpoint, out)
                out.flush()
                os.fsync(out.fileno())
        except BaseException as error:
            beside.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else error.__context__  # torch's zip writer covers it up
            if isinstance(cause, OSError):
                what = f"the checkpoint could not be written ({cause.strerror})"
                raise OSError(cause.errno, what, str(file)) from None
            raise
        os.replace(beside, file)
        sync_folder(file.parent)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain containers; whatever is asked for, no code in the file is run."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A rename survives a power cut only once its folder is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        damaged.append(f"{file} {fault}")
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
        raise ValueError(f"ckpt_path={file} {fault}\nweights=<file> takes the weights of a file, and nothing else")
    return file


def fault_of(file: Path) -> str | None:
    """Why a training can't go on from this file, or None. Every byte is read, no code in it is run."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()  # compares checksums
        if bad:
            return f"is damaged (in {bad})"
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except zipfile.BadZipFile:
        return "is damaged: cut short, or no checkpoint"
    except Exception as error:  # an unpickler raises anything
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it names {code[1]}, code that is not run"
            if code
            else (str(error) or type(error).__name__).splitlines()[0]
        )
        return f"is no checkpoint of plain data: {reason}"
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    return f"is no checkpoint of a training: it has no {', '.join(missing)}" if missing else None
