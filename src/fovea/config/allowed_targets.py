"""An allowlist of the `_target_`s that a config may build, for new trainings and for saved runs alike.

A `_target_` names code to call, and a run folder may come from a stranger. A new training is checked too, so that its
run can be read later. Hydra's own denylist is not enough: it lets torch.load, builtins.open and torch.hub.load pass.
The check imports nothing, so a target can't reach through a module's imports (fovea.runs.run_folder.subprocess.run).
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
# Folders of parts that yamls build; their classes and functions write no files and start no processes. Of all other
# folders only the targets that conf/ names are allowed.
GROUPS = ("models", "losses", "objectives", "metrics", "optim", "callbacks")
DATA = "data"  # only its classes and read_* functions: its other functions pack, fetch and write files
READER = re.compile(r"[A-Z]\w*|read_\w+", re.ASCII)

# Public names only, so that no module can be reached. Left out because they are dangerous by themselves:
# torch.nn.utils and timm's functions (load files), torchvision.models and torchvision.datasets (unpickle downloads),
# torch.hub (imports code), Lightning's other plugins (a CheckpointIO may unpickle), torchmetrics' other folders (load
# models by name).
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
    | lightning\.pytorch\.callbacks\.(?!SpikeDetection$)[A-Z]\w*  # SpikeDetection writes to any file
    | lightning\.pytorch\.loggers\.(CSV|TensorBoard)Logger  # the others can send logs to any address
    | lightning\.pytorch\.profilers\.(Simple|Advanced|PyTorch|PassThrough)Profiler
    | lightning\.pytorch\.strategies\.(DDP|SingleDevice)Strategy  # FSDP's and DeepSpeed's unpickle checkpoints
    | lightning\.pytorch\.plugins\.environments\.(Kubeflow|LSF|Lightning|MPI|SLURM|TorchElastic)Environment
    | timm\.(loss|optim)\.[A-Z]\w*
    | datetime\.timedelta | builtins\.(tuple|set|range|slice)  # what YAML can't write""",
    re.VERBOSE | re.ASCII,
)
STRATEGIES = re.compile(r"auto|ddp\w*|single_device")  # Lightning's short names of the strategies allowed above
BUILDERS = (  # what to type instead of a function that would unpickle published weights
    (re.compile(r"torchvision\.models\.([a-z]\w*)"), r"model=torchvision model.name=\1"),
    (re.compile(r"timm\.create_model|timm\.models\.\w*"), "model=timm model.name=<name>"),
)


def check_targets(cfg: DictConfig) -> None:
    """Check every `_target_` of a composed config, at any depth, before and after references are resolved.

    Raises:
        ValueError: a target is not allowed or not plain text; the trainer's strategy would run code in a checkpoint; or
            a resolved value holds a reference, which would be resolved when the part is built.
    """
    for content in (OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True)):
        for place, target in targets(content):
            if not isinstance(target, str) or "${" in target:
                raise ValueError(f"{place}={target}: a target must be plain text: write the name itself")
            if not allowed(target):
                raise ValueError(
                    f"{place}={target}: this target is not allowed, because a config may come from a stranger\n"
                    f"{_remedy(target)}"
                )
    assert isinstance(content, dict)
    for place, text in dotted({key: content.get(key) for key in names("parts")}, into_lists=True):
        if isinstance(text, str) and "${" in text:
            raise ValueError(f"{place}={text}: a reference can't be written with a backslash; write the value itself")
    check_strategy(cfg)


def _remedy(target: str) -> str:
    """Return the public name or the option that does the same; if there is none, how to allow the target."""
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
    """Raise ValueError if the trainer's strategy would load checkpoints in a way that runs code in them."""
    strategy = OmegaConf.select(cfg, "trainer.strategy")
    if isinstance(strategy, str) and not STRATEGIES.fullmatch(strategy):
        raise ValueError(f"trainer.strategy={strategy} would run code in a checkpoint: take auto or ddp, which don't")


def targets(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every `_target_`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        path = f"{place}.{key}" if place else str(key)
        if key == "_target_":
            yield path, value
        yield from targets(value, path)


def allowed(target: str) -> bool:
    """Whether the target is in LIBRARIES or in conf/, or is a public name that a module in GROUPS or DATA defines."""
    return bool(LIBRARIES.fullmatch(target)) or target in conf_targets() or _is_own_part(target)


def conf_targets() -> set[str]:
    """Return every `_target_` in conf/."""
    return set(re.findall(r"_target_[\"']?\s*:\s*[\"']?([\w.]+)", conf_texts()))


def conf_folders() -> list[str]:
    """Return the folders to write to that conf/ names, as absolute paths or by environment variables that are set."""
    key = r"(?<!sub_)(?:cache|folder|dir|dirpath)[\"']?\s*:\s*[\"']?"
    named = re.findall(key + r"([/~][^\s\"',}\]]+)", conf_texts())
    variables = set(re.findall(key + r"\$\{oc\.env\s*:\s*(\w+)", conf_texts())) - {"RUNS_DIR", "DATA_DIR"}
    return [*named, *(os.environ[name] for name in sorted(variables) if os.environ.get(name))]


def _is_own_part(target: str) -> bool:
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
    """Return the names of the classes and functions that a module defines, without those that it imports."""
    body = ast.parse(file.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
