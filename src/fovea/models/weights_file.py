"""Reads a file of weights without running code in it, whatever its name ends in, and names files of other kinds."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")
IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")  # as Hugging Face lays them out
SAVE_PLAINLY = "save what `network.state_dict()` gives with torch.save, alone or under 'state_dict'"
BEGINNINGS = {  # of a file's bytes -> (what it is, what to do)
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes", f"convert it to PyTorch: {SAVE_PLAINLY}"),
    b"\x1f\x8b": ("compressed with gzip", "decompress it first"),
    b"version https://git-lfs": ("a Git LFS pointer and not the file itself", "fetch it with `git lfs pull`"),
    b"GGUF": ("a GGUF file", f"take the PyTorch file of the same weights, or {SAVE_PLAINLY}"),
}
IN_ARCHIVES = {  # pattern of an archive's member -> (what it is, what to do)
    r"[^/]+/constants\.pkl|[^/]+/code/.*": (
        "a TorchScript archive, which holds a program",
        "save its weights alone: torch.save(torch.jit.load(file).state_dict(), 'weights.pth')",
    ),
    r"(.*/)?(archive_format|serialized_exported_program\.json)": (
        "a program of torch.export",
        "save its weights alone: torch.save(torch.export.load(file).state_dict, 'weights.pth')",
    ),
    r".*\.weights\.h5": ("a Keras archive", f"convert it to PyTorch: {SAVE_PLAINLY}"),
    r"[^/]+\.npy": ("an archive of NumPy arrays", f"load the arrays into the network, then {SAVE_PLAINLY}"),
}
ENDINGS = {  # for formats without a beginning of their own
    ".onnx": ("an ONNX program", f"take the PyTorch file that it was exported from, or {SAVE_PLAINLY}"),
    ".pb": ("a TensorFlow program", f"convert it to PyTorch: {SAVE_PLAINLY}"),
    ".index": ("a part of a TensorFlow checkpoint", f"convert it to PyTorch: {SAVE_PLAINLY}"),
    ".tflite": ("a TensorFlow Lite program", f"convert it to PyTorch: {SAVE_PLAINLY}"),
    ".msgpack": ("a Flax checkpoint", f"convert it to PyTorch: {SAVE_PLAINLY}"),
}


class Weights(NamedTuple):
    """Tensors by name, where they come from, for messages, and the names of the classes that they tell apart.

    `class_names` is None where the file doesn't say.
    """

    tensors: Mapping[str, Tensor]
    source: str
    class_names: list[str] | None = None


def is_a_path(text: str) -> bool:
    """Whether `text` names a file rather than published weights such as DEFAULT or IMAGENET1K_V1."""
    return "/" in text or "." in text or Path(text).exists()


def read_weights(path: str | Path) -> Weights:
    """Reads what torch.save or safetensors wrote, on the CPU and without running any code in it.

    The content decides, not the name's ending: .pth, .pt, .pth.tar, .bin and .ckpt are all used for both.
    Where tensors are wrapped, as in {"model": ..., "optimizer": ...}, the wrapper is opened, again if need be.
    Where there are several, the first of state_dict_ema, model_ema, ema, state_dict, model wins: averaged
    weights before raw ones, as in timm. A checkpoint of this project also says its classes' names.

    Raises:
        ValueError: no such file, a file of another kind, a damaged file, one that holds objects other than
            tensors and plain containers, or no tensors at all.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        there = [name for name in IN_A_FOLDER if (file / name).is_file()]
        remedy = f"name the file in it: {file / there[0]}" if there else "name a file of weights"
        raise ValueError(f"weights {file}: it is a folder; {remedy}")
    if not file.is_file():
        raise ValueError(f"weights {file}: no such file")
    content, source = _read(file), str(file)
    class_names = _class_names(content)
    while wrapper := _wrapper(content):
        content, source = content[wrapper], f"{source}[{wrapper}]"
    entries = content if isinstance(content, dict) else {}
    tensors = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        first = ", ".join(str(name) for name in list(entries)[:4])
        raise ValueError(
            f"weights {source}: no tensors by name, but a {type(content).__name__} with {first}\n"
            'Save what `network.state_dict()` gives, alone or under "state_dict".'
        )
    return Weights(tensors, source, class_names)


def _read(file: Path) -> Any:
    kind = _other_kind(file)
    if kind:
        raise ValueError(f"weights {file}: it is {kind[0]}\nTo use its weights, {kind[1]}.")
    try:
        if _is_safetensors(file):
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes an unpickler raise anything, KeyError included
        named = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and named:
            raise ValueError(
                f"weights {file}: it holds an object, {named[1]}, and building it would run code named in the file\n"
                "If you trust it, load it once with torch.load(..., weights_only=False) and save its state_dict alone."
            ) from error
        reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
        raise ValueError(
            f"weights {file}: cannot be read ({reason})\nIt is cut short or no file of weights: copy it again."
        ) from error


def _is_safetensors(file: Path) -> bool:
    """Its first 8 bytes are the length of a header in JSON; a file named so is one, if only a damaged one."""
    with file.open("rb") as opened:
        return file.suffix == ".safetensors" or opened.read(9)[8:] == b"{"


def _other_kind(file: Path) -> tuple[str, str] | None:
    """(What it is, what to do) for a file of a known format that isn't one of plain weights."""
    with file.open("rb") as opened:
        beginning = opened.read(512)
    for mark, kind in BEGINNINGS.items():
        if beginning.startswith(mark):
            return kind
    if beginning[257:262] == b"ustar":
        return "a tar archive", "unpack it, and name the file of weights in it"
    members = _members(file)
    for pattern, kind in IN_ARCHIVES.items():
        if any(re.fullmatch(pattern, member) for member in members):
            return kind
    if members and not any(member.endswith("data.pkl") for member in members):
        return "a zip archive", "unpack it, and name the file of weights in it"
    return ENDINGS.get(file.suffix)


def _members(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except Exception:  # no zip archive, or a damaged one, of which zipfile raises a lot: the reader says so
        return []


def _class_names(content: Any) -> list[str] | None:
    config = content.get("config") if isinstance(content, dict) else None
    names = config.get("class_names") if isinstance(config, dict) else None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None


def _wrapper(content: Any) -> str | None:
    if not isinstance(content, dict):
        return None
    return next((name for name in WRAPPERS if isinstance(content.get(name), dict)), None)
