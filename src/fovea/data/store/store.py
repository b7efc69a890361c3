"""Images packed into a few large files (pack.py writes them), read by memory map.

A store is a folder:

    part-00000.bin ...     `part_size` images each, one after the other, as encoded files or as (H, W, 3) uint8 pixels
    columns.safetensors    what is known of each image: where it lies, size, checksum, target, name
    store.json             what is known of all; written last, so a folder that has it is whole

Its images, over all splits in a row, are numbered; part p holds numbers p * part_size and on.
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
from fovea.data.store.store_check import check_about, check_columns
from fovea.data.string_array import StringArray
from fovea.files import short_digest

VERSION = 1
STORE, COLUMNS = "store.json", "columns.safetensors"


class PackedImages:
    """The images of a store. Each process maps a part when it first reads from it, and keeps it mapped.

    Nothing is copied and no file is opened, so a read takes about 7 microseconds. Pickled without its maps.
    """

    def __init__(
        self, folder: Path, remote: str | None, names: StringArray, starts: Tensor, sizes: Tensor | None, part_size: int
    ) -> None:
        """For a store of N images.

        Args:
            folder: holds the parts.
            remote: where a part that isn't in `folder` yet is copied from.
            names: of the images, for what is said of them.
            starts: (N + 1,) int64, where each image begins with all parts in a row, and where the last one ends.
            sizes: (N, 2), heights and widths; None where the images are encoded files.
        """
        self.folder, self.remote, self.names = folder, remote, names
        self.starts, self.sizes, self.part_size = starts, sizes, part_size
        self._maps: dict[int, tuple[Tensor, int]] = {}

    @property
    def encoded(self) -> bool:
        """Whether files are held, and not pixels."""
        return self.sizes is None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def read(self, row: int) -> Tensor:
        """(L,) uint8, an image file's bytes; or (3, H, W) uint8, channels-last in memory. Not to be written to.

        Raises:
            UnreadableImage: there was nothing to pack.
        """
        start, end = self.starts[row : row + 2].tolist()
        if start == end:
            raise UnreadableImage(f"{self.names[row]}: couldn't be read when it was packed into {self.folder}")
        part = row // self.part_size
        data, first = self._maps[part] if part in self._maps else self._map(part)
        if self.sizes is None:
            return data[start - first : end - first]
        height, width = self.sizes[row].tolist()
        return data.as_strided((3, height, width), (1, 3 * width, 3), start - first)

    def sums(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) lengths in bytes and (N,) CRC-32s of the images as they were packed."""
        with safe_open(self.folder / COLUMNS, "pt") as columns:
            checksums = columns.get_tensor("checksums")
        return self.starts.diff()[rows.long()], checksums[rows.long()]

    def bounds(self, part: int) -> tuple[int, int]:
        """The numbers of a part's first image and of the one after its last."""
        first = part * self.part_size
        return first, min(first + self.part_size, len(self.starts) - 1)

    def check(self) -> None:
        """Raises ValueError where a part is missing or is not as long as it was when it was packed."""
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
        """(where a part begins, its length in bytes)."""
        start, end = self.starts[list(self.bounds(part))].tolist()
        return start, end - start

    def _check_length(self, file: Path, part: int) -> None:
        expected = self._extent(part)[1]
        there = file.stat().st_size if file.exists() else 0
        if there != expected:
            raise ValueError(
                f"{file} has {there:,} of {expected:,} bytes: the store is damaged\n"
                "Copy it again if it is a copy; else remove its folder and run scripts/pack.py again"
            )

    def check_part(self, file: Path, part: int) -> None:
        """Raises ValueError naming the first image that is no longer what was packed."""
        self._check_length(file, part)
        first, last = self.bounds(part)
        with safe_open(self.folder / COLUMNS, "pt") as columns:
            checksums = columns.get_slice("checksums")[first:last]
        damaged = first_damaged(file, self.starts[first : last + 1].diff(), checksums)
        if damaged is not None:
            raise ValueError(f"{file} is damaged at {self.names[first + damaged]}: its checksum is another one")


def first_damaged(file: Path, lengths: Tensor, checksums: Tensor) -> int | None:
    """Which of the images in a part, one after the other, is the first whose CRC-32 differs."""
    with file.open("rb") as data:
        for n, (length, checksum) in enumerate(zip(lengths.tolist(), checksums.tolist(), strict=True)):
            if zlib.crc32(data.read(length)) != checksum:
                return n
    return None


def part_name(part: int) -> str:
    """The file of a part."""
    return f"part-{part:05d}.bin"


def read_store(location: str, cache: str | Path | None = None) -> Splits:
    """The splits of a store; where it was packed without a test split of its own, test is the very index of val.

    Args:
        location: a folder, or a URL (s3://bucket/folder, gs://, https://, ...), whose parts are copied to this machine
            when an image of theirs is first read.
        cache: the folder they are copied to; None for ~/.cache/fovea/stores. They stay there.

    Raises:
        ValueError: there is no store, it was not packed to its end, or it is damaged.
    """
    folder, remote = _localized(location, cache) if is_remote(location) else (Path(location).expanduser(), None)
    about = read_about(folder)
    check_about(folder / STORE, about)
    store, targets = open_store(folder, about, remote)
    check_columns(folder / COLUMNS, about, store.starts, store.names, store.sizes, targets)
    store.check()
    parts = {split: _part(store, targets, *bounds) for split, bounds in about["splits"].items()}
    if about["splits"]["test"] == about["splits"]["val"]:
        parts["test"] = parts["val"]
    return Splits(about["task"], tuple(about["class_names"]), parts["train"], parts["val"], parts["test"])


def open_store(folder: Path, about: dict[str, Any], remote: str | None = None) -> tuple[PackedImages, Tensor]:
    """The images of the store that store.json says `about`, and their targets."""
    file = folder / COLUMNS
    try:
        with safe_open(file, "pt") as columns:
            names = StringArray("", columns.get_tensor("names"), columns.get_tensor("name_starts"))
            starts, targets = columns.get_tensor("starts"), columns.get_tensor("targets")
            sizes = columns.get_tensor("sizes") if about["options"]["format"] == "raw" else None
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} is missing or damaged ({error}): copy the store again, or pack it again") from error
    return PackedImages(folder, remote, names, starts, sizes, about["part_size"]), targets


def _part(store: PackedImages, targets: Tensor, first: int, last: int) -> Index:
    names = StringArray("", store.names.text, store.names.starts[first : last + 1])
    return Index(names, targets[first:last], store, torch.arange(first, last))


def read_about(folder: Path) -> dict[str, Any]:
    """What store.json says.

    Raises:
        ValueError: there is none, so no whole store; or it is none of ours.
    """
    file = folder / STORE
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; scripts/pack.py output={folder} makes a store")
    if not file.is_file():
        begun = any(folder.glob("part-*"))
        raise ValueError(
            f"{folder}: packing was not finished, run scripts/pack.py again: it goes on where it stopped"
            if begun
            else f"{folder} is no store: it has no {STORE} (scripts/pack.py output=<folder> makes one)"
        )
    try:
        about = json.loads(file.read_bytes())
        version = about["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no store's: it can't be read ({error})") from error
    if version != VERSION:
        raise ValueError(f"{file} has version {version} and this program reads {VERSION}: pack the data again")
    assert isinstance(about, dict)
    return about


def _localized(location: str, cache: str | Path | None) -> tuple[Path, str]:
    """The folder on this machine that takes in a remote store's files; another one after it was packed anew."""
    url = location.rstrip("/")
    about = read_remote(f"{url}/{STORE}")
    place = Path(cache).expanduser() if cache else Path.home() / ".cache" / "fovea" / "stores"
    folder = place / short_digest([os.fsencode(url), about])
    fetch(f"{url}/{COLUMNS}", folder / COLUMNS, _check_whole)
    fetch(f"{url}/{STORE}", folder / STORE, lambda copy: None)
    return folder, url


def _check_whole(columns: Path) -> None:
    """Raises ValueError where the file is not as long as it begins by saying."""
    try:
        with safe_open(columns, "pt") as opened:
            opened.keys()
    except SafetensorError as error:
        raise ValueError(f"{columns} arrived damaged ({error}): try again") from error
