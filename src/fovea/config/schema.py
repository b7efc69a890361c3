"""The types and ranges of the keys that people type; keys not named here are free."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] | None  # so many, or that part


class Section(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), allow_inf_nan=False)


class Sampler(Section):
    samples: Positive | None = None
    repeats: Positive = 1
    power: Annotated[float, Field(ge=0)] | None = None
    class_weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    file: str | None = None


class Data(Section):
    root: str | None = None
    image_size: Positive = 1
    batch_size: Positive = 1
    num_workers: NonNegative = 0
    on_error: Literal["raise", "skip"] = "raise"
    background: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)] = [0, 0, 0]
    val_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    split_seed: NonNegative = 0
    sampler: Sampler = Sampler()
    store: str | None = None
    decode: Literal["cpu", "cuda"] = "cpu"
    resident: bool = False


class Loss(Section):
    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0


class Optimizer(Section):
    lr: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Scheduler(Section):
    interval: Literal["epoch", "step"]


class Trainer(Section):
    devices: Annotated[int, Field(ge=-1)] | str | list[NonNegative] = 1
    num_nodes: Positive = 1
    max_epochs: Annotated[int, Field(ge=-1)] | None = None
    max_steps: Annotated[int, Field(ge=-1)] = -1
    accumulate_grad_batches: Positive = 1
    log_every_n_steps: NonNegative = 1
    gradient_clip_val: Annotated[float, Field(ge=0)] | None = None
    limit_train_batches: Share = None
    limit_val_batches: Share = None
    limit_test_batches: Share = None


class Checkpoint(Section):
    every_n_steps: Positive | None = None
    every_n_minutes: Annotated[float, Field(gt=0)] | None = None


class Config(Section):
    """A composed config; `evaluate` and `predict` hold a run's whole config and a few keys of their own."""

    task_name: Annotated[str, Field(min_length=1)] = "train"
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    on_nan: Literal["stop", "skip"] = "stop"
    weights_min_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    mode: Literal["min", "max"] | None = None
    freeze: str | list[str] | None = None
    data: Data
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    checkpoint: Checkpoint
    split: Literal["train", "val", "test", "all"] = "test"
    top_k: Positive = 1
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5


class Packing(Config):
    """What `pack` has beside."""

    output: Annotated[str, Field(min_length=1)]
    format: Literal["files", "jpeg", "raw"]
    short_side: Positive | None = None
    long_side: Positive | None = None
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    num_workers: NonNegative = 0
    verify: bool = False


def check_types(config: dict[str, Any], complete: bool = True) -> None:
    """Raises ValueError naming up to three keys whose value has a wrong type or range, or that are missing.

    `complete` says whether a key may be called missing.
    """
    try:
        (Packing if "usual" in config else Config).model_validate(config)
    except ValidationError as error:
        lines = _lines(error, complete)
        if lines:
            raise ValueError("\n".join(lines[:3])) from None


def _lines(error: ValidationError, complete: bool) -> list[str]:
    """One line a key: a union's branches each complain, the first one speaks."""
    lines: dict[str, str] = {}
    for one in error.errors(include_url=False):
        key = ".".join(str(part) for part in one["loc"] if _is_key(part))
        if one["type"] != "missing":
            lines.setdefault(key, f"{key}={one['input']}: {one['msg'][0].lower()}{one['msg'][1:]}")
        elif complete:
            lines.setdefault(key, f"{key} is missing")
    return list(lines.values())


def _is_key(part: int | str) -> bool:
    """pydantic puts a union's branch ("constrained-int", "list[...]") into the location: not a key of ours."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("int", "float", "str"))


def check_monitor(monitor: str, metrics: Iterable[str], averaged: bool) -> None:
    """Raises ValueError where `monitor` is not `train/` or `val/` and one of the metrics' names.

    With `averaged` weights there are `val/ema_<name>` too.
    """
    splits = ("val/", "train/", "val/ema_") if averaged else ("val/", "train/")
    metrics = list(metrics)
    names = [f"{split}{name}" for split in splits for name in metrics]
    if monitor not in names and monitor in [f"val/ema_{name}" for name in metrics]:
        raise ValueError(f"monitor={monitor} is not logged without averaged weights: callbacks=[default,ema]")
    if monitor not in names:
        near = difflib.get_close_matches(monitor, names, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"monitor={monitor} is not logged: {meant}There are {', '.join(names)}")
