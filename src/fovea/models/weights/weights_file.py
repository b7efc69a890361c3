"""Reads a weights file without running code from it, by its content and not its suffix; recognises other formats."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fovea.runs.figure_names import AVERAGES, average_of, checkpoint_key

WRAPPERS = (*map(checkpoint_key, AVERAGES), "model_ema", "ema", "state_dict", "model")
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # the weights in a Hugging Face model folder
SAVE_STATE_DICT = "save `network.state_dict()` with torch.save, alone or under the key 'state_dict'"
MAGIC_BYTES = {  # first bytes of a file -> (its format, what to do)
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes", f"convert it to PyTorch: {SAVE_STATE_DICT}"),
    b"\x1f\x8b": ("compressed with gzip", "decompress it first"),
    b"version https://git-lfs": ("a Git LFS pointer instead of the file itself", "fetch it with `git lfs pull`"),
    b"GGUF": ("a GGUF file", f"take the PyTorch file of the same weights, or {SAVE_STATE_DICT}"),
}
ARCHIVE_MEMBERS = {  # pattern of a member's name in a zip archive -> (the format, what to do)
    r"[^/]+/constants\.pkl|[^/]+/code/.*": (
        "a TorchScript archive, which contains a program",
        "save its weights alone: torch.save(torch.jit.load(file).state_dict(), 'weights.pth')",
    ),
    r"(.*/)?(archive_format|serialized_exported_program\.json)": (
        "a program of torch.export",
        "save its weights alone: torch.save(torch.export.load(file).state_dict, 'weights.pth')",
    ),
    r".*\.weights\.h5": ("a Keras archive", f"convert it to PyTorch: {SAVE_STATE_DICT}"),
    r"[^/]+\.npy": ("an archive of NumPy arrays", f"load the arrays into the network, then {SAVE_STATE_DICT}"),
}
SUFFIXES = {  # for formats without magic bytes
    ".onnx": ("an ONNX program", f"take the PyTorch file that it was exported from, or {SAVE_STATE_DICT}"),
    ".pb": ("a TensorFlow program", f"convert it to PyTorch: {SAVE_STATE_DICT}"),
    ".index": ("a part of a TensorFlow checkpoint", f"convert it to PyTorch: {SAVE_STATE_DICT}"),
    ".tflite": ("a TensorFlow Lite program", f"convert it to PyTorch: {SAVE_STATE_DICT}"),
    ".msgpack": ("a Flax checkpoint", f"convert it to PyTorch: {SAVE_STATE_DICT}"),
}


class Weights(NamedTuple):
    """The content of a weights file.

    Attributes:
        tensors: by name.
        source: the file, for messages.
        class_names: of the classifier's rows; None if the file doesn't have them.
    """

    tensors: Mapping[str, Tensor]
    source: str
    class_names: list[str] | None = None


def is_path(text: str) -> bool:
    """Return True for a file's path, False for published weights such as DEFAULT or IMAGENET1K_V1."""
    return "/" in text or "." in text or Path(text).exists()


def read_weights(path: str | Path) -> Weights:
    """Read a file written by torch.save or safetensors to the CPU, without running any code from it.

    The format is found from the content, because .pth, .pt, .pth.tar, .bin and .ckpt are all used for both formats.
    Tensors may be nested, as in {"model": ..., "optimizer": ...}, several levels deep. If there are several such keys,
    the first of state_dict_ema, state_dict_swa, model_ema, ema, state_dict, model is used: averaged weights before raw
    ones, as in timm. A checkpoint of this project also has its class names, and a safetensors file may have them as
    JSON in its metadata; if the monitor of the checkpoint's run was a figure of averaged weights, these are used.

    Raises:
        ValueError: the file doesn't exist, has another format, is damaged, contains objects other than tensors and
            plain containers, or contains no tensors.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        found = [name for name in FOLDER_FILES if (file / name).is_file()]
        remedy = f"give the file in it: {file / found[0]}" if found else "give a weights file"
        raise ValueError(f"weights {file}: this is a folder; {remedy}")
    if not file.is_file():
        raise ValueError(f"weights {file}: no such file")
    content, source = _read(file), str(file)
    class_names = _class_names(_metadata(file) if _is_safetensors(file) else content)
    while wrapper := _wrapper(content):
        content, source = content[wrapper], f"{source}[{wrapper}]"
    entries = content if isinstance(content, dict) else {}
    tensors = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        first = ", ".join(str(name) for name in list(entries)[:4])
        raise ValueError(
            f"weights {source}: expected named tensors, found a {type(content).__name__} with {first}\n"
            f"Instead, {SAVE_STATE_DICT}."
        )
    return Weights(tensors, source, class_names)


def _read(file: Path) -> Any:
    other = _other_format(file)
    if other:
        raise ValueError(f"weights {file}: this is {other[0]}\nTo use its weights, {other[1]}.")
    try:
        if _is_safetensors(file):
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # for a damaged file an unpickler may raise any exception, even KeyError
        object_class = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and object_class:
            raise ValueError(
                f"weights {file}: it contains an object, {object_class[1]}, and loading that could run code\n"
                "If you trust it, load it once with torch.load(..., weights_only=False) and save its state_dict alone."
            ) from error
        reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
        raise ValueError(
            f"weights {file}: cannot be read ({reason})\nThe file is truncated or no weights file: copy it again."
        ) from error


def _metadata(file: Path) -> dict[str, Any]:
    """Return what a safetensors file says of its tensors, as the config of a checkpoint."""
    with safe_open(file, "pt") as opened:
        text = (opened.metadata() or {}).get("class_names", "")
    try:
        return {"config": {"class_names": json.loads(text)}}
    except ValueError:
        return {}


def _is_safetensors(file: Path) -> bool:
    """Check for an 8-byte length followed by JSON. A damaged file with the suffix counts too, for the error message."""
    with file.open("rb") as opened:
        return file.suffix == ".safetensors" or opened.read(9)[8:] == b"{"


def _other_format(file: Path) -> tuple[str, str] | None:
    """Return (its format, what to do) for a file in a known format other than torch.save's or safetensors'."""
    with file.open("rb") as opened:
        start = opened.read(512)
    for magic, other in MAGIC_BYTES.items():
        if start.startswith(magic):
            return other
    if start[257:262] == b"ustar":
        return "a tar archive", "unpack it and give the weights file in it"
    members = _members(file)
    for pattern, other in ARCHIVE_MEMBERS.items():
        if any(re.fullmatch(pattern, member) for member in members):
            return other
    if members and not any(member.endswith("data.pkl") for member in members):
        return "a zip archive", "unpack it and give the weights file in it"
    return SUFFIXES.get(file.suffix)


def _members(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except Exception:  # no zip archive, or a damaged one: reading it then raises the error
        return []


def _class_names(content: Any) -> list[str] | None:
    config = content.get("config") if isinstance(content, dict) else None
    names = config.get("class_names") if isinstance(config, dict) else None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None


def _wrapper(content: Any) -> str | None:
    if not isinstance(content, dict):
        return None
    monitored = _average(content.get("config"))
    names = (checkpoint_key(monitored), *WRAPPERS) if monitored else WRAPPERS
    return next((name for name in names if isinstance(content.get(name), dict)), None)


def _average(config: Any) -> str:
    """Return the averaged weights that the run's monitor is a figure of, or ""."""
    monitor = config.get("monitor") if isinstance(config, dict) else None
    return average_of(monitor) if isinstance(monitor, str) else ""
