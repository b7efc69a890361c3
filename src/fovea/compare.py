"""What differs between two runs: figures, metrics and checkpoints, compared bit for bit."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea import checkpoint, provenance
from fovea.config.files import results_of

TIMED = re.compile(r"per_second|seconds|time|speed")  # columns of metrics.csv that no two runs share
OWN = re.compile(  # of a checkpoint: places and times; and how often was validated, which a killed run does once more
    rf"config|version|path|best_k_models|val_loop|{TIMED.pattern}"
)


def differences(of: Path, folder: Path) -> list[str]:
    """One line for each thing that differs between two finished runs; none where they are identical."""
    return [*_figures(of, folder), *_metrics(of, folder), *_checkpoints(of, folder)]


def _figures(of: Path, folder: Path) -> Iterator[str]:
    then, now = (results_of(run)["test"] for run in (of, folder))
    for name in then | now:
        if str(then.get(name)) != str(now.get(name)):  # as text, in which a NaN equals itself
            yield f"test {name}: {then.get(name)} then, {now.get(name)} now"


def _metrics(of: Path, folder: Path) -> Iterator[str]:
    """The first value that differs, and how many do.

    Where a run was stopped by trainer.max_steps and resumed it has what was logged at that end too: no difference.
    """
    then, now = (_logged(run / "metrics.csv") for run in (of, folder))
    for mine, theirs, run in ((then, now, of), (now, then, folder)):
        for place in mine.keys() - theirs.keys() if len(provenance.starts(run)) > 1 else ():
            del mine[place]
    others = sorted(place for place in then | now if then.get(place) != now.get(place))
    if others:
        step, name = others[0]
        values = f"{then.get(others[0], 'nothing')} then, {now.get(others[0], 'nothing')} now"
        yield f"metrics.csv, in {len(others)} of {len(then | now)} values, first {name} at step {step}: {values}"


def _logged(file: Path) -> dict[tuple[int, str], str]:
    """{(step, column): text}; nothing where there is no such file."""
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as rows:
        return {
            (int(row["step"]), name): text
            for row in csv.DictReader(rows)
            for name, text in row.items()
            if text and name != "step" and not TIMED.search(name)
        }


def _checkpoints(of: Path, folder: Path) -> Iterator[str]:
    for name in ("last.ckpt", "best.ckpt"):
        files = [run / "checkpoints" / name for run in (of, folder)]
        there = [file for file in files if file.is_file()]
        if len(there) == 1:
            yield f"{name}: only {there[0]} is there"
        if len(there) == 2:
            then, now = (dict(_leaves(checkpoint.read(file))) for file in files)
            yield from (f"{name}: {text}" for text in _other_values(then, now))


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of all in nested containers that two runs should share."""
    if OWN.search(place):
        return
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    else:
        yield place, node


def _other_values(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """How many differ, and by how much tensors do at most, in one line; those that only one has, in another."""
    alone = then.keys() ^ now.keys()
    if alone:
        yield f"{len(alone)} values are in one of the two only, such as {min(alone)}"
    both = [place for place in then if place in now]
    others = [place for place in both if not same(then[place], now[place])]
    if others:
        farthest = max((_distance(then[place], now[place]) for place in others), default=0.0)
        yield f"{len(others)} of {len(both)} values differ, first {others[0]}, by {farthest:.3g} at most"


def same(one: Any, other: Any) -> bool:
    """Bit for bit, a NaN as itself and a zero with its sign."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return repr(one) == repr(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.detach().reshape(-1).contiguous().view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def _distance(one: Any, other: Any) -> float:
    """Infinite between what can't be subtracted."""
    numbers = (Tensor, int, float)
    if not (isinstance(one, numbers) and isinstance(other, numbers)):
        return float("inf")
    first, second = (torch.as_tensor(value, dtype=torch.float64) for value in (one, other))
    return float("inf") if first.shape != second.shape else (first - second).abs().max().item()
