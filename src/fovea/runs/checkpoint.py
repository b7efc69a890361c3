"""Writes checkpoints atomically (temporary file, fsync, rename) and loads them without executing code in them."""

import logging
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from pickle import PicklingError
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from fovea.config.checkpoint_config import check_to_evaluate
from fovea.files import atomic_write
from fovea.runs.checkpoint_names import TO_EVALUATE, TO_RESUME, existing

log = logging.getLogger(__name__)

NEEDED = (  # keys that a training needs to resume
    *("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks"),
    *("running", "last_logged_step"),
)


class SafeCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically and checks that they can be loaded.

    Lightning's own is not atomic if the system's temporary folder is on another file system. The first checkpoint, and
    each one with other keys or types than the one before, is loaded again as resume= loads it, so that a state that
    can't be resumed from is an error at once.
    """

    def __init__(self) -> None:
        self.layout: frozenset[Any] | None = None  # keys and types of the last checkpoint
        self.seconds = 0.0  # spent on saving

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the file; if this fails, an existing file stays as it was.

        Raises:
            OSError: the file can't be written.
            ValueError: a value could not be read again; the message names it and its callback.
        """
        file, start = Path(path), time.perf_counter()
        file.parent.mkdir(parents=True, exist_ok=True)
        layout = frozenset(_layout(checkpoint))
        try:
            with atomic_write(file, file.with_suffix(".tmp")) as temporary:
                fault = _write(checkpoint, temporary)
                if fault is None and layout != self.layout:
                    fault = _damage(temporary)
                if fault is not None:
                    raise ValueError(_unreadable_message(checkpoint, file, fault.removeprefix(str(temporary)).strip()))
        except OSError as error:
            text = f"the checkpoint could not be written ({error.strerror})"
            raise OSError(error.errno, text, str(file)) from None
        self.layout = layout
        self.seconds += time.perf_counter() - start

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return tensors and plain containers. Code in the file is never executed, even if `weights_only` is False."""
        content: dict[str, Any] = read(Path(path), mapped=False)
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def _write(checkpoint: Any, file: Path | BytesIO) -> str | None:
    """Write the content and return None, or the reason if pickle can't store it; errors of the system are raised."""
    try:
        if isinstance(file, BytesIO):
            torch.save(checkpoint, file)
        else:
            with open(file, "wb") as out:
                torch.save(checkpoint, out)
    except (PicklingError, AttributeError, TypeError) as error:  # pickle's errors for functions, locks and open files
        return f"can't be written ({error})"
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch's zip writer hides the system's error
            raise error.__context__ from None
        raise
    return None


def _layout(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield (keys..., type) of every value; elements of a list have no key."""
    yield (*place, type(node))
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _layout(value, (*place, key, type(key)))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _layout(value, (*place, None))


def _unreadable_message(checkpoint: dict[str, Any], file: Path, fault: str) -> str:
    """Return the error for a checkpoint that could not be resumed from; it names up to three values at fault."""
    places = [*_unreadable(checkpoint)]
    if not places:
        return f"{file} {fault}\nIt was just written, each of its values can be read alone: the disk may be at fault"
    lines = [f"a run could not be resumed from {file}: it {fault}"]
    for (first, *keys), value in places[:3]:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        part = f"the state of the callback {keys.pop(0)}" if first == "callbacks" and keys else f"checkpoint[{first!r}]"
        lines.append(f"{part}: {'.'.join(map(str, keys)) or 'all of it'} is a {kind} ({str(value)[:60]})")
    remedy = "state_dict() and on_save_checkpoint() may store tensors, numbers, text, lists and dicts only: "
    return "\n".join([*lines, remedy + "float(x), x.tolist(), str(x)"])


def _unreadable(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield ((keys...), value) of the innermost values that can't be read again; each value is tried alone."""
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
    """Load a file of torch.save: tensors on the CPU and plain containers.

    Args:
        file: the checkpoint.
        mapped: map the file into memory, so that tensors are read from the disk when they are used.

    Raises:
        ValueError: the file is damaged, or holds an object whose code would have to be executed.
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
    return f"is damaged, or not a checkpoint of plain data ({first}): copy it again"


def stored_config(file: Path) -> dict[str, Any]:
    """Return the config in a checkpoint; empty for a file of weights alone. Raises ValueError as `read` does."""
    content = read(file)
    config = content.get("config") if isinstance(content, dict) else None
    return config if isinstance(config, dict) else {}


def to_evaluate(run: Path, named: str | None, config: Mapping[str, Any] | None = None) -> Path:
    """Return the named checkpoint, else the run's best, else its last if it was stopped before any validation.

    Args:
        run: the run's folder.
        named: a checkpoint, perhaps of another run; None: the run's own.
        config: of the evaluation, as plain containers; None: `named` is not compared with it.

    Raises:
        ValueError: there is no checkpoint; it is not plain data (some of Lightning's strategies would load it); or it
            is of another run, with other classes, network or preprocessing.
    """
    files = [file for file in [Path(named)] if file.is_file()] if named else existing(run, TO_EVALUATE)
    file = next(iter(files), None)
    if file is None:
        raise ValueError(f"{run}: the run has no checkpoint yet (checkpoints/best.ckpt or last.ckpt)")
    stored = stored_config(file)
    if named and config is not None:
        check_to_evaluate(file, stored, config, run)
    return file


def to_resume(folder: Path) -> Path:
    """Return the checkpoint to resume from: last.ckpt or, if it is damaged, previous.ckpt with a log line.

    If the run was killed before new.ckpt was renamed to last.ckpt, new.ckpt is used.

    Raises:
        ValueError: there is no checkpoint, or all are damaged.
    """
    damaged: list[str] = []
    for file in existing(folder, TO_RESUME):
        fault = fault_of(file)
        if fault is None:
            for line in damaged:
                log.error("%s; resuming from the checkpoint before it, %s", line, file)
            return file
        damaged.append(fault)
    if not damaged:
        raise ValueError(
            f"resume={folder}: there is no {folder}/checkpoints/last.ckpt: start the run again without resume="
        )
    remedy = "Start a new run from the best checkpoint: weights=<run folder>/checkpoints/best.ckpt"
    raise ValueError("\n".join([*damaged, remedy]))


def to_start_from(file: Path) -> Path:
    """Return the file that ckpt_path= names. Raises ValueError if a training can't continue from its state."""
    fault = fault_of(file)
    if fault:
        raise ValueError(f"ckpt_path={fault}\nTo use only the weights of a file: weights=<file>")
    return file


def fault_of(file: Path) -> str | None:
    """Return why a training can't resume from this file, or None. Every byte is read; no code in it is executed."""
    damage = _damage(file)
    if damage is not None:
        return damage
    content = read(file)
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    return f"{file} is not a checkpoint of a training: it has no {', '.join(missing)}" if missing else None


def _damage(file: Path) -> str | None:
    """Return why the file can't be read, or None."""
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()  # compares checksums
    except zipfile.BadZipFile:
        return f"{file} is damaged: cut short, or not a checkpoint"
    except Exception as error:  # zipfile raises many classes of errors for a damaged archive
        return f"{file} is damaged ({error})"
    if bad:
        return f"{file} is damaged (in {bad})"
    try:
        read(file)
    except ValueError as error:
        return str(error)
    return None
