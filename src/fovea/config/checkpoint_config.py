"""Compares the config in a checkpoint with the config that the checkpoint is used with, for ckpt_path=.

Only keys that both configs have are compared, as options change between versions.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fovea.config.keys import FIXED, dotted, names, row, rule
from fovea.config.saved import load, plain

WEIGHTS = ("class_names", "model", "cosine_scale", "preprocess")  # the weights are right with these values only
FREE = (
    *("scheduler", "warmup"),  # a training replaces the checkpoint's schedule by its own
    *("num_classes", "pretrained"),  # these differ only together with keys of WEIGHTS
    "model.weights_min_share",  # only for loading weights from a file
)
# what the rest of a checkpoint's state depends on, such as the optimizer's
FIXED_KEYS = (key for key in names("resume") if row(key).resume == FIXED and not row(key).starts)
STATE = tuple(key for key in FIXED_KEYS if key not in (*WEIGHTS, *FREE))
MOST = 3  # differences that a message lists
LONGEST = 60  # characters of a value in a message


def check_to_evaluate(file: Path, stored: Mapping[str, Any], config: Mapping[str, Any], run: Path) -> None:
    """Raise ValueError if an evaluation would use the weights of a run with other classes, network or preprocessing.

    A checkpoint of the run itself is accepted with any values, because they were typed for this evaluation.

    Args:
        file: the checkpoint.
        stored: the config in it; empty if it has none.
        config: the evaluation's, as plain containers.
        run: the folder of the run whose config is used.
    """
    found = _differences(stored, config, WEIGHTS)
    if not found or file.parent.resolve().is_relative_to(run.resolve()):
        return
    of_run = _differences(stored, plain(DictConfig(load(f"run={run}", run))), WEIGHTS)
    texts = [text for key, text in found.items() if key in of_run]
    if texts:
        lines = [f"ckpt_path={file} is of another run than run={run}, with other values:", *_first(texts)]
        raise ValueError("\n".join([*lines, f"Use the config of its own run: {_own_run(file, stored)}"]))


def _own_run(file: Path, stored: Mapping[str, Any]) -> str:
    if (file.parent.parent / "config.yaml").is_file():
        return shlex.quote(f"run={file}")
    return f"run=<its run folder>, which was {stored.get('run_dir', 'not stored')} in its training"


def check_to_train(file: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ValueError if a training would continue with the state of another network or optimizer.

    Args:
        file: the checkpoint.
        stored: the config in it; empty if it has none.
        config: the training's, as plain containers.
    """
    of_weights, of_state = (_differences(stored, config, keys) for keys in (WEIGHTS, STATE))
    if not of_weights | of_state:
        return
    lines = [f"ckpt_path={file} is the state of a training with other values:"]
    lines += _first([*of_weights.values(), *of_state.values()])
    if of_state:
        lines.append("The optimizer's state in the checkpoint has its own values; those of this run would be ignored")
    word = shlex.quote(f"weights={file}")
    lines.append(f"Type the checkpoint's values, or start with its weights and a new optimizer: {word}")
    raise ValueError("\n".join(lines))


def _differences(stored: Mapping[str, Any], config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Return {dotted key: "<key>: <value> in the checkpoint, <value> here"} of the values that differ."""
    then, now = (dict(_leaves(content, keys)) for content in (stored, config))
    return {key: _text(key, then[key], now[key]) for key in then if key in now and then[key] != now[key]}


def _leaves(config: Mapping[str, Any], keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) below `keys`, without files that the weights were read from."""
    for section in keys:
        for key, value in dotted(config[section], section) if section in config else ():
            if key not in FREE and not rule(key, "reads"):
                yield key, value


def _text(key: str, then: Any, now: Any) -> str:
    """Return the text of a difference; of long lists, such as class names, only of the first element that differs."""
    if isinstance(then, list) and isinstance(now, list) and max(len(str(then)), len(str(now))) > LONGEST:
        n = next((n for n, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), None)
        if n is None:
            return f"{key}: {len(then)} values in the checkpoint, {len(now)} here"
        key, then, now = f"{key}[{n}]", then[n], now[n]
    return f"{key}: {str(then)[:LONGEST]} in the checkpoint, {str(now)[:LONGEST]} here"


def _first(texts: list[str]) -> list[str]:
    return texts[:MOST] + ([f"and {len(texts) - MOST} more"] if len(texts) > MOST else [])
