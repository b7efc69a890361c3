"""Packs images into a store (see store.py): each process writes one part at a time.

An incomplete file is never used: each part is written atomically, then the list of its images. store.json is written
last, after every byte was read back. If packing was interrupted, packing again continues with the finished parts.
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
from fovea.data.store import output_folder
from fovea.data.store.encode import Format, encode_image
from fovea.data.store.pack_workers import count_image, run_jobs
from fovea.data.store.store import COLUMNS, STORE, VERSION, open_store, part_name, read_metadata
from fovea.data.store.verify import verify
from fovea.data.string_array import StringArray, join
from fovea.files import atomic_write, short_digest, write_safely

PART_SIZE = 1024  # images
SAMPLE = 256  # images from which the needed disk space is estimated
Report = Callable[[str, int, int], None]  # called with (stage, images done, images in total)


@dataclass(frozen=True)
class Source:
    """The images to pack.

    Attributes:
        splits: "train", "val" and "test"; an index that two splits share is stored once.
        root: the folder that the images' names are relative to.
        on_error: "raise", or "skip": store an unreadable image as an empty one.
        group_column: the column that the images' groups are from; None: there are none, or they are from the paths.
    """

    task: Task
    class_names: Sequence[str]
    splits: Mapping[str, Index]
    root: str | None
    on_error: str = "raise"
    group_column: str | None = None

    def __len__(self) -> int:
        return sum(map(len, self.indices()))

    def indices(self) -> list[Index]:
        """Return the different indices of the splits."""
        return list({id(index): index for index in self.splits.values()}.values())

    def bounds(self) -> dict[str, list[int]]:
        """Return for each split the number of its first image in the store and the number after its last."""
        bounds: dict[str, list[int]] = {}
        first = 0
        for index in self.indices():
            bounds |= {split: [first, first + len(index)] for split, other in self.splits.items() if other is index}
            first += len(index)
        return bounds

    def groups(self) -> StringArray | None:
        """Return the group of each image in the store; None if the images have no groups."""
        groups = [index.groups for index in self.indices() if index.groups is not None]
        return join(groups) if groups else None

    def part_count(self) -> int:
        return -(-len(self) // PART_SIZE)

    def paths(self, first: int, last: int) -> list[str]:
        """Return the paths of the images with numbers from `first` up to, but not including, `last`."""
        paths: list[str] = []
        for index in self.indices():
            own = torch.arange(min(max(first, 0), len(index)), min(max(last, 0), len(index)))
            paths += index.paths.take(own)
            first, last = first - len(index), last - len(index)
        return paths

    def paths_of(self, part: int) -> list[str]:
        """Return the paths of a part's images."""
        return self.paths(part * PART_SIZE, (part + 1) * PART_SIZE)


class Job(NamedTuple):
    """The work of one process: a part, its image files, and the store's key (a digest of source and options)."""

    part: Path
    paths: list[str]
    options: Format
    skip: bool
    key: str


def pack(source: Source, options: Format, output: Path, processes: int, report: Report) -> dict[str, Any]:
    """Pack the images into the folder `output`, read them back, and return the metadata in store.json.

    If `output` is a finished store of the same images and options, it is only read back, and `packed_before` is True.

    Raises:
        ValueError: an image is unreadable, `output` contains something else, its disk is full, or the written bytes
            differ when they are read back.
    """
    output_folder.prepare(output)
    metadata = _metadata(source, options)
    with output_folder.exclusive(output), output_folder.report_full_disk(output):
        before = (output / STORE).exists()
        if before:
            metadata = _read_finished(source, output, metadata)
        else:
            metadata = _pack(source, options, output, metadata, processes, report)
        damaged = verify(output, metadata, processes, lambda done: report("verifying", done, len(source)))
        if damaged is not None:
            _list_of(damaged).unlink(missing_ok=True)  # so that this part is packed again
            remedy = f"remove {output}, and pack" if before else "run this"
            raise ValueError(f"{damaged} differs from what was packed: {remedy} again. Is the disk damaged?")
        if not before:
            write_safely(output / STORE, json.dumps(metadata, indent=1))
        for file in output.glob("*.list"):
            file.unlink()
    return metadata | {"packed_before": before}


def _metadata(source: Source, options: Format) -> dict[str, Any]:
    """Return the metadata that is known before reading images; `key` is a digest of all of it."""
    metadata = {
        "version": VERSION,
        "options": asdict(options),
        "on_error": source.on_error,
        "task": source.task,
        "class_names": list(source.class_names),
        "splits": source.bounds(),
        "part_size": PART_SIZE,
        "fingerprint": fingerprint(source.class_names, source.splits, source.root),
    }
    if groups := source.groups():
        metadata |= {"group_column": source.group_column, "groups": short_digest(map(str.encode, groups))}
    return metadata | {"key": short_digest([json.dumps(metadata).encode()])}


def _pack(
    source: Source, options: Format, output: Path, metadata: dict[str, Any], processes: int, report: Report
) -> dict[str, Any]:
    """Write all parts and the columns, and return the complete metadata."""
    parts = [output / part_name(n) for n in range(source.part_count())]
    output_folder.remove_leftovers(output, [file.name for part in parts for file in (part, _list_of(part))])
    if options.format == "files":
        sample = (source.paths(n, n + 1)[0] for n in range(0, len(source), -(-len(source) // SAMPLE)))
        output_folder.check_space(output, sample, len(source))
    jobs = (
        Job(p, source.paths_of(n), options, source.on_error == "skip", metadata["key"]) for n, p in enumerate(parts)
    )
    for _ in run_jobs(_pack_part, jobs, processes, lambda done: report("packing", done, len(source))):
        pass
    _write_columns(source, output, parts)
    return metadata | _totals(output, metadata)


def _pack_part(job: Job) -> None:
    """Write the part and then its list, unless both exist and the image files have not changed since."""
    files = _state(job.paths)
    if _is_packed(job, files):
        for _ in job.paths:
            count_image()
        return
    _list_of(job.part).unlink(missing_ok=True)
    lengths, sizes, checksums = [], [], []
    with atomic_write(job.part) as file, file.open("wb") as out:
        for path in job.paths:
            data, size = _encode(path, job)
            out.write(data)
            lengths.append(len(data))
            sizes.append(size)
            checksums.append(zlib.crc32(data))
            count_image()
    columns = {"lengths": torch.tensor(lengths), "checksums": torch.tensor(checksums)}
    columns["sizes"] = torch.tensor(sizes, dtype=torch.int32)
    with atomic_write(_list_of(job.part)) as file:
        file.write_bytes(save(columns, {"key": job.key, "files": files}))


def _encode(path: str, job: Job) -> tuple[bytes, tuple[int, int]]:
    try:
        return encode_image(read_file(path), job.options, path)
    except UnreadableImage:
        if not job.skip:
            raise
        return b"", (0, 0)


def _is_packed(job: Job, files: str) -> bool:
    try:
        with safe_open(_list_of(job.part), "pt") as columns:
            packed_for, length = columns.metadata(), int(columns.get_tensor("lengths").sum())
    except (OSError, SafetensorError):
        return False
    complete = job.part.exists() and job.part.stat().st_size == length
    return complete and packed_for == {"key": job.key, "files": files}


def _state(paths: list[str]) -> str:
    """Return a digest of the files' sizes and modification times."""
    return short_digest(map(_state_of, paths))


def _state_of(path: str) -> bytes:
    try:
        state = os.stat(path)
    except OSError:
        return b"none\n"
    return f"{state.st_size} {state.st_mtime_ns}\n".encode()


def _list_of(part: Path) -> Path:
    """Return the file with the lengths and checksums of a part's images; removed when all parts are finished."""
    return part.with_suffix(".list")


def _write_columns(source: Source, output: Path, parts: Sequence[Path]) -> None:
    lists = [load_file(_list_of(part)) for part in parts]
    lengths, sizes, checksums = (
        torch.cat([part[name] for part in lists]) for name in ("lengths", "sizes", "checksums")
    )
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
    if groups := source.groups():
        assert not groups.prefix
        columns |= {"groups": groups.text, "group_starts": groups.starts}
    files = []
    for part in parts:
        with safe_open(_list_of(part), "pt") as part_list:
            files.append(part_list.metadata()["files"])
    with atomic_write(output / COLUMNS) as file:
        save_file(columns, file, {"files": json.dumps(files)})
        shutil.copymode(parts[0], file)  # safetensors creates a file that only the owner can read


def _totals(output: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that is known only after packing."""
    store, _ = open_store(output, metadata)
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


def _read_finished(source: Source, output: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of the finished store in `output`.

    Raises:
        ValueError: the store was packed from something else, or its image files have changed since.
    """
    metadata = read_metadata(output)
    remedy = "choose another output, or remove that folder"
    if metadata["key"] != expected["key"]:
        old, new = (data["options"] | {"on_error": data["on_error"]} for data in (metadata, expected))
        changed = [f"{name}={old[name]}, not {new[name]}" for name in new if old[name] != new[name]]
        difference = ", ".join(changed) or "other images, labels, groups or splits"
        raise ValueError(f"output={output} contains a different finished store ({difference}): {remedy}")
    with safe_open(output / COLUMNS, "pt") as columns:
        states = json.loads(columns.metadata()["files"])
    if any(state != _state(source.paths_of(part)) for part, state in enumerate(states)):
        raise ValueError(f"output={output} contains a finished store, but its image files have changed since: {remedy}")
    return metadata
