"""What a run folder's config may build. It may come from a stranger, and `_target_` names code to call.

Hydra's own list of forbidden targets is no boundary: torch.load, builtins.open or torch.hub.load pass. Here nothing
passes but what is named. Nothing is imported to find out, so an attribute of a module that a module of ours imports
(fovea.run.subprocess.run) is not found either.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fovea.config.resolvers import CONF

PACKAGE = Path(__file__).resolve().parents[1]
GROUPS = ("models", "losses", "metrics", "optim", "callbacks")  # their functions and classes write and run nothing

# One further name in CamelCase, so that no function and no module is reached. Not among them, as a name alone makes
# them harm: torch.nn.utils and timm's functions (load files), torchvision.datasets and torch.hub (download, unpickle,
# import), lightning's plugins (a CheckpointIO may unpickle), torchmetrics' other folders (load models by name).
LIBRARIES = re.compile(
    r"""torch\.nn\.[A-Z]\w*
    | torch\.optim\.[A-Z]\w*
    | torch\.optim\.lr_scheduler\.\w*(LR|Restarts|Plateau|Scheduler)
    | torch\.optim\.swa_utils\.(SWALR|AveragedModel)
    | torchvision\.transforms\.v2\.[A-Z]\w*
    | torchmetrics\.(classification\.)?[A-Z]\w*
    | lightning\.(pytorch\.)?Trainer
    | lightning\.pytorch\.callbacks\.(?!SpikeDetection$)[A-Z]\w*  # SpikeDetection writes to any file that it is told
    | lightning\.pytorch\.loggers\.(CSV|TensorBoard)Logger  # the others send what they log to any address
    | lightning\.pytorch\.profilers\.(Simple|Advanced|PyTorch|PassThrough)Profiler
    | lightning\.pytorch\.strategies\.(DDP|SingleDevice)Strategy  # FSDP's and DeepSpeed's unpickle checkpoints
    | timm\.(loss|optim)\.[A-Z]\w*""",
    re.VERBOSE | re.ASCII,
)
STRATEGIES = re.compile(r"auto|ddp\w*|single_device")  # by Lightning's short names: the same as above


def check_targets(cfg: DictConfig) -> None:
    """Look at every `_target_` of a composed config, as it is written and as it resolves, at any depth.

    Raises:
        ValueError: one is not allowed or no plain text, or the trainer's strategy would run a checkpoint's code.
    """
    for content in (OmegaConf.to_container(cfg), OmegaConf.to_container(cfg, resolve=True)):
        for place, target in targets(content):
            if not isinstance(target, str) or "${" in target:
                raise ValueError(f"{place}={target}: in a run's config a target is plain text")
            if not allowed(target):
                raise ValueError(
                    f"{place}={target}: a run's config may not name that, as it may come from a stranger\n"
                    "If you trust it, name it in a yaml of conf/: what conf/ names is allowed"
                )
    check_strategy(cfg)


def check_strategy(cfg: DictConfig) -> None:
    """Raises ValueError where the trainer would load checkpoints in a way that runs code in them."""
    strategy = OmegaConf.select(cfg, "trainer.strategy")
    if isinstance(strategy, str) and not STRATEGIES.fullmatch(strategy):
        raise ValueError(f"trainer.strategy={strategy} would run code in a checkpoint: take auto or ddp to load one")


def targets(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every `_target_`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        path = f"{place}.{key}" if place else str(key)
        if key == "_target_":
            yield path, value
        yield from targets(value, path)


def allowed(target: str) -> bool:
    """Whether it is one of LIBRARIES, of conf's own, or of the public names that a module in GROUPS defines."""
    return bool(LIBRARIES.fullmatch(target)) or target in conf_targets() or _ours(target)


@cache
def conf_texts() -> str:
    """All yamls of conf/, without comments."""
    texts = [file.read_text("utf-8") for file in sorted(CONF.rglob("*.yaml"))]
    return re.sub(r"(?m)(^|\s)#.*", "", "\n".join(texts))


def conf_targets() -> set[str]:
    """Every `_target_` in conf/."""
    return set(re.findall(r"_target_[\"']?\s*:\s*[\"']?([\w.]+)", conf_texts()))


def _ours(target: str) -> bool:
    if target.count(".") < 3:  # package, group, module, name
        return False
    package, *folders, name = target.split(".")
    if package != PACKAGE.name or folders[0] not in GROUPS or not all(folder.isidentifier() for folder in folders):
        return False
    file = PACKAGE.joinpath(*folders).with_suffix(".py")
    return file.is_file() and not name.startswith("_") and name in _defined(file)


@cache
def _defined(file: Path) -> set[str]:
    """Names of a module's own classes and functions, not of what it imports."""
    body = ast.parse(file.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
