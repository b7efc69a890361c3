"""What a config may build: the same list for a training that begins and for a run folder that is read.

A run folder may come from a stranger, and `_target_` names code to call. A training whose run could not be read again
is refused before it begins. Hydra's own list of forbidden targets is no boundary: torch.load, builtins.open or
torch.hub.load pass. Here nothing passes but what is named. Nothing is imported to find out, so an attribute of a module
that a module of ours imports (fovea.runs.run_folder.subprocess.run) is not found either.
"""

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fovea.config.keys import dotted, names
from fovea.config.resolvers import conf_texts

PACKAGE = Path(__file__).resolve().parents[1]
# Folders of parts that yamls build. The other folders hold the programs' own machinery, which writes files and starts
# processes, or were added by a clone: of what they define only the targets that conf/ names are allowed.
GROUPS = ("models", "losses", "metrics", "optim", "callbacks")  # their functions and classes write and run nothing
DATA = "data"  # of this folder classes and read_* functions alone: others pack, fetch and write files
READER = re.compile(r"[A-Z]\w*|read_\w+", re.ASCII)

# Public names alone, so that no module is reached, and of functions those that compute something. Not among them, as a
# name alone makes them harm: torch.nn.utils and timm's functions (load files), torchvision.models and
# torchvision.datasets (unpickle what they download), torch.hub (imports), lightning's other plugins (a CheckpointIO may
# unpickle), torchmetrics' other folders (load models by name).
LIBRARIES = re.compile(
    r"""torch\.nn\.[A-Z]\w*
    | torch\.nn\.functional\.(\w+_loss|(binary_)?cross_entropy(_with_logits)?|kl_div)
    | torch\.(tensor|full|ones|zeros)  # weights of classes
    | torch\.optim\.[A-Z]\w*
    | torch\.optim\.lr_scheduler\.\w*(LR|Restarts|Plateau|Scheduler)
    | torch\.optim\.swa_utils\.(SWALR|AveragedModel)
    | torchvision\.transforms\.(v2\.)?[A-Z]\w*  # Lambda calls what a target below it names, one of these again
    | torchvision\.transforms\.v2\.functional\.(?!register_kernel$)[a-z]\w*
    | torchvision\.ops\.([A-Z]\w*|sigmoid_focal_loss)
    | torchmetrics\.(classification\.)?[A-Z]\w*
    | lightning\.(pytorch\.)?Trainer
    | lightning\.pytorch\.callbacks\.(?!SpikeDetection$)[A-Z]\w*  # SpikeDetection writes to any file that it is told
    | lightning\.pytorch\.loggers\.(CSV|TensorBoard)Logger  # the others send what they log to any address
    | lightning\.pytorch\.profilers\.(Simple|Advanced|PyTorch|PassThrough)Profiler
    | lightning\.pytorch\.strategies\.(DDP|SingleDevice)Strategy  # FSDP's and DeepSpeed's unpickle checkpoints
    | lightning\.pytorch\.plugins\.environments\.(Kubeflow|LSF|Lightning|MPI|SLURM|TorchElastic)Environment
    | timm\.(loss|optim)\.[A-Z]\w*
    | datetime\.timedelta | builtins\.(tuple|set|range|slice)  # what YAML can't write""",
    re.VERBOSE | re.ASCII,
)
STRATEGIES = re.compile(r"auto|ddp\w*|single_device")  # by Lightning's short names: the same as above
BUILDERS = (  # what to type instead of a function that would unpickle published weights
    (re.compile(r"torchvision\.models\.([a-z]\w*)"), r"model=torchvision model.name=\1"),
    (re.compile(r"timm\.create_model|timm\.models\.\w*"), "model=timm model.name=<name>"),
)


def check_targets(cfg: DictConfig) -> None:
    """Check every `_target_` of a composed config, as it is written and as it resolves, at any depth.

    Raises:
        ValueError: one is not allowed or no plain text; the trainer's strategy would run a checkpoint's code; or a
            text would be resolved a second time when its part is built.
    """
    for content in (OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True)):
        for place, target in targets(content):
            if not isinstance(target, str) or "${" in target:
                raise ValueError(f"{place}={target}: in a run's config a target is plain text")
            if not allowed(target):
                raise ValueError(
                    f"{place}={target}: a run's config may not name that, as a run folder may come from a stranger\n"
                    f"{_remedy(target)}"
                )
    assert isinstance(content, dict)
    for place, text in dotted({key: content.get(key) for key in names("parts")}, into_lists=True):
        if isinstance(text, str) and "${" in text:
            raise ValueError(f"{place}={text}: a reference can't be written with a backslash; write the value itself")
    check_strategy(cfg)


def _remedy(target: str) -> str:
    """The public name or the option that does the same; else how to have the target allowed."""
    for pattern, instead in BUILDERS:
        if pattern.fullmatch(target):
            return f"Type {pattern.sub(instead, target)}"
    *modules, name = target.split(".")
    for n in range(len(modules), 0, -1):
        public = ".".join([*modules[:n], name])
        if name[:1].isupper() and LIBRARIES.fullmatch(public):
            return f"Name it {public}"
    folders = ", ".join(GROUPS)
    return (
        "If you trust it, name it in a yaml of conf/: what conf/ names is allowed\n"
        f"So are the public classes and functions that src/{PACKAGE.name}/ defines in one of {folders}"
    )


def check_strategy(cfg: DictConfig) -> None:
    """Raises ValueError where the trainer would load checkpoints in a way that runs code in them."""
    strategy = OmegaConf.select(cfg, "trainer.strategy")
    if isinstance(strategy, str) and not STRATEGIES.fullmatch(strategy):
        raise ValueError(f"trainer.strategy={strategy} would run code in a checkpoint: take auto or ddp, which don't")


def targets(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every `_target_`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        path = f"{place}.{key}" if place else str(key)
        if key == "_target_":
            yield path, value
        yield from targets(value, path)


def allowed(target: str) -> bool:
    """Whether it is one of LIBRARIES, of conf's own, or of the public names that a module in GROUPS or DATA defines."""
    return bool(LIBRARIES.fullmatch(target)) or target in conf_targets() or _ours(target)


def conf_targets() -> set[str]:
    """Every `_target_` in conf/."""
    return set(re.findall(r"_target_[\"']?\s*:\s*[\"']?([\w.]+)", conf_texts()))


def conf_places() -> list[str]:
    """Folders to write to that conf/ names: as absolute paths, or by a variable of the environment that is set."""
    key = r"(?<!sub_)(?:cache|folder|dir|dirpath)[\"']?\s*:\s*[\"']?"
    named = re.findall(key + r"([/~][^\s\"',}\]]+)", conf_texts())
    variables = set(re.findall(key + r"\$\{oc\.env\s*:\s*(\w+)", conf_texts())) - {"RUNS_DIR", "DATA_DIR"}
    return [*named, *(os.environ[name] for name in sorted(variables) if os.environ.get(name))]


def _ours(target: str) -> bool:
    if target.count(".") < 3:  # package, group, module, name
        return False
    package, *folders, name = target.split(".")
    if package != PACKAGE.name or not all(folder.isidentifier() for folder in folders):
        return False
    if folders[0] not in GROUPS and not (folders[0] == DATA and READER.fullmatch(name)):
        return False
    file = PACKAGE.joinpath(*folders).with_suffix(".py")
    return file.is_file() and not name.startswith("_") and name in _defined(file)


@cache
def _defined(file: Path) -> set[str]:
    """Names of a module's own classes and functions, not of what it imports."""
    body = ast.parse(file.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
