"""Writing a store (store.py says what one is): part by part, each by one process from its start to its end.

Nothing is ever taken for whole that isn't: a part is written beside and renamed, then the list of its images is;
store.json comes when every byte has been read back. Whatever stopped it, packing again goes on with the parts that are
there.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file

from fovea.data.fingerprint import fingerprint, relative
from fovea.data.index import Index, Task
from fovea.data.pixels.decode import UnreadableImage, read_file
from fovea.data.store import place
from fovea.data.store.encode import Format, encoded
from fovea.data.store.pack_workers import spread, step
from fovea.data.store.store import COLUMNS, STORE, VERSION, open_store, part_name, read_about
from fovea.data.store.verify import verify
from fovea.data.string_array import join
from fovea.files import atomic_write, short_digest, write_safely

PART_SIZE = 1024
SAMPLE = 256
Tell = Callable[[str, int, int], None]  # (what is being done, images done, images in all)


@dataclass(frozen=True)
class Source:
    """What is packed.

    Attributes:
        splits: "train", "val" and "test"; one that is another's very index is stored once.
        root: what the images' names are relative to.
        on_error: "raise", or "skip": an image that can't be read becomes an empty one.
    """

    task: Task
    class_names: Sequence[str]
    splits: Mapping[str, Index]
    root: str | None
    on_error: str = "raise"

    def __len__(self) -> int:
        return sum(map(len, self.indices()))

    def indices(self) -> list[Index]:
        """The splits that are stored."""
        return list({id(index): index for index in self.splits.values()}.values())

    def bounds(self) -> dict[str, list[int]]:
        """The number of each split's first image in the store, and the one after its last."""
        found: dict[str, list[int]] = {}
        first = 0
        for index in self.indices():
            found |= {split: [first, first + len(index)] for split, other in self.splits.items() if other is index}
            first += len(index)
        return found

    def part_count(self) -> int:
        return -(-len(self) // PART_SIZE)

    def paths(self, first: int, last: int) -> list[str]:
        """Those of the store's images from `first` to before `last`."""
        found: list[str] = []
        for index in self.indices():
            here = torch.arange(min(max(first, 0), len(index)), min(max(last, 0), len(index)))
            found += index.paths.take(here)
            first, last = first - len(index), last - len(index)
        return found

    def paths_of(self, part: int) -> list[str]:
        """Those of a part's images."""
        return self.paths(part * PART_SIZE, (part + 1) * PART_SIZE)


class Job(NamedTuple):
    """One process's: a part, the image files that go into it, and the key of what it is packed for."""

    part: Path
    paths: list[str]
    options: Format
    skip: bool
    key: str


def pack(source: Source, options: Format, output: Path, processes: int, tell: Tell) -> dict[str, Any]:
    """Pack the images into the folder `output` and read them back; what store.json says of them.

    A store that is there, of the same images and options, is only read back: `packed_before` then is True.

    Raises:
        ValueError: an image can't be read, `output` holds something else, its disk is full, what was written doesn't
            read back.
    """
    place.prepare(output)
    about = _about(source, options)
    with place.alone(output), place.said_when_full(output):
        before = (output / STORE).exists()
        about = _same(source, output, about) if before else _pack(source, options, output, about, processes, tell)
        damaged = verify(output, about, processes, lambda done: tell("verifying", done, len(source)))
        if damaged is not None:
            _list_of(damaged).unlink(missing_ok=True)  # so that it is packed anew
            remedy = f"remove {output}, and pack" if before else "run this"
            raise ValueError(f"{damaged} doesn't read back as it was packed: {remedy} again. Is the disk sound?")
        if not before:
            write_safely(output / STORE, json.dumps(about, indent=1))
        for file in output.glob("*.list"):
            file.unlink()
    return about | {"packed_before": before}


def _about(source: Source, options: Format) -> dict[str, Any]:
    """What is known before a single image is read; `key` is a digest of it all."""
    about = {
        "version": VERSION,
        "options": asdict(options),
        "on_error": source.on_error,
        "task": source.task,
        "class_names": list(source.class_names),
        "splits": source.bounds(),
        "part_size": PART_SIZE,
        "fingerprint": fingerprint(source.class_names, source.splits, source.root),
    }
    return about | {"key": short_digest([json.dumps(about).encode()])}


def _pack(
    source: Source, options: Format, output: Path, about: dict[str, Any], processes: int, tell: Tell
) -> dict[str, Any]:
    """Write every part and the columns; `about` with what became known by it."""
    parts = [output / part_name(n) for n in range(source.part_count())]
    place.forget_all_but(output, [file.name for part in parts for file in (part, _list_of(part))])
    if options.format == "files":
        sample = (source.paths(n, n + 1)[0] for n in range(0, len(source), -(-len(source) // SAMPLE)))
        place.check_space(output, sample, len(source))
    jobs = (Job(p, source.paths_of(n), options, source.on_error == "skip", about["key"]) for n, p in enumerate(parts))
    for _ in spread(_pack_part, jobs, processes, lambda done: tell("packing", done, len(source))):
        pass
    _write_columns(source, output, parts)
    return about | _totals(output, about)


def _pack_part(job: Job) -> None:
    """Write the part and then its list, unless both are there and the image files have not changed since."""
    files = _state(job.paths)
    if _is_packed(job, files):
        for _ in job.paths:
            step()
        return
    _list_of(job.part).unlink(missing_ok=True)
    lengths, sizes, checksums = [], [], []
    with atomic_write(job.part) as file, file.open("wb") as out:
        for path in job.paths:
            data, size = _encoded(path, job)
            out.write(data)
            lengths.append(len(data))
            sizes.append(size)
            checksums.append(zlib.crc32(data))
            step()
    columns = {"lengths": torch.tensor(lengths), "checksums": torch.tensor(checksums)}
    columns["sizes"] = torch.tensor(sizes, dtype=torch.int32)
    with atomic_write(_list_of(job.part)) as file:
        file.write_bytes(save(columns, {"key": job.key, "files": files}))


def _encoded(path: str, job: Job) -> tuple[bytes, tuple[int, int]]:
    try:
        return encoded(read_file(path), job.options, path)
    except UnreadableImage:
        if not job.skip:
            raise
        return b"", (0, 0)


def _is_packed(job: Job, files: str) -> bool:
    try:
        with safe_open(_list_of(job.part), "pt") as columns:
            known, length = columns.metadata(), int(columns.get_tensor("lengths").sum())
    except (OSError, SafetensorError):
        return False
    there = job.part.exists() and job.part.stat().st_size == length
    return there and known == {"key": job.key, "files": files}


def _state(paths: list[str]) -> str:
    """A digest that changes when one of the files is written to, or removed."""
    return short_digest(map(_state_of, paths))


def _state_of(path: str) -> bytes:
    try:
        state = os.stat(path)
    except OSError:
        return b"none\n"
    return f"{state.st_size} {state.st_mtime_ns}\n".encode()


def _list_of(part: Path) -> Path:
    """Where it is said what the part holds, until all parts are there."""
    return part.with_suffix(".list")


def _write_columns(source: Source, output: Path, parts: Sequence[Path]) -> None:
    lists = [load_file(_list_of(part)) for part in parts]
    lengths, sizes, checksums = (torch.cat([one[name] for one in lists]) for name in ("lengths", "sizes", "checksums"))
    names = join([relative(index.paths, source.root) for index in source.indices()])
    assert not names.prefix
    columns = {
        "starts": torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        "sizes": sizes,
        "checksums": checksums,
        "targets": torch.cat([index.targets for index in source.indices()]),
        "names": names.text,
        "name_starts": names.starts,
    }
    files = []
    for part in parts:
        with safe_open(_list_of(part), "pt") as one:
            files.append(one.metadata()["files"])
    with atomic_write(output / COLUMNS) as file:
        save_file(columns, file, {"files": json.dumps(files)})
        shutil.copymode(parts[0], file)  # safetensors lets nobody else read it


def _totals(output: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What is known only of packed images."""
    store, _ = open_store(output, about)
    lengths = store.starts.diff()
    empty = (lengths == 0).nonzero().flatten()
    with safe_open(output / COLUMNS, "pt") as columns:
        sizes = columns.get_tensor("sizes")[lengths > 0].double()
    return {
        "images": len(lengths),
        "bytes": int(lengths.sum()),
        "mean_size": [round(side, 1) for side in sizes.mean(0).tolist()] if len(sizes) else None,
        "unreadable": {"count": len(empty), "first": [store.names[n] for n in empty[:5].tolist()]},
    }


def _same(source: Source, output: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """What store.json in `output` says.

    Raises:
        ValueError: the store was packed of something else, or its images have changed since.
    """
    about = read_about(output)
    remedy = "choose another output, or remove that folder"
    if about["key"] != wanted["key"]:
        then, now = (one["options"] | {"on_error": one["on_error"]} for one in (about, wanted))
        others = [f"{name}={then[name]}, not {now[name]}" for name in now if then[name] != now[name]]
        what = ", ".join(others) or "other images, labels or splits"
        raise ValueError(f"output={output} holds a finished store of something else ({what}): {remedy}")
    with safe_open(output / COLUMNS, "pt") as columns:
        files = json.loads(columns.metadata()["files"])
    if any(then != _state(source.paths_of(part)) for part, then in enumerate(files)):
        raise ValueError(f"output={output} holds a finished store, and its images have changed since: {remedy}")
    return about
