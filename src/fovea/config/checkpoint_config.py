"""Compares the config in a checkpoint with the config that the checkpoint is used with, for ckpt_path=.

Only keys that both configs have are compared, as options change between versions.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fovea.config.keys import dotted, rule
from fovea.config.saved import load, plain

WEIGHTS = ("task", "class_names", "model", "cosine_scale", "preprocess")  # the weights are right with these values only
FREE = (  # patterns of keys of the model that any weights of the right shapes fit
    "model.weights_min_share",  # only for loading weights from a file
    "model.image_size",  # of a network for one size, the shapes of the weights depend on it
    *("model.*drop*", "model.stochastic_depth_prob"),  # only in training
)
STATE = ("optimizer", "parameter_groups", "freeze", "lr_scaling", "lr_reference_batch")  # the optimizer's
REPLACED = (  # values in that state that a training replaces by its own, except with a plateau schedule
    *(f"optimizer.{name}" for name in ("lr", "weight_decay", "momentum", "betas", "eps")),
    *("lr_scaling", "lr_reference_batch"),
)
Values = tuple[Any, Any]
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
    found = differences(stored, config, WEIGHTS)
    if not found or file.parent.resolve().is_relative_to(run.resolve()):
        return
    of_run = differences(stored, plain(DictConfig(load(f"run={run}", run))), WEIGHTS)
    found = {key: values for key, values in found.items() if key in of_run}
    if found:
        lines = [f"ckpt_path={file} is of another run than run={run}, with other values:", *_texts(found)]
        raise ValueError("\n".join([*lines, f"Use the config of its own run: {_own_run(file, stored)}"]))


def _own_run(file: Path, stored: Mapping[str, Any]) -> str:
    if (file.parent.parent / "config.yaml").is_file():
        return shlex.quote(f"run={file}")
    return f"run=<its run folder>, which was {stored.get('run_dir', 'not stored')} in its training"


def check_to_train(file: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise ValueError if a training would continue with the state of another network or optimizer.

    It is also raised if values of the optimizer were typed that a plateau schedule would not use.

    Args:
        file: the checkpoint.
        stored: the config in it; empty if it has none.
        config: the training's, as plain containers.
    """
    is_plateau = str(config["scheduler"]["_target_"]).endswith("ReduceLROnPlateau")
    found = differences(stored, config, (*WEIGHTS, *STATE))
    found = {key: values for key, values in found.items() if is_plateau or key not in REPLACED}
    if not found:
        return
    lines = [f"ckpt_path={file} is the state of a training with other values:", *_texts(found)]
    if found.keys() & {*REPLACED}:
        lines.append(
            "A plateau schedule goes on with the checkpoint's values of the optimizer: this run's have no effect"
        )
    word = shlex.quote(f"weights={file}")
    lines.append(f"Type the checkpoint's values, or start with its weights and a new optimizer: {word}")
    raise ValueError("\n".join(lines))


def differences(stored: Mapping[str, Any], config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Values]:
    """Return {dotted key: (stored value, the config's value)} of the values below `keys` that differ."""
    then, now = (dict(_leaves(content, keys)) for content in (stored, config))
    return {key: (then[key], now[key]) for key in then if key in now and then[key] != now[key]}


def _leaves(config: Mapping[str, Any], keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of what counts below `keys`; files that the weights were read from don't."""
    for section in keys:
        for key, value in dotted(config[section], section) if section in config else ():
            if not any(fnmatchcase(key, pattern) for pattern in FREE) and not rule(key, "reads"):
                yield key, value


def _text(key: str, then: Any, now: Any) -> str:
    """Return the text of a difference; of long lists, such as class names, only of the first element that differs."""
    if isinstance(then, list) and isinstance(now, list) and max(len(str(then)), len(str(now))) > LONGEST:
        n = next((n for n, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), None)
        if n is None:
            return f"{key}: {len(then)} values in the checkpoint, {len(now)} here"
        key, then, now = f"{key}[{n}]", then[n], now[n]
    return f"{key}: {str(then)[:LONGEST]} in the checkpoint, {str(now)[:LONGEST]} here"


def _texts(found: Mapping[str, Values]) -> list[str]:
    texts = [_text(key, *values) for key, values in found.items()]
    return texts[:MOST] + ([f"and {len(texts) - MOST} more"] if len(texts) > MOST else [])
