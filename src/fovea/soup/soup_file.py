"""Writes averaged weights into a folder that evaluate.py, predict.py and load_run use like a run's."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from safetensors.torch import save_file
from torch import Tensor

from fovea.files import atomic_write
from fovea.runs import provenance
from fovea.runs.checkpoint import SafeCheckpointIO
from fovea.runs.figure_names import average_of, checkpoint_key
from fovea.runs.run_folder import write_json
from fovea.soup.candidates import NETWORK, Candidate
from fovea.soup.greedy import Trial
from fovea.soup.soup_validation import Validation

FILE = "soup.safetensors"


def write_soup(
    folder: Path, trials: Sequence[Trial], weights: Mapping[str, Tensor], validation: Validation, rule: dict[str, Any]
) -> None:
    """Write the config, the checkpoint, the weights file, soup.json and the results.

    Args:
        folder: a new folder.
        trials: the candidates that were tried, the best one first: its run's config is the average's.
        weights: the network's tensors.
        validation: of the average.
        rule: how the average was made, for soup.json.
    """
    first, value = trials[0].candidate, [trial.value for trial in trials if trial.added][-1]
    folder.mkdir(parents=True)
    _write_checkpoint(folder, first, weights, validation)
    with atomic_write(folder / FILE) as temporary:
        names = {"class_names": json.dumps(first.config["class_names"])}  # read_weights reads them
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary, names)
    for name in ("config.yaml", "resolved.yaml"):
        if (first.run / name).is_file():
            shutil.copyfile(first.run / name, folder / name)
    provenance.add(folder, provenance.start(first.config["seed"], validation.data.fingerprint(), world_size=1))
    rows = [
        {"run": str(one.run), "checkpoint": str(one.file), "value": one.value, "average": average, "added": added}
        for one, average, added in trials
    ]
    about = {"monitor": validation.name, "value": value, "images": len(validation.data.splits["val"])}
    write_json(folder / "soup.json", about | rule | {"candidates": rows})
    best = {"checkpoint": FILE, "value": value}
    averaged = [str(trial.candidate.file) for trial in trials if trial.added]
    results = {"status": "finished", "monitor": first.config["monitor"], "best": best, "averaged": averaged}
    write_json(folder / "results.json", results)


def _write_checkpoint(folder: Path, first: Candidate, weights: Mapping[str, Tensor], validation: Validation) -> None:
    """Write checkpoints/best.ckpt; it has the average in the place that the run's monitor measures, too."""
    state = validation.task.state_dict() | {f"{NETWORK}{name}": tensor for name, tensor in weights.items()}
    content = {
        "state_dict": dict(state),
        "config": dict(first.config),
        "callbacks": {},
        "pytorch-lightning_version": lightning.__version__,
    }
    average = average_of(first.config["monitor"])
    if average:
        content[checkpoint_key(average)] = dict(weights)
    SafeCheckpointIO().save_checkpoint(content, folder / "checkpoints" / "best.ckpt")
