"""Checks a composed config before torch is imported and before anything is written."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovea.config import untrusted
from fovea.config.allowed_targets import check_targets, targets
from fovea.config.division_check import check_division
from fovea.config.imbalance import check_imbalance
from fovea.config.keys import KEYS, names
from fovea.config.pretrained import is_open
from fovea.config.resolvers import CONF
from fovea.config.resume_rules import masked_keys, refuse_masked_values
from fovea.config.run_length import check_schedule
from fovea.config.saved import composed, plain, to_save
from fovea.config.schema import check_monitor, check_types
from fovea.runs.figure_names import AVERAGES, average_of

Program = Literal[
    "train",
    "resume",
    "rerun",
    "evaluate",
    "predict",
    "report",
    "pack",
    "browse",
    "verify",
    "plot_schedule",
    "find_lr",
    "find_batch_size",
]
TRAINS = ("train", "resume", "rerun")
OF_A_RUN = ("evaluate", "predict", "report")  # these use no logger, and perhaps not the run's own data
# null until the data has been read, then numbers
FILLED_IN = ("total_steps", "schedule_length", "schedule_epoch", "warmup_length")


def check(cfg: DictConfig, program: Program, source: untrusted.Source | None = None) -> None:
    """Check the config of a program.

    Args:
        cfg: the composed config, with references.
        program: the yaml in conf/ that it was composed from.
        source: the run folder that the config comes from, if any.

    Raises:
        ValueError: a key is missing or has a wrong type; a file or a metric does not exist; a target is not allowed;
            two options contradict each other; or a part of `source`'s config would write outside of the run's folder.
    """
    cfg = cfg.copy()
    for key in {"run_dir", "output_dir"} & set(cfg):
        cfg[key] = str(source.folder.resolve()) if source else key  # a placeholder: the folder is not made yet
    config = _resolved(cfg)
    check_targets(cfg)
    if source:
        untrusted.check_places(source, cfg)
    if source and program not in OF_A_RUN:
        refuse_masked_values(cfg)
    _check_data_root(cfg)
    check_types(config)
    _check_entries(config)
    if program == "pack":
        _check_packing(cfg)
    if program in (*TRAINS, "plot_schedule"):
        check_schedule(cfg)
    if program in (*TRAINS, "plot_schedule", "find_lr", "find_batch_size"):
        check_imbalance(cfg)
    _check_files(cfg, not_read=names("division") if program in OF_A_RUN else ())
    if source is None or source.is_typed("baseline"):
        _check_baseline(OmegaConf.select(cfg, "baseline"))
    _check_combinations(cfg)
    if program in TRAINS:
        _check_teacher(cfg)


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return plain containers. Raises ValueError if a value is missing or its reference can't be resolved."""
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        config = {} if missing else plain(cfg)
    except OmegaConfBaseException as error:
        check_types(_without_references(cfg), complete=False)  # a wrong type, often the cause, has a clearer message
        raise ValueError(f"{error.full_key}: {_reason(error)}") from error
    if missing:
        raise ValueError(f"{missing[0]} is missing: type {missing[0]}=<value>")
    return config


def _reason(error: OmegaConfBaseException) -> str:
    """Return OmegaConf's message without the lines about the object that raised it."""
    lines = [
        line for line in str(error).splitlines() if not re.match(r"\s+(full_key|object_type|reference_type)", line)
    ]
    text = "\n".join(lines)
    return text.partition("raised while resolving interpolation: ")[2] or text


def _check_entries(config: Mapping[str, Any]) -> None:
    """Raise ValueError for an entry that builds nothing, as one key of it was typed and its yaml was not chosen."""
    for group in ("callbacks", "logger", "metrics"):
        for name, node in config[group].items():
            if isinstance(node, dict) and "_target_" not in node:
                file = f"conf/{group}/{name}.yaml"
                remedy = f": {file} has one, type {group}=[<others>,{name}]" if (CONF.parent / file).is_file() else ""
                raise ValueError(f"{group}.{name} has no _target_, so nothing can be built from it{remedy}")


def _check_files(cfg: DictConfig, not_read: Collection[str]) -> None:
    """Raise ValueError if a file does not exist; files of keys in `not_read` may not be needed."""
    for key in (key for key in names("must_exist") if key not in not_read):
        file = OmegaConf.select(cfg, key)
        if file and not Path(file).expanduser().is_file():
            raise ValueError(f"{key}={file}: there is no such file")


def _check_baseline(folder: str | None) -> None:
    """Raise ValueError if there are no test predictions to compare with."""
    files = [Path(folder).expanduser() / f"predictions{suffix}" for suffix in (".csv", ".parquet")] if folder else []
    if files and not any(file.is_file() for file in files):
        raise ValueError(
            f"baseline={folder} has no predictions of a test: name the folder of a run that was tested, or of an "
            "evaluation"
        )


def _check_teacher(cfg: DictConfig) -> None:
    """Raise ValueError if the teacher's run does not exist; only a training needs it."""
    place = OmegaConf.select(cfg, "objective.teacher")
    if isinstance(place, str) and not Path(place).expanduser().exists():
        raise ValueError(f"objective.teacher={place}: there is no such run folder")


def _check_combinations(cfg: DictConfig) -> None:
    """Raise ValueError if two options contradict each other, or the monitor is not logged when it is needed."""
    if OmegaConf.select(cfg, "data.resident") and cfg.data.decode != "cpu":
        raise ValueError(
            f"data.resident=true keeps decoded images, so data.decode={cfg.data.decode} has no effect: "
            "keep data.decode=cpu, or type data.resident=false"
        )
    check_division(cfg.data)
    _check_progressive(cfg)
    if cfg.weights and cfg.ckpt_path:
        raise ValueError("weights= and ckpt_path= both name a file to start from: keep one of them")
    _check_clipping(cfg)
    _check_compiling(cfg)
    check_monitor(cfg.monitor, [*cfg.metrics, "loss"], AVERAGES if _may_average(cfg) else ())
    by_step = cfg.scheduler.interval == "step" and str(cfg.scheduler._target_).endswith("ReduceLROnPlateau")
    if cfg.monitor.startswith("train/") and by_step:
        raise ValueError(
            f"monitor={cfg.monitor} is known at an epoch's end: a plateau schedule needs scheduler.interval=epoch"
        )
    if cfg.monitor.startswith("train/") and cfg.trainer.val_check_interval is not None:
        raise ValueError(
            f"monitor={cfg.monitor} is known at an epoch's end, but trainer.val_check_interval="
            f"{cfg.trainer.val_check_interval} validates within epochs: type trainer.val_check_interval=null"
        )


def _check_clipping(cfg: DictConfig) -> None:
    trainer = cfg.trainer
    if trainer.gradient_clip_algorithm and trainer.gradient_clip_val is None:
        raise ValueError(
            f"trainer.gradient_clip_algorithm={trainer.gradient_clip_algorithm} has no effect without "
            "trainer.gradient_clip_val=<limit>"
        )
    if trainer.gradient_clip_val and trainer.precision == "16-mixed" and cfg.optimizer.get("fused"):
        raise ValueError(
            f"trainer.gradient_clip_val={trainer.gradient_clip_val}: a fused optimizer's gradients are still scaled "
            "with trainer.precision=16-mixed: type optimizer.fused=false"
        )


def _check_progressive(cfg: DictConfig) -> None:
    """Raise ValueError if growing images or batches do not reach their full size, or do not grow."""
    keys = ("start", "batch_size", "epochs")
    start, batch, epochs = (OmegaConf.select(cfg, f"data.progressive.{key}") for key in keys)
    if epochs is None and (start is not None or batch is not None):
        typed = f"batch_size={batch}" if start is None else f"start={start}"
        raise ValueError(
            f"data.progressive.{typed} needs data.progressive.epochs too: images and batches have data.image_size and "
            "data.batch_size after this number of epochs"
        )
    if epochs is not None and start is None and batch is None:
        raise ValueError(
            f"data.progressive.epochs={epochs} needs data.progressive.start too: images grow from start pixels to "
            "data.image_size in this number of epochs; or data.progressive.batch_size, for batches"
        )
    if not is_open(cfg, "data.image_size"):
        check_growing_images(cfg)


def check_growing_images(cfg: DictConfig) -> None:
    """Raise ValueError if growing images start with their full size, or don't end with that of the training's crop.

    It is called again when published weights may have set the size.
    """
    start = OmegaConf.select(cfg, "data.progressive.start")
    if start is None:
        return
    if start >= cfg.data.image_size:
        raise ValueError(f"data.progressive.start={start} must be below data.image_size={cfg.data.image_size}")
    size = OmegaConf.select(cfg, "augment.train.crop.size")
    if size is not None and size != cfg.data.image_size:
        raise ValueError(
            f"data.progressive.start={start} grows images up to data.image_size={cfg.data.image_size}, but "
            f"augment.train.crop.size={size}: type data.image_size={size} instead"
        )


def _check_compiling(cfg: DictConfig) -> None:
    if OmegaConf.select(cfg, "compile") and OmegaConf.select(cfg, "gradient_checkpointing"):
        raise ValueError(
            "compile=true and gradient_checkpointing=true: torch.compile decides itself what to compute again: "
            "keep one of them"
        )


def _may_average(cfg: DictConfig) -> bool:
    """Whether a callback may average the weights: any but Lightning's and the default ones. build.py checks exactly."""
    if not average_of(cfg.monitor):
        return False
    usual = {target for _, target in targets(composed()["callbacks"])}
    named = {str(target) for _, target in targets(OmegaConf.to_container(cfg.callbacks, resolve=True))}
    return any(not target.startswith("lightning.") for target in named - usual)


def values_to_retype(cfg: DictConfig) -> list[str]:
    """Return a sentence for each value of a training that every later command on its run has to type again."""
    places = untrusted.places_outside(untrusted.Source(Path(cfg.run_dir), frozenset()), cfg)
    lines = [
        f"{place}={text} is outside of the run's folder, so every later command on this run has to type it again, "
        "unless a yaml of conf/ names this place"
        for place, text in places
        if place != "data.root"  # generated data: later commands only read them
    ]
    return lines + [
        f"{key} is a secret, which config.yaml doesn't keep, so resume= and rerun= have to type it again, "
        "unless a yaml of conf/ takes it from a variable of .env"
        for key in masked_keys(to_save(cfg))
    ]


def _check_packing(cfg: DictConfig) -> None:
    """Raise ValueError if the output is missing, or if the format does not use an option."""
    if not cfg.output:
        raise ValueError("output=<folder> is missing: type the folder to write the store to")
    if cfg.format == "files" and (cfg.short_side or cfg.long_side):
        raise ValueError("format=files keeps images as they are: short_side= and long_side= are for jpeg and raw")
    if (cfg.quality is None) == (cfg.format == "jpeg"):
        raise ValueError(
            f"format={cfg.format} quality={cfg.quality}: format=jpeg needs a quality, 1 to 100; other formats have none"
        )


def _without_references(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain containers without values that refer to others."""

    def kept(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: kept(value) for key, value in node.items() if not (isinstance(value, str) and "${" in value)}
        return node

    config = kept(OmegaConf.to_container(cfg))
    assert isinstance(config, dict)
    return config


def _check_data_root(cfg: DictConfig) -> None:
    if "root" in cfg.data and not cfg.data.root and not OmegaConf.select(cfg, "data.store"):
        written = OmegaConf.to_container(cfg.data)
        assert isinstance(written, dict)
        variable = re.search(r"oc\.env:(\w+)", str(written["root"]))
        first = f"{variable[1]} is not set: put it into .env or the environment, or type" if variable else "type"
        raise ValueError(f"data.root is not set. {first[0].upper()}{first[1:]} data.root=<folder>")


def check_overrides(cfg: DictConfig, program: Program, words: Sequence[str]) -> None:
    """Raise ValueError if an override would have no effect, or is text where the yaml has a number, true or false.

    Args:
        cfg: the config that was composed with the overrides.
        program: the yaml in conf/.
        words: the overrides.
    """
    overrides = OverridesParser.create().parse_overrides([word for word in words if not word.startswith("-")])
    store = OmegaConf.select(cfg, "data.store")
    root = next((o.input_line for o in overrides if o.key_or_group == "data.root"), None)
    if store and root:
        raise ValueError(f"{root} would not be read, as data.store={store} is: add data.store=null")
    texts = _new_texts(cfg, overrides)
    if not texts:
        return
    before = hydra.compose(program, [o.input_line or "" for o in overrides if _is_group(o)])
    before.update({key: 1 for key in FILLED_IN if key in before})
    for key, text in texts.items():
        old = OmegaConf.select(before, key)
        if isinstance(old, int | float) and not _takes_text(key):
            expected = "true or false" if isinstance(old, bool) else "a number"
            raise ValueError(f"{key}={text}: {expected} is expected (conf/ has {str(old).lower()})")


def _is_group(override: Override) -> bool:
    return (CONF / override.key_or_group).is_dir()


def _new_texts(cfg: DictConfig, overrides: Sequence[Override]) -> dict[str, str]:
    """Return the typed values that are text, without absolute paths, of keys that existed before."""
    keys = [o.key_or_group for o in overrides if o.type == OverrideType.CHANGE and not _is_group(o)]
    values = {key: OmegaConf.select(cfg, key) for key in keys if not key.startswith("hydra")}
    return {key: v for key, v in values.items() if isinstance(v, str) and not Path(v).is_absolute()}


def _takes_text(key: str) -> bool:
    """Whether the type in the table allows text besides numbers, such as trainer.devices: `auto` and `0,1`."""
    kinds = getattr(KEYS[key].type, "__args__", ()) if key in KEYS else ()
    return any(kind is str or get_origin(kind) is Literal for kind in kinds)
