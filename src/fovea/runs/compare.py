"""What differs between two runs: figures, metrics and checkpoints, compared bit for bit."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea.runs import checkpoint, provenance
from fovea.runs.results_file import results_of

RATES = ("batches_per_sec", "samples_per_sec", "items_per_sec", "flops_per_sec")
MEASURED = ("time", *RATES, *(f"device/{name}" for name in (*RATES, "mfu")))
TIMED = {  # logged names that no two runs share: ours, and those of Lightning's ThroughputMonitor
    "train/images_per_second",
    *(f"{stage}/{name}" for stage in ("train", "validate") for name in MEASURED),
}
DEVICE_STATISTICS = "DeviceStatsMonitor."  # what Lightning's callback logs begins so
OWN = {  # keys of a checkpoint under which each run has its own, or none
    "config",
    "pytorch-lightning_version",
    "val_loop",  # how often was validated, which a killed run does once more
    *("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"),  # ModelCheckpoint's
    "time_elapsed",  # Timer's
}
WEIGHTS = ("state_dict", "state_dict_ema", "optimizer_states")  # of which all is compared


def differences(of: Path, folder: Path) -> list[str]:
    """One line for each thing that differs between two finished runs; none where they are identical."""
    return [*_figures(of, folder), *_metrics(of, folder), *_checkpoints(of, folder)]


def _figures(of: Path, folder: Path) -> Iterator[str]:
    then, now = (results_of(run).get("test") or {} for run in (of, folder))
    for name in then | now:
        if str(then.get(name)) != str(now.get(name)):  # as text, in which a NaN equals itself
            yield f"test {name}: {then.get(name)} then, {now.get(name)} now"


def _metrics(of: Path, folder: Path) -> Iterator[str]:
    """The first value that differs, and how many do; and whether one was logged twice.

    A run that was stopped by trainer.max_steps and prolonged has what was logged at that end too: no difference.
    """
    then, now = (_logged(run / "metrics.csv") for run in (of, folder))
    for run, logged in ((of, then), (folder, now)):
        twice = sorted(place for place, texts in logged.items() if len(texts) > 1)
        if twice:
            yield f"{run / 'metrics.csv'} has {twice[0][1]} of step {twice[0][0]} twice"
    for mine, theirs, run in ((then, now, of), (now, then, folder)):
        ends = {start["ended_at"] - 1 for start in provenance.starts(run) if start.get("ended_at")}
        for place in mine.keys() - theirs.keys():
            if place[0] in ends:
                del mine[place]
    others = sorted(place for place in then | now if then.get(place) != now.get(place))
    if others:
        step, name = others[0]
        values = " then, ".join(" and ".join(logged.get(others[0], ["nothing"])) for logged in (then, now)) + " now"
        yield f"metrics.csv, in {len(others)} of {len(then | now)} values, first {name} at step {step}: {values}"


def _logged(file: Path) -> dict[tuple[int, str], list[str]]:
    """{(step, column): its texts, one if all is well}; nothing where there is no such file."""
    logged: dict[tuple[int, str], list[str]] = {}
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                for name, text in row.items():
                    if text and name != "step" and not is_timed(name):
                        logged.setdefault((int(row["step"]), name), []).append(text)
    return logged


def is_timed(name: str) -> bool:
    """Whether no two runs share what is logged under this name."""
    return name in TIMED or name.startswith(DEVICE_STATISTICS)


def _checkpoints(of: Path, folder: Path) -> Iterator[str]:
    for name in ("last.ckpt", "best.ckpt"):
        files = [run / "checkpoints" / name for run in (of, folder)]
        there = [file for file in files if file.is_file()]
        if len(there) == 1:
            yield f"{name}: only {there[0]} is there"
        if len(there) == 2:
            then, now = (dict(_leaves(checkpoint.read(file))) for file in files)
            yield from (f"{name}: {text}" for text in _other_values(then, now))


def _leaves(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(place, value) of all that two runs should share."""
    for key, part in content.items():
        if key not in OWN:
            yield from _within(part, key, whole=key in WEIGHTS)


def _within(node: Any, place: str, whole: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            timed = place == "running.logged" and is_timed(str(key))
            if whole or not (key in OWN or timed):
                yield from _within(value, f"{place}.{key}", whole)
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
