"""What the code uses of the libraries though it is private, so that a new version may change it without a word.

After an upgrade: read what each part does now, run these tests, and write the new version into CHECKED_WITH.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "src" / "fovea"
FILES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))
CHECKED_WITH = {
    "hydra-core": "1.3.8",
    "lightning": "2.6.6",
    "omegaconf": "2.3.1",
    "torch": "2.15.0",
    "torchmetrics": "1.9.0",
}
PUBLIC = {  # they begin with an underscore, and are documented
    *("_asdict", "_make", "_replace", "_fields"),  # of a NamedTuple
    "_exit",  # os
    *("_target_", "_partial_", "_convert_", "_recursive_", "_here_", "_global_"),  # Hydra
}


class Part(NamedTuple):
    """A private name, where the library defines it, and why our file needs it."""

    file: str  # below src/fovea
    name: str
    why: str


EPOCH_LOOP = "lightning.pytorch.loops.training_epoch_loop._TrainingEpochLoop"
LOGGED = "lightning.pytorch.trainer.connectors.logger_connector.logger_connector._LoggerConnector._callback_metrics"
WORKERS = "torch.utils.data.dataloader._MultiProcessingDataLoaderIter"
PARTS = [
    Part("callbacks/agc.py", "torch.optim.Adam._step_supports_amp_scaling", "a fused optimizer unscales gradients"),
    Part(
        "callbacks/best_checkpoint.py",
        "lightning.pytorch.callbacks.ModelCheckpoint._last_global_step_saved",
        "whether the best checkpoint was saved just now",
    ),
    Part("models/averaging/averages.py", "torch._foreach_lerp_", "averages all weights at once"),
    Part("models/averaging/batch_norm.py", "torch.nn.modules.batchnorm._BatchNorm", "every BatchNorm"),
    Part("callbacks/finite_loss.py", "torch._foreach_norm", "looks at all gradients at once"),
    Part("callbacks/finite_loss.py", "torch.optim.Adam._step_supports_amp_scaling", "a fused optimizer skips steps"),
    Part(
        "cli/errors/composition_errors.py",
        "omegaconf.base.Node._get_root",
        "the keys that there are",
    ),
    Part("cli/job.py", "hydra._internal.callbacks.Callbacks", "run_job takes them"),
    Part("config/resolvers.py", "omegaconf.basecontainer.BaseContainer._resolvers", "are put back afterwards"),
    Part("data/loading/shared_memory.py", "torch.UntypedStorage._new_shared", "memory shared with workers"),
    Part("data/loading/workers.py", "torch.utils.data.DataLoader._iterator", "persistent workers that failed are left"),
    Part("data/loading/workers.py", f"{WORKERS}._workers", "are ended at once after an error"),
    Part("data/loading/workers.py", f"{WORKERS}._shutdown_workers", "are ended at once after an error"),
    Part("data/pixels/render.py", "torch._C._nn._upsample_bilinear2d_aa", "resizes into given memory"),
    Part("data/pixels/render.py", "torch._C._nn._upsample_bicubic2d_aa", "resizes into given memory"),
    Part(
        "distributed/ranks.py",
        "lightning.pytorch.strategies.launchers.subprocess_script._launch_process_observer",
        "it would kill this process without a word when another one fails",
    ),
    Part("loggers/tensorboard.py", "lightning.pytorch.loggers.TensorBoardLogger._experiment", "begins another file"),
    Part("loggers/tensorboard.py", "lightning.pytorch.loggers.TensorBoardLogger._kwargs", "purge_step of that file"),
    Part("loggers/tensorboard.py", "torch.utils.tensorboard.SummaryWriter._get_file_writer", "writes hyperparameters"),
    Part("losses/arguments.py", "torch.nn.Module._buffers", "whether the loss keeps a tensor as a buffer"),
    Part("models/weights/fill.py", "torch.nn.Module._version", "modules rename weights of earlier versions"),
    Part("models/weights/fill.py", "torch.nn.Module._metadata", "modules rename weights of earlier versions"),
    Part("optim/schedulers.py", "torch.optim.lr_scheduler.OneCycleLR._schedule_phases", "warns of a missing peak"),
    Part(
        "report/statistics/intervals.py",
        "torchmetrics.Metric._reductions",
        "whether the states of groups can be combined",
    ),
    Part("task.py", "lightning.pytorch.Trainer._logger_connector", "a resumed run has the figures logged before"),
    Part("task.py", LOGGED, "a resumed run has the figures logged before"),
    Part("training/loop_state.py", "lightning.pytorch.loops.loop._Loop._restarting", "its setter sets True"),
    Part("training/loop_state.py", f"{EPOCH_LOOP}._batches_that_stepped", "the step of what is logged"),
    Part("training/loop_state.py", f"{EPOCH_LOOP}._skip_next_val", "a stop after a validation adds no second one"),
    Part("training/loop_state.py", f"{EPOCH_LOOP}._should_check_val_fx", "whether a validation is due anyway"),
    Part("training/loop_state.py", "lightning.pytorch.loops.fit_loop._FitLoop._data_fetcher", "its argument"),
    Part("training/meter.py", "torchmetrics.Metric._reductions", "a metric's state is saved and divided"),
    Part("training/meter.py", "torchmetrics.Metric._update_count", "a metric that was never updated"),
    Part("training/sanity_check.py", "torch.nn.modules.batchnorm._BatchNorm", "every BatchNorm"),
    Part("training/save_last.py", "lightning.pytorch.Trainer._checkpoint_connector", "a checkpoint that waits"),
    Part("training/optimization.py", "torch.optim.lr_scheduler.LRScheduler._last_lr", "a plateau schedule's state"),
    Part("training/optimization.py", "torch.optim.lr_scheduler.SequentialLR._schedulers", "its schedules"),
    Part("speed/compiled_network.py", "torch.nn.Module._call_impl", "what is compiled: the call with its hooks"),
    Part("speed/compiled_network.py", "torch.nn.Module._compiled_call_impl", "what a call of the network runs instead"),
    Part("speed/compiled_network.py", "torch._dynamo.exc.TorchDynamoException", "a compilation that failed"),
    Part("speed/gradient_checkpointing.py", "torch.nn.Module._parameters", "weights of the forward pass, used again"),
    Part("speed/gradient_checkpointing.py", "torch.nn.Module._buffers", "statistics are updated once"),
]


def is_private(name: str) -> bool:
    return re.fullmatch(r"_[A-Za-z]\w*", name) is not None and name not in PUBLIC


def uses_of_private_names(source: str, listed: Collection[str] = ()) -> set[str]:
    """Private names that the source uses and doesn't define itself, and those of the `listed` ones that it uses.

    Assigning to an attribute of self defines it: that a library's class has the same attribute, only the list knows.
    """
    tree = ast.parse(source)
    return {name for name in _used(tree) if is_private(name)} - ({*_defined(tree)} - {*listed})


def _used(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # getattr, keys of a state
            yield node.value
        elif isinstance(node, ast.ImportFrom):
            yield from [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split("."))


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def exists(dotted: str) -> bool:
    """Whether a library has this attribute; one that only instances have is looked for in the code of their class."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for name in parts[n:]:
            if not hasattr(found, name):
                return inspect.isclass(found) and _is_in_code_of(found, name)
            found = getattr(found, name)
        return True
    return False


def _is_in_code_of(kind: type, name: str) -> bool:
    codes = (inspect.getsource(base) for base in kind.__mro__ if base.__module__ != "builtins")
    return any(re.search(rf"\b{name}\b", code) for code in codes)


@pytest.mark.parametrize("name", sorted({part.name for part in PARTS}))
def test_the_library_still_has_a_private_part_that_is_used(name: str) -> None:
    assert exists(name), f"{name} is gone"


@pytest.mark.parametrize("name", ["torch._no_such", "torch.nn.Module._no_such", "no_such_library._x"])
def test_a_part_that_is_gone_is_noticed(name: str) -> None:
    assert not exists(name)


def differences(file: str) -> list[str]:
    """How the private parts that a file uses differ from those that PARTS names for it."""
    names = [part.name for part in PARTS if part.file == file]
    listed = {part for name in names for part in name.split(".") if is_private(part)}
    used = uses_of_private_names((PACKAGE / file).read_text("utf-8"), listed)
    unused = [name for name in names if not used & {*filter(is_private, name.split("."))}]
    new = [f"{file}: {name} is private, and not in PARTS" for name in sorted(used - listed)]
    return new + [f"{file}: {name} is in PARTS, and no longer used" for name in unused]


def test_the_list_is_what_the_files_use() -> None:
    files = sorted({part.file for part in PARTS} | {*FILES})
    assert [difference for file in files for difference in differences(file)] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("trainer.fit_loop._restarting = False", "_restarting"),
        ("from hydra._internal.callbacks import Callbacks", "_internal"),
        ("from x import _Hidden", "_Hidden"),
        ("import torch._dynamo", "_dynamo"),
        ("getattr(o, '_step_count', 0)", "_step_count"),
        ("class Mine(Theirs):\n    def f(self):\n        return self._kwargs", "_kwargs"),
    ],
)
def test_a_use_of_a_private_part_is_found(source: str, name: str) -> None:
    assert uses_of_private_names(source) == {name}


def test_the_versions_are_those_that_are_installed_with_the_constraints() -> None:
    pinned = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert {name: pinned[name] for name in CHECKED_WITH} == CHECKED_WITH
