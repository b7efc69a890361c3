"""Checkpoint files: written so that a kill or a full disk can't spoil them, read so that no code in them is run."""

import logging
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from pickle import PicklingError
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from fovea.files import atomic_write
from fovea.runs.checkpoint_names import TO_EVALUATE, TO_RESUME, existing

log = logging.getLogger(__name__)

NEEDED = (  # to go on with a training
    *("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks"),
    *("running", "last_logged_step"),
)


class SafeCheckpointIO(CheckpointIO):
    """Lightning writes into the system's temporary folder, and over the old file where that is another file system.

    The first checkpoint is read back as resume= reads it, and so is each one that has other keys or types than the
    one before it: a state that can't be read again is found now, not when the run is resumed.
    """

    def __init__(self) -> None:
        self.layout: frozenset[Any] | None = None  # of the checkpoint that was written last

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the file; where that fails, what was there before is intact.

        Raises:
            OSError: naming the file.
            ValueError: naming the callback and the value that could not be read again.
        """
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        layout = frozenset(_layout(checkpoint))
        try:
            with atomic_write(file, file.with_suffix(".tmp")) as temporary:
                fault = _write(checkpoint, temporary)
                if fault is None and layout != self.layout:
                    fault = _damage(temporary)
                if fault is not None:
                    raise ValueError(_culprit(checkpoint, file, fault.removeprefix(str(temporary)).strip()))
        except OSError as error:
            what = f"the checkpoint could not be written ({error.strerror})"
            raise OSError(error.errno, what, str(file)) from None
        self.layout = layout

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain containers; whatever is asked for, no code in the file is run."""
        content: dict[str, Any] = read(Path(path), mapped=False)
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def _write(checkpoint: Any, file: Path | BytesIO) -> str | None:
    """Why the content can't be written, or None; what the system refuses is raised."""
    try:
        if isinstance(file, BytesIO):
            torch.save(checkpoint, file)
        else:
            with open(file, "wb") as out:
                torch.save(checkpoint, out)
    except (PicklingError, AttributeError, TypeError) as error:  # what pickle says of functions, locks, open files
        return f"can't be written ({error})"
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch's zip writer hides what the system said
            raise error.__context__ from None
        raise
    return None


def _layout(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """(keys..., type) of every value; the elements of a list count by their type alone."""
    yield (*place, type(node))
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _layout(value, (*place, key, type(key)))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _layout(value, (*place, None))


def _culprit(checkpoint: dict[str, Any], file: Path, fault: str) -> str:
    """The error for a checkpoint that could not be resumed from, with the value that is at fault."""
    places = [*_unreadable(checkpoint)]
    if not places:
        return f"{file}: what was just written {fault}\nEvery value of it can be read alone: the disk may be at fault"
    lines = [f"{file} would be no checkpoint to go on from: it {fault}"]
    for (first, *keys), value in places[:3]:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        of = f"the state of the callback {keys.pop(0)}" if first == "callbacks" and keys else f"checkpoint[{first!r}]"
        lines.append(f"{of}: {'.'.join(map(str, keys)) or 'all of it'} is a {kind} ({str(value)[:60]})")
    remedy = "state_dict() and on_save_checkpoint() may give tensors, numbers, text, lists and dicts only: "
    return "\n".join([*lines, remedy + "float(x), x.tolist(), str(x)"])


def _unreadable(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """((keys...), value) of the innermost values that could not be read again; each is tried alone."""
    if type(node) in (Tensor, int, float, bool, str, type(None)) or _can_be_read(node):
        return
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    within = [found for key, value in items for found in _unreadable(value, (*place, key))]
    yield from within or [(place, node)]


def _can_be_read(value: Any) -> bool:
    content = BytesIO()
    if _write(value, content) is not None:
        return False
    content.seek(0)
    try:
        torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # an unpickler raises anything
        return False
    return True


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
    files = [file for file in [Path(named)] if file.is_file()] if named else existing(run, TO_EVALUATE)
    there = next(iter(files), None)
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
    for file in existing(folder, TO_RESUME):
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
    damage = _damage(file)
    if damage is not None:
        return damage
    content = read(file)
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    return f"{file} is no checkpoint of a training: it has no {', '.join(missing)}" if missing else None


def _damage(file: Path) -> str | None:
    """Why this file can't be read, naming it, or None."""
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
        read(file)
    except ValueError as error:
        return str(error)
    return None
