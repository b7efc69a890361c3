"""Starting a network from a file of weights: read without running code, matched by name, accounted for."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
PREFIXES = ("module.", "_orig_mod.", "net.", "network.", "model.")
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")


class Weights(NamedTuple):
    """Tensors by name, and where they come from, for messages."""

    tensors: Mapping[str, Tensor]
    source: str


@dataclass(frozen=True)
class LoadReport:
    """Names of the network's tensors that were loaded or left as they were, and of the file's that were not used."""

    source: str
    loaded: list[str]
    fresh: list[str]
    unused: list[str]

    def table(self) -> str:
        """One line each with a count and the first names; without BatchNorm's step counters."""
        rows = [("loaded", self.loaded), ("left fresh", self.fresh), ("not used", self.unused)]
        lines = [f"  {label:<10} {len(names):>5}  {_shortened(names)}".rstrip() for label, names in rows]
        return "\n".join([f"weights from {self.source}", *lines])


def load_weights(network: nn.Module, path: str | Path) -> LoadReport:
    """Copies a file's weights into the network; see `read_weights` for the file and `fill` for the matching."""
    return fill(network, read_weights(path))


def read_weights(path: str | Path) -> Weights:
    """Reads .pth, .pt and .ckpt (without running any code in them) and .safetensors, on the CPU.

    Where tensors are wrapped, as in {"model": ..., "optimizer": ...}, the wrapper is opened, again if need be.
    Where there are several, the first of state_dict_ema, model_ema, ema, state_dict, model wins: averaged
    weights before raw ones, as in timm.

    Raises:
        ValueError: no such file, a suffix not listed above, a damaged file, one that holds objects other than
            tensors and plain containers, or no tensors at all.
    """
    file = Path(path).expanduser()
    if file.suffix not in SUFFIXES:
        raise ValueError(f"weights {file}: the suffix {file.suffix!r} is none of {' '.join(SUFFIXES)}")
    if not file.is_file():
        raise ValueError(f"weights {file}: no such file")
    content, source = _read(file), str(file)
    while wrapper := _wrapper(content):
        content, source = content[wrapper], f"{source}[{wrapper}]"
    entries = content if isinstance(content, dict) else {}
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"weights {source}: no tensors by name, but a {type(content).__name__} with {_shortened(list(entries))}\n"
            'Save what `network.state_dict()` gives, alone or under "state_dict".'
        )
    return Weights(tensors, source)


def match_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes `module.`, `_orig_mod.`, `net.`, `network.` and `model.` off names, until the network knows them.

    Raises:
        ValueError: two names become the same.
    """
    own = network.state_dict().keys()
    matched: dict[str, str] = {}
    for name in tensors:
        short = _without_prefixes(name, own)
        if short in matched:
            raise ValueError(f"weights: both {matched[short]} and {name} would be {short}; remove one from the file")
        matched[short] = name
    return {short: tensors[name] for short, name in matched.items()}


def fill(network: nn.Module, weights: Weights) -> LoadReport:
    """Copies every tensor whose name, less its prefixes, is the network's.

    A classifier made for another number of classes stays as it is: a tensor whose shape differs in its first
    size only, where the network's is the class count (the first size of the network's last parameter).

    Raises:
        ValueError: any other shape differs, or no name is the network's; the network is then unchanged.
    """
    fitting = _fitting(network, weights)
    # Only the root says its version: modules below then also take names from before their own renamings.
    fitting._metadata = {"": {"version": network._version}}  # type: ignore[attr-defined]
    missing, unused = network.load_state_dict(fitting, strict=False)
    own, fresh = network.state_dict(), set(missing)
    return LoadReport(
        source=weights.source,
        loaded=[name for name in own if name not in fresh and _counts(name)],
        fresh=[name for name in own if name in fresh and _counts(name)],
        unused=[name for name in unused if _counts(name)],
    )


def _fitting(network: nn.Module, weights: Weights) -> OrderedDict[str, Tensor]:
    """All tensors, by the network's names, but those of a head for another number of classes."""
    own = network.state_dict()
    classes = list(network.parameters())[-1].shape[:1]
    named = match_names(network, weights.tensors)
    fitting: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in named.items():
        if name not in own or tensor.shape == own[name].shape:
            fitting[name] = tensor
        elif own[name].shape[:1] != classes or own[name].shape[1:] != tensor.shape[1:]:
            raise ValueError(
                f"weights {weights.source}: {name} is {tuple(tensor.shape)} there, {tuple(own[name].shape)} here\n"
                "Give the network the settings it had when the file was written (depth, width, stem, image size, ...)."
            )
    if own.keys().isdisjoint(fitting):
        raise ValueError(
            f"weights {weights.source}: nothing in it fits this network\n"
            f"  the file has    {_shortened(list(named))}\n  the network has {_shortened(list(own))}"
        )
    return fitting


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
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


def _wrapper(content: Any) -> str | None:
    if not isinstance(content, dict):
        return None
    return next((name for name in WRAPPERS if isinstance(content.get(name), dict)), None)


def _without_prefixes(name: str, own: Collection[str]) -> str:
    while name not in own and name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _counts(name: str) -> bool:
    """Whether the report names it: BatchNorm's step counters are loaded in silence."""
    return not name.endswith("num_batches_tracked")


def _shortened(names: list[str], shown: int = 4) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
