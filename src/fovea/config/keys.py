"""The table of config keys: their types, how they are typed, and what resume= and a saved config may do with them.

Keys that are not in the table get strict defaults: resume= changes them with force=true only, and texts in a section of
parts are treated as places to write to, which in a saved config must be inside the run's folder.
"""

import functools
from collections.abc import Iterator
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen

Share = Annotated[float, Ge(0), Le(1)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Positive = Annotated[int, Gt(0)]
NonNegative = Annotated[int, Ge(0)]
AtLeastZero = Annotated[float, Ge(0)]
Limit = NonNegative | Share | None  # a number of batches, or a share of them
Text = Annotated[str, MinLen(1)]
Multipliers = list[Annotated[list[str | float], Len(2, 2)]]  # [[pattern, factor], ...]
Color = Annotated[list[Annotated[int, Ge(0), Le(255)]], Len(3, 3)]

FIXED = "fixed"  # in the column `resume`: stored in the checkpoint or has to fit it, so force=true can't change it


class Typed(Enum):
    """How to read a value that Hydra's grammar would change: 2024_01_05 would become the number 20240105."""

    TEXT = "taken as it is"
    TEXT_OR_FALSE = "taken as it is, except that false is a boolean"
    PATH = "~ and environment variables are expanded"
    PATH_FROM_HERE = "like PATH, and relative to the folder in which the command was typed"
    PATH_OR_NAME = "like PATH_FROM_HERE if the file exists, else a name"


class Key(NamedTuple):
    """A row of the table. Columns up to `starts` apply to the key alone, the others also to all keys below it.

    Attributes:
        type: the type that pydantic checks in strict mode; None: anything.
        required: a composed config must have the key.
        typed: how its value is typed; None: in Hydra's grammar.
        must_exist: the value is a file that must exist.
        starts: a file that a training starts from; a saved run's config is loaded without it.
        resume: why resume= may change the key; FIXED: it may not; None: with force=true only.
        own: specific to one run or machine, so runs are not compared by it.
        here: specific to this machine, so never taken from a saved config.
        reads: a place that is only read, so a saved config may name any place.
        parts: a section whose parts are built, and which may write files or send logs.
        group: the group of conf/ that can replace the section for a trained run.
        view: how images are read, not which; kept if a trained run gets other data.
        division: which split and which label the images have; other data that a run is tested on don't keep it.
        from_data: computed from the data, or from published weights, when they are read.
    """

    type: Any = None
    required: bool = False
    typed: Typed | None = None
    must_exist: bool = False
    starts: bool = False
    resume: str | None = None
    own: bool | None = None
    here: bool | None = None
    reads: bool | None = None
    parts: bool | None = None
    group: str | None = None
    view: bool | None = None
    division: bool | None = None
    from_data: bool | None = None


FOLDER = Key(typed=Typed.PATH, resume="a folder of this machine", own=True, here=True)
INPUT = Key(typed=Typed.PATH_FROM_HERE, own=True, reads=True)
START = Key(str | None, typed=Typed.PATH_FROM_HERE, must_exist=True, starts=True, resume=FIXED, reads=True)
WEIGHTS = Key(typed=Typed.PATH_OR_NAME, starts=True, reads=True)
OWN = Key(own=True)
NAME = Key(typed=Typed.TEXT)
SECTION = Key(dict, required=True, parts=True)
FACT = Key(resume=FIXED, from_data=True)
COUNT = Key(from_data=True)
LENGTH = Key(own=True, from_data=True)
SAME_IMAGES = "the images are compared by their fingerprint"
WRITES = "a place to write to"
LASTS = "the run's length; the log states what changes in the schedule"
LOOKS_ON = "observes the training only"
SKIPS = "makes no difference until the first error"
ROUNDS = "the same computation; only rounding differs"
MACHINE = "the machine; the log states whether results stay bit for bit the same"

KEYS = {  # `*` stands for any part of a key
    # the run
    "task_name": Key(Text, typed=Typed.TEXT, resume="only a name"),
    "seed": Key(Annotated[int, Ge(0), Lt(2**32)], required=True),
    "mode": Key(Literal["min", "max"] | None),
    "on_nan": Key(Literal["stop", "skip"], resume=SKIPS),
    "weights": START,
    "weights_min_share": Key(Share),
    "freeze": Key(str | list[str] | None, resume=FIXED),
    "lr_scaling": Key(Literal["linear", "sqrt"] | None, resume=FIXED),
    "lr_reference_batch": Key(Positive, resume=FIXED),
    "imbalance": Key(Text),
    "cosine_scale": Key(Annotated[float, Gt(0)] | None, resume=FIXED),
    "compile": Key(bool, resume=ROUNDS),
    "gradient_checkpointing": Key(bool, resume="the same computation, in less memory"),
    "ckpt_path": START,
    "resume": INPUT,
    "rerun": INPUT,
    "run": INPUT,
    "baseline": INPUT,
    "report": Key(bool, resume=LOOKS_ON),
    "suspects": Key(NonNegative | None, resume=LOOKS_ON),
    "force": OWN,
    "forced": OWN,
    "started_from": OWN,
    "run_dir": Key(resume="the run's folder", own=True),
    "output_dir": OWN,
    "runs_dir": FOLDER,
    "data_dir": FOLDER,
    "project_dir": Key(resume="the code's folder", own=True, here=True),
    # evaluating and predicting
    "split": Key(Literal["train", "val", "test", "all"]),
    "tta": Key(Literal["none", "flip", "flip_shift", "five_crop", "flip_five_crop"]),
    "source": INPUT,
    "output": INPUT,
    "top_k": Key(Positive),
    "threshold": Key(Share | Literal["tuned"]),
    "calibrated": Key(bool),
    "logit_adjustment": Key(AtLeastZero | None),
    "reject": Key(Share | Literal["auto"] | None),
    # finding a learning rate
    "lowest_lr": Key(Annotated[float, Gt(0)]),
    "highest_lr": Key(Annotated[float, Gt(0)]),
    "steps": Key(Annotated[int, Ge(20)]),
    # finding a batch size
    "smallest": Key(Positive),
    "largest": Key(Positive | None),
    "measured_steps": Key(Positive),
    "longest_step": Key(Annotated[int | float, Gt(0)]),
    # packing
    "format": Key(Literal["files", "jpeg", "raw"]),
    "short_side": Key(Positive | None),
    "long_side": Key(Positive | None),
    "quality": Key(Annotated[int, Ge(1), Le(100)] | None),
    "num_workers": Key(NonNegative),
    "verify": Key(bool),
    # verifying images
    "strict": Key(bool),
    "near_distance": Key(Annotated[int, Ge(0), Le(8)] | None),
    "near_correlation": Key(Share),
    "least_images": Key(NonNegative),
    # browsing
    "samples": Key(Annotated[int, Ge(0), Le(100)]),
    "augmented": Key(Annotated[int, Ge(0), Le(20)]),
    "epochs": Key(Annotated[int, Ge(1), Le(20)]),
    "measured": Key(Positive),
    # set when the data, or the published weights, are read
    "task": FACT,
    "num_classes": FACT,
    "class_names": FACT,
    "class_counts": COUNT,
    "epoch_images": COUNT,
    "total_steps": LENGTH,
    "schedule_length": LENGTH,
    "warmup_length": LENGTH,
    "schedule_epoch": LENGTH,
    "pretrained": FACT._replace(type=dict),
    # parts
    "model": SECTION._replace(resume=FIXED),
    "model.name": NAME,
    "model.weights": WEIGHTS,
    "model.ckpt_path": WEIGHTS,
    "model.checkpoint_path": Key(typed=Typed.PATH_OR_NAME, reads=True),
    "loss": SECTION,
    "loss.label_smoothing": Key(Share),
    "objective": Key(dict, parts=True),
    "objective.alpha": Key(Share),
    "objective.temperature": Key(Annotated[float, Gt(0)]),
    "objective.weight": Key(AtLeastZero),
    "objective.rho": Key(AtLeastZero),
    "objective.teacher": INPUT._replace(type=Text | dict, own=None),
    "objective.teacher.name": NAME,
    "objective.teacher.weights": Key(typed=Typed.PATH_OR_NAME),
    "optimizer": SECTION._replace(resume=FIXED),
    "optimizer.lr": Key(Annotated[float, Gt(0)]),
    "optimizer.weight_decay": Key(AtLeastZero),
    "optimizer.momentum": Key(Fraction),
    "parameter_groups": SECTION._replace(resume=FIXED),
    "parameter_groups.lr_multipliers": Key(Multipliers),
    "parameter_groups.weight_decay_multipliers": Key(Multipliers),
    "parameter_groups.weight_decay": Key(AtLeastZero | None),
    "parameter_groups.decay": Key(Annotated[float, Gt(0), Le(1)]),
    "parameter_groups.min_factor": Key(Share),
    "scheduler": SECTION._replace(resume=FIXED),
    "scheduler.interval": Key(Literal["epoch", "step"], required=True),
    "warmup": Key(dict, resume=FIXED),
    "warmup.shape": Key(Literal["linear", "constant"] | None),
    "warmup.share": Key(Annotated[float, Gt(0), Lt(1)]),
    "warmup.epochs": Key(Annotated[int | float, Gt(0)] | None),
    "warmup.start_factor": Key(Annotated[float, Gt(0), Le(1)] | None),
    "metrics": SECTION._replace(group="metrics"),
    "per_class_metrics": SECTION._replace(group="metrics"),
    "augment": SECTION._replace(group="augment"),
    "mixing": Key(parts=True),
    "mixing.probability": Key(Share),
    "mixing.switch_probability": Key(Share),
    "mixing.mixup_alpha": Key(AtLeastZero),
    "mixing.cutmix_alpha": Key(AtLeastZero),
    "preprocess": SECTION,
    "checkpoint": Key(dict, required=True, resume="how often last.ckpt is written"),
    "checkpoint.every_n_steps": Key(Positive | None),
    "checkpoint.every_n_minutes": Key(Annotated[float, Gt(0)] | None),
    # the data
    "data": SECTION._replace(group="data"),
    "data.root": Key(str | None, typed=Typed.PATH_FROM_HERE, resume=SAME_IMAGES, reads=True),
    "data.store": Key(str | None, typed=Typed.PATH_FROM_HERE, resume=SAME_IMAGES, reads=True),
    "data.store_cache": Key(typed=Typed.PATH_FROM_HERE, resume="copies of the same images", view=True),
    "data.read": Key(resume=SAME_IMAGES, reads=True),
    "data.read.cache": Key(typed=Typed.PATH_FROM_HERE, reads=False),
    "data.read.root": Key(reads=False),
    "data.read.year": NAME,
    "data.read.split_column": Key(typed=Typed.TEXT_OR_FALSE),
    "data.val_fraction": Key(Fraction, resume=SAME_IMAGES, division=True),
    "data.test_fraction": Key(Fraction, resume=SAME_IMAGES, division=True),
    "data.split_seed": Key(NonNegative, resume=SAME_IMAGES, division=True),
    "data.folds": Key(Annotated[int, Ge(2)] | None, resume=SAME_IMAGES, division=True),
    "data.fold": Key(NonNegative | None, resume=SAME_IMAGES, division=True),
    "data.val_as_test": Key(bool, resume=SAME_IMAGES, division=True),
    "data.group_column": Key(str | None, typed=Typed.TEXT, resume=SAME_IMAGES, division=True),
    "data.group_pattern": Key(str | None, typed=Typed.TEXT, resume=SAME_IMAGES, division=True),
    "data.limit_per_class": Key(Positive | None, resume=SAME_IMAGES, division=True),
    "data.corrections": Key(
        str | None, typed=Typed.PATH_FROM_HERE, must_exist=True, resume=SAME_IMAGES, reads=True, division=True
    ),
    "data.subset": Key(
        str | None, typed=Typed.PATH_FROM_HERE, must_exist=True, resume=SAME_IMAGES, reads=True, division=True
    ),
    "data.image_size": Key(Positive, view=True),
    "data.eval_image_size": Key(Positive, view=True),
    "data.progressive": Key(dict, view=True),
    "data.progressive.start": Key(Positive | None),
    "data.progressive.epochs": Key(Positive | None),
    "data.progressive.step": Key(Positive),
    "data.progressive.batch_size": Key(Positive | None),
    "data.background": Key(Color, view=True),
    "data.batch_size": Key(Positive, view=True),
    "data.num_workers": Key(NonNegative, resume="an image's randomness doesn't depend on the worker", view=True),
    "data.on_error": Key(Literal["raise", "skip"], resume=SKIPS, view=True),
    "data.decode": Key(Literal["cpu", "cuda"], view=True),
    "data.resident": Key(bool, view=True),
    "data.sampler": Key(dict, view=True),
    "data.sampler.samples": Key(Positive | None),
    "data.sampler.repeats": Key(Positive),
    "data.sampler.power": Key(AtLeastZero | None),
    "data.sampler.class_weights": Key(dict[str, AtLeastZero] | None),
    "data.sampler.file": Key(str | None, typed=Typed.PATH_FROM_HERE, must_exist=True, reads=True),
    **{
        f"data.read.{name}": Key(typed=Typed.PATH)
        for end in ("csv", "dir", "file", "folder", "path", "images", "annotations")
        for name in (end, f"*_{end}")
    },
    **{f"data.read.{name}": NAME for end in ("column", "list", "separator", "ending") for name in (end, f"*_{end}")},
    # the trainer
    "trainer": SECTION._replace(group="trainer"),
    "trainer.accelerator": Key(resume=MACHINE),
    "trainer.devices": Key(Annotated[int, Ge(-1)] | str | list[NonNegative], resume=MACHINE),
    "trainer.num_nodes": Key(Positive, resume=MACHINE),
    "trainer.strategy": Key(resume=MACHINE),
    "trainer.max_epochs": Key(Annotated[int, Ge(-1)] | None, resume=LASTS),
    "trainer.max_steps": Key(Annotated[int, Ge(-1)], resume=LASTS),
    "trainer.max_time": Key(resume=LASTS),
    "trainer.min_epochs": Key(resume=LASTS),
    "trainer.min_steps": Key(resume=LASTS),
    "trainer.accumulate_grad_batches": Key(Positive),
    "trainer.gradient_clip_val": Key(AtLeastZero | None),
    "trainer.gradient_clip_algorithm": Key(Literal["norm", "value"] | None),
    "trainer.limit_train_batches": Key(Limit),
    "trainer.limit_val_batches": Key(Limit),
    "trainer.limit_test_batches": Key(Limit),
    "trainer.default_root_dir": Key(typed=Typed.PATH, resume=WRITES),
    "trainer.log_every_n_steps": Key(NonNegative, resume="how often is logged"),
    "trainer.profiler": Key(resume=LOOKS_ON),
    "trainer.detect_anomaly": Key(resume="observes the training and stops at an error"),
    "trainer.enable_progress_bar": Key(resume=LOOKS_ON),
    "trainer.enable_model_summary": Key(resume=LOOKS_ON),
    # callbacks and loggers
    "callbacks": SECTION._replace(group="callbacks"),
    "callbacks.early_stopping": Key(resume=LASTS),
    "callbacks.finite_loss.on_nan": Key(resume=SKIPS),
    "callbacks.last.every_n_*": Key(resume="how often last.ckpt is written"),
    "callbacks.progress": Key(resume=LOOKS_ON),
    "callbacks.throughput": Key(resume=LOOKS_ON),
    "callbacks.learning_rate": Key(resume=LOOKS_ON),
    "callbacks.epoch_log": Key(resume=LOOKS_ON),
    "callbacks.*.folder": Key(resume=WRITES),
    "callbacks.*.dirpath": Key(typed=Typed.PATH, resume=WRITES),
    "logger": SECTION._replace(group="logger", resume="where logs go", own=True),
    **{f"logger.*.{name}": NAME for name in ("name", "project", "group", "experiment_name")},
    # folders, wherever they are named
    "hydra.run.dir": Key(typed=Typed.PATH),
    "hydra.sweep.dir": Key(typed=Typed.PATH),
    "hydra.sweep.subdir": NAME,
    "*.save_dir": Key(typed=Typed.PATH),
    "*.dirpath": Key(typed=Typed.PATH),
    "*.default_root_dir": Key(typed=Typed.PATH),
}
PATTERNS = {key: row for key, row in KEYS.items() if "*" in key}


@functools.cache
def row(key: str) -> Key:
    """Return the row of exactly this key; an empty row if the table has none."""
    return KEYS.get(key) or next((found for pattern, found in PATTERNS.items() if fnmatchcase(key, pattern)), Key())


@functools.cache
def rule(key: str, column: str) -> Any:
    """Return a column's value for a key, or for the nearest section above it; None if there is none."""
    parts = key.split(".")
    rows = (row(".".join(parts[:n])) for n in range(len(parts), 0, -1))
    return next((value for found in rows if (value := getattr(found, column)) is not None), None)


def names(column: str) -> list[str]:
    """Return the keys whose row has a value in this column, without patterns."""
    return [key for key, found in KEYS.items() if getattr(found, column) and key not in PATTERNS]


def dotted(node: Any, place: str = "", into_lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of all leaves of plain containers; empty mappings and lists are leaves.

    With `into_lists`, elements of lists are leaves too (`a.0.b`); without it, a list is one leaf.
    """
    items: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if node and (isinstance(node, dict) or (into_lists and isinstance(node, list))):
        for key, value in items:
            yield from dotted(value, f"{place}.{key}" if place else str(key), into_lists)
    else:
        yield place, node
