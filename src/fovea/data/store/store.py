"""Images packed into a few large files (pack.py writes them), read by memory map.

A store is a folder:

    part-00000.bin ...     `part_size` images each, one after the other, as encoded files or as (H, W, 3) uint8 pixels
    columns.safetensors    for each image its position, size, checksum, target and name
    store.json             the store's metadata; written last, so a folder with this file is complete

Images are numbered over all splits; part p begins with number p * part_size.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fovea.data.index import Index, Splits
from fovea.data.pixels.decode import UnreadableImage
from fovea.data.store.remote import fetch, is_remote, read_remote
from fovea.data.store.store_check import check_columns, check_metadata
from fovea.data.string_array import StringArray
from fovea.files import short_digest

VERSION = 1
STORE, COLUMNS = "store.json", "columns.safetensors"


class PackedImages:
    """The images of a store, read by memory map.

    Each process maps a part at the first read from it and keeps it mapped. A read then copies nothing and opens no file
    (about 7 microseconds). Pickling leaves the maps out.
    """

    def __init__(
        self, folder: Path, remote: str | None, names: StringArray, starts: Tensor, sizes: Tensor | None, part_size: int
    ) -> None:
        """Open a store of N images.

        Args:
            folder: contains the parts.
            remote: the URL that parts missing in `folder` are downloaded from.
            names: the images' names, for messages.
            starts: (N + 1,) int64, the offset of each image in the concatenated parts, and the end of the last one.
            sizes: (N, 2), heights and widths of raw pixels; None if the images are encoded files.
        """
        self.folder, self.remote, self.names = folder, remote, names
        self.starts, self.sizes, self.part_size = starts, sizes, part_size
        self._maps: dict[int, tuple[Tensor, int]] = {}

    @property
    def encoded(self) -> bool:
        """Whether the store holds encoded files rather than pixels."""
        return self.sizes is None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def read(self, row: int) -> Tensor:
        """Return an image file's bytes (L,) uint8, or pixels (3, H, W) uint8, channels-last; do not write to them.

        Raises:
            UnreadableImage: the image could not be read when it was packed.
        """
        start, end = self.starts[row : row + 2].tolist()
        if start == end:
            raise UnreadableImage(f"{self.names[row]}: could not be read when it was packed into {self.folder}")
        part = row // self.part_size
        data, first = self._maps[part] if part in self._maps else self._map(part)
        if self.sizes is None:
            return data[start - first : end - first]
        height, width = self.sizes[row].tolist()
        return data.as_strided((3, height, width), (1, 3 * width, 3), start - first)

    def sums(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N,) lengths in bytes and (N,) CRC-32s of the packed images."""
        with safe_open(self.folder / COLUMNS, "pt") as columns:
            checksums = columns.get_tensor("checksums")
        return self.starts.diff()[rows.long()], checksums[rows.long()]

    def bounds(self, part: int) -> tuple[int, int]:
        """Return the number of a part's first image and the number after its last."""
        first = part * self.part_size
        return first, min(first + self.part_size, len(self.starts) - 1)

    def check(self) -> None:
        """Raise ValueError if a part of a local store is missing or has another length than when it was packed."""
        if self.remote is None:
            for part in range(-(-(len(self.starts) - 1) // self.part_size)):
                self._check_length(self.folder / part_name(part), part)

    def _map(self, part: int) -> tuple[Tensor, int]:
        file = self.folder / part_name(part)
        if self.remote is not None and not file.exists():
            fetch(f"{self.remote}/{file.name}", file, lambda copy: self.check_part(copy, part))
        self._check_length(file, part)
        first, length = self._extent(part)
        self._maps[part] = torch.from_file(str(file), shared=False, size=length, dtype=torch.uint8), first
        return self._maps[part]

    def _extent(self, part: int) -> tuple[int, int]:
        """Return a part's offset in the concatenated parts and its length in bytes."""
        start, end = self.starts[list(self.bounds(part))].tolist()
        return start, end - start

    def _check_length(self, file: Path, part: int) -> None:
        expected = self._extent(part)[1]
        length = file.stat().st_size if file.exists() else 0
        if length != expected:
            raise ValueError(
                f"{file} has {length:,} of {expected:,} bytes: the store is damaged\n"
                "Copy it again if it is a copy; else remove its folder and run scripts/pack.py again"
            )

    def check_part(self, file: Path, part: int) -> None:
        """Raise ValueError with the name of the first image whose checksum differs."""
        self._check_length(file, part)
        first, last = self.bounds(part)
        with safe_open(self.folder / COLUMNS, "pt") as columns:
            checksums = columns.get_slice("checksums")[first:last]
        damaged = first_damaged(file, self.starts[first : last + 1].diff(), checksums)
        if damaged is not None:
            raise ValueError(f"{file} is damaged at {self.names[first + damaged]}: wrong checksum, download it again")


def first_damaged(file: Path, lengths: Tensor, checksums: Tensor) -> int | None:
    """Return the position in the part of the first image whose CRC-32 differs; None if all are equal."""
    with file.open("rb") as data:
        for n, (length, checksum) in enumerate(zip(lengths.tolist(), checksums.tolist(), strict=True)):
            if zlib.crc32(data.read(length)) != checksum:
                return n
    return None


def part_name(part: int) -> str:
    """Return the file name of a part."""
    return f"part-{part:05d}.bin"


def read_store(location: str, cache: str | Path | None = None, group_column: str | None = None) -> Splits:
    """Read the splits of a store; if it was packed without a test split, test is the same index as val.

    Args:
        location: a folder, or a URL (s3://bucket/folder, gs://, https://, ...). The parts of a remote store are
            downloaded when one of their images is first read.
        cache: the folder for downloads, which are kept; None for ~/.cache/fovea/stores.
        group_column: the column that the images' groups must be from; None: as they were packed.

    Raises:
        ValueError: there is no store, its packing was not finished, it is damaged, or its groups are from another
            column.
    """
    folder, remote = _download_columns(location, cache) if is_remote(location) else (Path(location).expanduser(), None)
    metadata = read_metadata(folder)
    check_metadata(folder / STORE, metadata)
    packed_with = metadata.get("group_column")
    if group_column and group_column != packed_with:
        raise ValueError(
            f"data.group_column={group_column}: the store {location} was packed with data.group_column={packed_with}: "
            "pack the data again with this column, or read them from their files (data.store=null)"
        )
    store, targets = open_store(folder, metadata, remote)
    groups = _groups(folder) if "groups" in metadata else None
    check_columns(folder / COLUMNS, metadata, store.starts, store.names, store.sizes, targets, groups)
    store.check()
    parts = {split: _part(store, targets, groups, *bounds) for split, bounds in metadata["splits"].items()}
    if metadata["splits"]["test"] == metadata["splits"]["val"]:
        parts["test"] = parts["val"]
    return Splits(metadata["task"], tuple(metadata["class_names"]), parts["train"], parts["val"], parts["test"])


def open_store(folder: Path, metadata: dict[str, Any], remote: str | None = None) -> tuple[PackedImages, Tensor]:
    """Open the images of the store whose store.json is `metadata`, and return them with their targets."""
    file = folder / COLUMNS
    try:
        with safe_open(file, "pt") as columns:
            names = StringArray("", columns.get_tensor("names"), columns.get_tensor("name_starts"))
            starts, targets = columns.get_tensor("starts"), columns.get_tensor("targets")
            sizes = columns.get_tensor("sizes") if metadata["options"]["format"] == "raw" else None
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} is missing or damaged ({error}): copy the store again, or pack it again") from error
    return PackedImages(folder, remote, names, starts, sizes, metadata["part_size"]), targets


def _groups(folder: Path) -> StringArray:
    file = folder / COLUMNS
    try:
        with safe_open(file, "pt") as columns:
            return StringArray("", columns.get_tensor("groups"), columns.get_tensor("group_starts"))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} has no groups ({error}): copy the store again, or pack it again") from error


def _part(store: PackedImages, targets: Tensor, groups: StringArray | None, first: int, last: int) -> Index:
    own_groups = None if groups is None else groups[first:last]
    return Index(store.names[first:last], targets[first:last], store, torch.arange(first, last), own_groups)


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read store.json.

    Raises:
        ValueError: there is no such file, so the store is missing or incomplete; or it has another format.
    """
    file = folder / STORE
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; scripts/pack.py output={folder} makes a store")
    if not file.is_file():
        started = any(folder.glob("part-*"))
        raise ValueError(
            f"{folder}: packing was not finished, run scripts/pack.py again to continue"
            if started
            else f"{folder} is not a store: it has no {STORE} (scripts/pack.py output=<folder> makes one)"
        )
    try:
        metadata = json.loads(file.read_bytes())
        version = metadata["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not belong to a store: it cannot be read ({error})") from error
    if version != VERSION:
        raise ValueError(f"{file} has version {version}, but this program reads {VERSION}: pack the data again")
    assert isinstance(metadata, dict)
    return metadata


def _download_columns(location: str, cache: str | Path | None) -> tuple[Path, str]:
    """Download store.json and the columns; return the local folder and the URL. A repacked store gets a new folder."""
    url = location.rstrip("/")
    metadata = read_remote(f"{url}/{STORE}")
    parent = Path(cache).expanduser() if cache else Path.home() / ".cache" / "fovea" / "stores"
    folder = parent / short_digest([os.fsencode(url), metadata])
    fetch(f"{url}/{COLUMNS}", folder / COLUMNS, _check_complete)
    fetch(f"{url}/{STORE}", folder / STORE, lambda copy: None)
    return folder, url


def _check_complete(columns: Path) -> None:
    """Raise ValueError if the file is shorter than its header states."""
    try:
        with safe_open(columns, "pt") as opened:
            opened.keys()
    except SafetensorError as error:
        raise ValueError(f"{columns} was damaged during the download ({error}): try again") from error
