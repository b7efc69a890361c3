"""Reads and writes columns of numbers as a safetensors file; reading one cannot execute code.

Format: https://github.com/huggingface/safetensors#format. Columns are read into memory, not memory-mapped: each worker
would map the pages again, and reading them would fail once the file is deleted.
"""

import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fovea.files import atomic_write

TYPES = {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}


def write_columns(file: Path, columns: Mapping[str, Tensor], facts: str) -> None:
    """Write columns of the dtypes in TYPES and a text atomically; several processes may write at the same time."""
    ordered = sorted(columns.items(), key=lambda item: -item[1].element_size())  # largest first keeps all aligned
    content = [_raw(column) for _, column in ordered]
    header: dict[str, Any] = {"__metadata__": {"facts": facts, "crc32": str(_checksum(facts, content))}}
    end = 0
    for (name, column), raw in zip(ordered, content, strict=True):
        type_name = next(type_name for type_name, dtype in TYPES.items() if dtype == column.dtype)
        header[name] = {"dtype": type_name, "shape": list(column.shape), "data_offsets": [end, end + len(raw)]}
        end += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary, temporary.open("xb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for raw in content:
            stream.write(raw)


def read_columns(file: Path) -> tuple[dict[str, Tensor], str]:
    """Read the columns and the text that `write_columns` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged or has another format.
    """
    with open(file, "rb") as stream:
        try:
            return _read(stream, os.fstat(stream.fileno()).st_size)
        except (LookupError, TypeError, AttributeError, RuntimeError) as error:  # the header has unexpected content
            raise ValueError(f"its header is invalid ({error!r})") from error


def _read(stream: BinaryIO, size: int) -> tuple[dict[str, Tensor], str]:
    length = int.from_bytes(stream.read(8), "little")
    if not 0 < length <= size - 8:
        raise ValueError("it has no header")
    header = json.loads(stream.read(length))
    metadata = header.pop("__metadata__")
    end = 8 + length
    columns: dict[str, Tensor] = {}
    for name, item in sorted(header.items(), key=lambda named: named[1]["data_offsets"]):
        end += math.prod(item["shape"]) * TYPES[item["dtype"]].itemsize
        if end > size:
            raise ValueError("it ends too early")
        columns[name] = torch.empty(item["shape"], dtype=TYPES[item["dtype"]])
        stream.readinto(_raw(columns[name]))  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
    if end != size or str(_checksum(metadata["facts"], map(_raw, columns.values()))) != metadata["crc32"]:
        raise ValueError("its checksum is wrong")
    return columns, metadata["facts"]


def _raw(column: Tensor) -> memoryview:
    """View the column's bytes without copying them."""
    return column.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _checksum(facts: str, content: Iterable[memoryview]) -> int:
    total = zlib.crc32(facts.encode())
    for raw in content:
        total = zlib.crc32(raw, total)
    return total
