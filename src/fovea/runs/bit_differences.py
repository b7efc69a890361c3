"""Compares the test figures, metrics.csv and checkpoints of two runs bit for bit."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea.runs import checkpoint, provenance
from fovea.runs.figure_names import AVERAGES, checkpoint_key
from fovea.runs.results_file import results_of

RATES = ("batches_per_sec", "samples_per_sec", "items_per_sec", "flops_per_sec")
MEASURED = ("time", *RATES, *(f"device/{name}" for name in (*RATES, "mfu")))
TIMED = {  # logged values that depend on time: fovea's own, and those of Lightning's ThroughputMonitor
    "train/images_per_second",
    *(f"{stage}/{name}" for stage in ("train", "validate") for name in MEASURED),
}
DEVICE_STATISTICS = "DeviceStatsMonitor."  # prefix of the values that this callback of Lightning's logs
OWN = {  # keys of a checkpoint whose values are specific to a run
    "config",
    "pytorch-lightning_version",
    "val_loop",  # counts validations; a killed run repeats one
    *("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"),  # ModelCheckpoint's
    "time_elapsed",  # Timer's
}
WEIGHTS = ("state_dict", *map(checkpoint_key, AVERAGES), "optimizer_states")  # compared as a whole, whatever their keys


def differences(of: Path, folder: Path) -> list[str]:
    """Return a line for each difference between two finished runs; [] if they are identical."""
    return [*_figures(of, folder), *_metrics(of, folder), *_checkpoints(of, folder)]


def _figures(of: Path, folder: Path) -> Iterator[str]:
    then, now = (results_of(run).get("test") or {} for run in (of, folder))
    for name in then | now:
        if str(then.get(name)) != str(now.get(name)):  # compared as text, in which a NaN equals a NaN
            yield f"test {name}: {then.get(name)} then, {now.get(name)} now"


def _metrics(of: Path, folder: Path) -> Iterator[str]:
    """Yield a line for values that were logged twice, and a line with the number of differences and the first one.

    Values that a run logged at its end before it was prolonged (trainer.max_steps) are not differences.
    """
    then, now = (_logged(run / "metrics.csv") for run in (of, folder))
    for run, logged in ((of, then), (folder, now)):
        twice = sorted(place for place, texts in logged.items() if len(texts) > 1)
        if twice:
            yield f"{run / 'metrics.csv'} has {twice[0][1]} of step {twice[0][0]} twice"
    for own, other, run in ((then, now, of), (now, then, folder)):
        ends = {start["ended_at"] - 1 for start in provenance.starts(run) if start.get("ended_at")}
        for place in own.keys() - other.keys():
            if place[0] in ends:
                del own[place]
    others = sorted(place for place in then | now if then.get(place) != now.get(place))
    if others:
        step, name = others[0]
        values = " then, ".join(" and ".join(logged.get(others[0], ["nothing"])) for logged in (then, now)) + " now"
        count = f"{len(others)} of {len(then | now)} values"
        yield f"metrics.csv: {count} differ, the first is {name} at step {step}: {values}"


def _logged(file: Path) -> dict[tuple[int, str], list[str]]:
    """Return {(step, column): texts}, with one text unless a value was logged twice; {} if there is no such file."""
    logged: dict[tuple[int, str], list[str]] = {}
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                for name, text in row.items():
                    if text and name != "step" and not is_timed(name):
                        logged.setdefault((int(row["step"]), name), []).append(text)
    return logged


def is_timed(name: str) -> bool:
    """Whether the values logged under this name depend on time and so differ between any two runs."""
    return name in TIMED or name.startswith(DEVICE_STATISTICS)


def _checkpoints(of: Path, folder: Path) -> Iterator[str]:
    for name in ("last.ckpt", "best.ckpt"):
        files = [run / "checkpoints" / name for run in (of, folder)]
        present = [file for file in files if file.is_file()]
        if len(present) == 1:
            yield f"{name}: only {present[0]} exists"
        if len(present) == 2:
            then, now = (dict(_leaves(checkpoint.read(file))) for file in files)
            yield from (f"{name}: {text}" for text in _different_values(then, now))


def _leaves(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of all values that should be equal in both runs."""
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


def _different_values(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield a line about values that only one run has, and a line with the number and size of the differences."""
    unmatched = then.keys() ^ now.keys()
    if unmatched:
        yield f"{len(unmatched)} values are in only one of the two, such as {min(unmatched)}"
    both = [place for place in then if place in now]
    others = [place for place in both if not same(then[place], now[place])]
    if others:
        farthest = max((_distance(then[place], now[place]) for place in others), default=0.0)
        yield f"{len(others)} of {len(both)} values differ, by {farthest:.3g} at most; the first is {others[0]}"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal bit for bit: a NaN equals itself, and zeros of different sign differ."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return repr(one) == repr(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.detach().reshape(-1).contiguous().view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def _distance(one: Any, other: Any) -> float:
    """Return the largest absolute difference; infinite for values that can't be subtracted."""
    numbers = (Tensor, int, float)
    if not (isinstance(one, numbers) and isinstance(other, numbers)):
        return float("inf")
    first, second = (torch.as_tensor(value, dtype=torch.float64) for value in (one, other))
    return float("inf") if first.shape != second.shape else (first - second).abs().max().item()
