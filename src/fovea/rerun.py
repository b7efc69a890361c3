"""Is a repeated run identical to the first one? Figures, metrics and weights are compared, bit for bit."""

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea import provenance
from fovea.config.files import results_of
from fovea.run import write_json

log = logging.getLogger(__name__)

TIMED = re.compile(r"per_second|seconds|time|speed")  # columns of metrics.csv that no two runs share
WEIGHTS = {"last.ckpt": ("state_dict", "state_dict_ema", "optimizer_states"), "best.ckpt": ("state_dict",)}


def say_beforehand(of: Path, entry: dict[str, Any], other_values: Sequence[str]) -> None:
    """Warn of everything that may make the repetition of the run in `of` another one.

    Args:
        entry: the repetition's of provenance.json.
        other_values: what its config has otherwise.
    """
    before = provenance.starts(of)
    data = provenance.other_data(of, entry["data_fingerprint"])
    lines = [f"the config: {text}" for text in other_values] + [f"the data: {data.text}" for data in [data] if data]
    lines += provenance.changes(before[-1], entry) if before else ["the first run has no provenance.json"]
    lines += [f"force=true changed the first run's {text}" for one in before for text in one.get("forced", [])]
    for line in lines:
        log.warning("not as in the first run: %s", line)
    log.info("repeating %s, %s", of, "which differs as said" if lines else "with the same code, data and machine")


def say_whether_identical(of: Path, folder: Path) -> None:
    """Compare what both runs ended with, say it, and write it to rerun.json in `folder`.

    Raises:
        SystemExit: 1, where anything differs.
    """
    found = differences(of, folder)
    write_json(folder / "rerun.json", {"of": str(of), "identical": not found, "differences": found})
    if not found:
        log.info("identical to %s: test figures, metrics.csv and weights, bit for bit", of)
        return
    log.warning("not identical to %s:\n%s", of, "\n".join(f"  {line}" for line in found))
    raise SystemExit(1)


def differences(of: Path, folder: Path) -> list[str]:
    """One line for each thing that differs; none where the runs are identical."""
    return [*_figures(of, folder), *_metrics(of, folder), *_weights(of, folder)]


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


def _weights(of: Path, folder: Path) -> Iterator[str]:
    for name, parts in WEIGHTS.items():
        files = [run / "checkpoints" / name for run in (of, folder)]
        there = [file for file in files if file.is_file()]
        if len(there) == 1:
            yield f"{name}: only {there[0]} is there"
        if len(there) < 2:
            continue
        then, now = (dict(_tensors(_parts(file, parts))) for file in files)
        yield from (f"{name}: {text}" for text in _other_tensors(then, now))


def _parts(file: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Raises ValueError where the file is no checkpoint of plain data."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return {part: content[part] for part in parts if part in content}
    except Exception as error:  # an unpickler raises anything
        raise ValueError(f"{file} can't be compared: {str(error).splitlines()[0]}") from error


def _tensors(node: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """(path, tensor) of all in nested containers; numbers become tensors."""
    if isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _tensors(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, Tensor):
        yield path, node
    elif isinstance(node, int | float):
        yield path, torch.tensor(node, dtype=torch.float64)


def _other_tensors(then: dict[str, Tensor], now: dict[str, Tensor]) -> Iterator[str]:
    """How many differ, and by how much at most, in one line; those that only one has, in another."""
    alone = then.keys() ^ now.keys()
    if alone:
        yield f"{len(alone)} tensors are in one of the two only, such as {min(alone)}"
    both = [name for name in then if name in now]
    others = [name for name in both if not same_bits(then[name], now[name])]
    if others:
        farthest = max((_distance(then[name], now[name]) for name in others), default=0.0)
        yield f"{len(others)} of {len(both)} tensors differ, first {others[0]}, by {farthest:.3g} at most"


def same_bits(one: Tensor, other: Tensor) -> bool:
    """NaNs are compared as bits too."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.detach().reshape(-1).contiguous().view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def _distance(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return float("inf")
    return (one.double() - other.double()).abs().max().item()
