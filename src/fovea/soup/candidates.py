"""Finds the checkpoints that a soup may average, and refuses those that don't belong together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fovea.config.checkpoint_config import WEIGHTS, differences
from fovea.data.fingerprint import compare
from fovea.models.averaging.averages import check_same_shapes
from fovea.runs import checkpoint, provenance
from fovea.runs.figure_names import average_of, checkpoint_key
from fovea.runs.results_file import results_of

TOP = "checkpoints/top"  # of a run: where callbacks=[default,top_k] keeps its checkpoints
# keys of the config that candidates have in common
SAME = (*WEIGHTS, "monitor", "mode")
NETWORK = "network."  # before the network's names in a checkpoint


@dataclass(frozen=True)
class Candidate:
    """A checkpoint whose weights may be averaged.

    Attributes:
        run: the run's folder.
        file: the checkpoint.
        value: the monitor's value of the checkpoint's validation; nan if it is not known.
        config: the run's resolved config.
    """

    run: Path
    file: Path
    value: float
    config: Mapping[str, Any]

    def weights(self) -> dict[str, Tensor]:
        """Return the network's tensors, those of the average if the monitor is a figure of it; mapped into memory."""
        content = checkpoint.read(self.file)
        averaged = content.get(checkpoint_key(average_of(self.config["monitor"])))
        if averaged is not None:
            return dict(averaged)
        state = content["state_dict"]
        return {name.removeprefix(NETWORK): value for name, value in state.items() if name.startswith(NETWORK)}


def candidates(run: Path, best: int | None) -> list[Candidate]:
    """Return the run's checkpoint that evaluate.py tests or, if `best` is given, its `best` best ones.

    Raises:
        ValueError: there are not as many; or a file is damaged or not a checkpoint of a training.
    """
    if best is None:
        return [_candidate(run, checkpoint.to_evaluate(run, None))]
    found = [_candidate(run, file) for file in sorted((run / TOP).glob("*.ckpt"))]
    if len(found) < best:
        raise ValueError(
            f"{run}: {best} best checkpoints are asked for, and there are {len(found)} in {TOP}\n"
            f"A run keeps them with callbacks=[default,top_k] callbacks.top_k.save_top_k={best}"
        )
    return ordered(found)[:best]


def _candidate(run: Path, file: Path) -> Candidate:
    content = checkpoint.read(file)
    if not isinstance(content, dict) or "state_dict" not in content or "config" not in content:
        raise ValueError(f"{file}: this is not a checkpoint of a training of this project")
    config = content["config"]
    logged = content.get("running", {}).get("logged", {})
    value = logged.get(config["monitor"], (results_of(run).get("best") or {}).get("value"))
    return Candidate(run, file, math.nan if value is None else float(value), config)


def ordered(found: Sequence[Candidate]) -> list[Candidate]:
    """Sort by the monitor's value, the best first; unknown values come last."""
    sign = -1 if found and found[0].config["mode"] == "max" else 1
    return sorted(found, key=lambda one: math.inf if math.isnan(one.value) else sign * one.value)


def check_compatible(found: Sequence[Candidate]) -> None:
    """Raise ValueError if the candidates can't be averaged, or can't be compared by one validation.

    All need the same network, classes, preprocessing and monitor, and the same division of the data: otherwise the
    validation images of one would be training images of another.
    """
    if len(found) < 2:
        raise ValueError(f"there is only one checkpoint to average ({found[0].file}): name more runs, or --best 3")
    first, *others = found
    weights, data = first.weights(), _data_of(first.run)
    for other in others:
        for place, (then, now) in differences(first.config, other.config, SAME).items():
            raise ValueError(
                f"{other.file}: {place} is {_short(now)}, and {_short(then)} in {first.file}: these runs can't be "
                "averaged"
            )
        check_same_shapes(weights, other.weights(), str(other.file))
        theirs = _data_of(other.run)
        difference = compare(data, theirs) if data and theirs else None
        if difference and difference.certain:
            raise ValueError(
                f"{other.run}: its data or their division differ from those of {first.run} ({difference.text}), so "
                "the validation images of one may be training images of the other"
            )


def _data_of(run: Path) -> dict[str, Any] | None:
    starts = provenance.starts(run)
    return starts[-1]["data_fingerprint"] if starts else None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
