"""The targets that a config from a stranger may build."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from fovea.config import resolvers
from fovea.config.allowed_targets import PACKAGE, allowed, check_targets, conf_targets
from fovea.config.resolvers import CONF, register_resolvers

REFUSED = [
    *("os.system", "subprocess.run", "subprocess.Popen", "posix.system", "pty.spawn", "os.popen", "os.execv"),
    *("builtins.eval", "builtins.exec", "builtins.open", "builtins.__import__", "builtins.getattr", "eval", "print"),
    *("importlib.import_module", "runpy.run_path", "code.interact", "timeit.timeit", "ctypes.CDLL", "pdb.run"),
    *("pickle.loads", "pickle.load", "marshal.loads", "shelve.open", "joblib.load", "numpy.load", "yaml.unsafe_load"),
    *("pathlib.Path.touch", "pathlib.Path.unlink", "shutil.rmtree", "webbrowser.open", "socket.create_connection"),
    *("torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    *("torch.nn.modules.module.warnings.sys.exit", "torch.nn.utils.parametrize.register_parametrization"),
    *("torch.nn.functional.relu", "torch.nn.init.os.system", "torch.optim.lr_scheduler.partial", "torch.from_file"),
    *("torch.optim.lr_scheduler.Counter", "torch.utils.cpp_extension.load", "torch.classes.load_library"),
    *("torch.ops.load_library", "torch.distributed.rpc.rpc_sync", "torch.compile", "torch.serialization.load"),
    *("torchvision.datasets.MNIST", "torchvision.datasets.utils.download_url", "torchvision.io.write_file"),
    *("torchvision.transforms.v2.functional.os.system", "torchmetrics.text.bert.BERTScore", "torchmetrics.image.os"),
    *("lightning.pytorch.plugins.TorchCheckpointIO", "lightning.pytorch.callbacks.SpikeDetection"),
    *("lightning.pytorch.LightningModule.load_from_checkpoint", "lightning.pytorch.strategies.DeepSpeedStrategy"),
    *("lightning.pytorch.strategies.FSDPStrategy", "lightning.pytorch.loggers.MLFlowLogger.os.system"),
    *("lightning.pytorch.callbacks.lambda_function.os.system", "lightning.pytorch.cli.LightningCLI"),
    *(
        "lightning.pytorch.loggers.CometLogger",
        "lightning.Trainer.fit",
        "timm.create_model",
        "timm.models.load_checkpoint",
    ),
    *("hydra.utils.instantiate", "hydra.utils.get_method", "hydra.utils.get_object", "functools.partial"),
    *("omegaconf.OmegaConf.save", "transformers.AutoModel.from_pretrained", "antigravity.x"),
    *(
        "fovea.runs.run_folder.write_json",
        "fovea.runs.run_folder.subprocess.run",
        "fovea.data.sources.image_files.os.system",
        "fovea.data.sources.image_files.Path",
    ),
    *(
        "fovea.models.weights.fill.pickle.loads",
        "fovea.models.weights.fill.torch.load",
        "fovea.models.weights.fill.Path",
    ),
    *(
        "fovea.models.weights.fill._read",
        "fovea.models.from_timm.logging.os.system",
        "fovea.models.weights",
        "fovea.models",
    ),
    *("fovea.training.save_last.os.system", "fovea.task.ClassificationTask", "fovea.build.instantiate", "fovea"),
    *("fovea.models.weights.fill.LoadReport.table", "fovea.models...data.files.read_files", "fovea.models./etc/x.y"),
    *(
        "torchvision.models.resnet18",
        "torchvision.models.Weights",
        "torchvision.transforms.v2.functional.register_kernel",
    ),
    *("torch.nn.functional.boolean_dispatch", "torchvision.ops.misc.warnings", "datetime.sys.exit", "builtins.type"),
    *(
        "fovea.data.store.remote.fetch",
        "fovea.data.column_file.write_columns",
        "fovea.data.store.pack.pack",
        "fovea.data.scan.scan.os",
    ),
    *("fovea.report.predictions.write", "fovea.files.write_safely", "fovea.data.sources.digits.write_once"),
    *("", ".", "torch.nn.", "torch.nn.Linear.", ".torch.nn.Linear", "torch.nn.Linear\n", "torch.nn.Linear os.system"),
]


@pytest.mark.parametrize("target", REFUSED)
def test_what_runs_code_or_touches_files_is_not_allowed(target: str) -> None:
    assert not allowed(target)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "fovea.models.se_resnet.SEResNet",
            "fovea.optim.schedulers.warmup_cosine",
            "fovea.objectives.consistency.RDrop",
            "fovea.data.sources.folder.read_folder",
        ),
        *("torch.nn.CrossEntropyLoss", "torch.optim.SGD", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        *("torchvision.transforms.v2.RandAugment", "torchmetrics.classification.MulticlassAccuracy"),
        *("lightning.Trainer", "lightning.pytorch.callbacks.EarlyStopping", "timm.loss.AsymmetricLossMultiLabel"),
        *(
            "torch.nn.functional.cross_entropy",
            "torch.tensor",
            "datetime.timedelta",
            "torchvision.ops.sigmoid_focal_loss",
        ),
        *("torchvision.transforms.v2.Lambda", "torchvision.transforms.v2.functional.adjust_gamma", "builtins.tuple"),
        *(
            "fovea.data.pixels.crop.CenterCrop",
            "fovea.data.sources.image_files.read_files",
            "fovea.data.loading.datamodule.ImageDataModule",
        ),
        "lightning.pytorch.plugins.environments.SLURMEnvironment",
    ],
)
def test_what_people_build_is_allowed(target: str) -> None:
    assert allowed(target)


def test_every_target_of_conf_is_allowed_and_found() -> None:
    def found(node: Any) -> set[str]:
        items = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        own = {node["_target_"]} if isinstance(node, dict) and "_target_" in node else set()
        return own.union(*map(found, items))

    written = set().union(*(found(OmegaConf.to_container(OmegaConf.load(file))) for file in CONF.rglob("*.yaml")))
    assert len(written) > 50
    assert conf_targets() == written
    assert all(map(allowed, written))


def test_a_target_in_a_comment_of_conf_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("x: {_target_: a.b, y: {'_target_': c.d}}  # _target_: e.f\n# _target_: g.h\n")
    monkeypatch.setattr(resolvers, "CONF", tmp_path)
    resolvers.conf_texts.cache_clear()
    try:
        assert conf_targets() == {"a.b", "c.d"}
        assert allowed("a.b")
        assert not allowed("e.f")
    finally:
        resolvers.conf_texts.cache_clear()


def test_a_function_that_a_clone_adds_is_allowed_once_it_is_in_one_of_the_groups() -> None:
    file = PACKAGE / "losses" / "bce.py"
    assert "class BinaryCrossEntropy" in file.read_text()
    assert allowed("fovea.losses.bce.BinaryCrossEntropy")
    assert not allowed("fovea.losses.bce.Tensor")  # imported by the module, not defined in it


def test_a_module_that_a_clone_adds_is_allowed_in_a_folder_of_parts_and_a_folder_of_its_own_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fovea.config.allowed_targets as module

    package = tmp_path / "fovea"
    for folder in ("models/heads", "data", "mine"):
        (package / folder).mkdir(parents=True)
        (package / folder / "new.py").write_text("import os\nclass New: ...\ndef new(): ...\ndef read_new(root): ...\n")
    monkeypatch.setattr(module, "PACKAGE", package)
    assert all(allowed(f"fovea.models.heads.new.{name}") for name in ("New", "new"))
    assert all(allowed(f"fovea.data.new.{name}") for name in ("New", "read_new"))
    assert not any(allowed(f"fovea.{name}") for name in ("data.new.new", "models.heads.new.os", "mine.new.New"))


LIBRARIES = [
    *("torch.nn", "torch.optim", "torch.optim.lr_scheduler", "torch.optim.swa_utils", "torchvision.transforms.v2"),
    *("torchvision.transforms", "torchvision.ops", "lightning.pytorch.plugins.environments"),
    *("torchmetrics", "torchmetrics.classification", "lightning.pytorch.callbacks", "lightning.pytorch.loggers"),
    *("lightning.pytorch.profilers", "lightning.pytorch.strategies", "lightning", "timm.loss", "timm.optim"),
]
FILES = re.compile(r"path|file|dir$|folder|url|pretrained")
KNOWN = {  # they write into a given folder, which config/untrusted.py checks
    *("ModelCheckpoint dirpath", "ModelCheckpoint filename", "OnExceptionCheckpoint dirpath"),
    *("OnExceptionCheckpoint filename", "CSVLogger root_dir", "CSVLogger save_dir", "TensorBoardLogger root_dir"),
    *("TensorBoardLogger save_dir", "TensorBoardLogger sub_dir", "MLFlowLogger save_dir", "WandbLogger dir"),
    *("WandbLogger save_dir", "WandbLogger add_file_policy", "Trainer default_root_dir", "Trainer profiler"),
    *(f"{kind}Profiler {key}" for kind in ("", "Advanced", "PyTorch", "Simple") for key in ("dirpath", "filename")),
    "PyTorchProfiler profiler_kwargs",
}


@pytest.mark.parametrize("module", LIBRARIES)
def test_the_patterns_allow_only_classes_and_no_unknown_one_that_takes_a_file(module: str) -> None:
    if module.startswith("timm"):
        pytest.importorskip("timm")
    library = importlib.import_module(module)
    reached = [getattr(library, name) for name in dir(library) if allowed(f"{module}.{name}")]
    classes = [thing for thing in reached if isinstance(thing, type)]
    assert classes
    functions = [thing.__name__ for thing in reached if callable(thing) and thing not in classes]
    assert functions == (["sigmoid_focal_loss"] if module == "torchvision.ops" else [])
    ours = ("torch", "torchvision", "torchmetrics", "lightning", "timm")
    assert {cls.__module__.partition(".")[0] for cls in classes} <= set(ours)
    bases = {base for cls in classes for base in cls.__mro__ if base.__module__.startswith(ours)}
    asked = {
        f"{base.__name__} {key}"
        for base in bases
        if "__init__" in vars(base)
        for key in inspect.signature(vars(base)["__init__"]).parameters
        if FILES.search(key)
    }
    assert asked <= KNOWN


@pytest.mark.parametrize("module", ["torch", "torch.nn.functional", "torchvision.transforms.v2.functional"])
def test_of_a_librarys_functions_only_those_that_compute_are_allowed(module: str) -> None:
    library = importlib.import_module(module)
    reached = {name: getattr(library, name) for name in dir(library) if allowed(f"{module}.{name}")}
    functions = {name: thing for name, thing in reached.items() if inspect.isfunction(thing)}
    assert {thing.__module__.partition(".")[0] for thing in functions.values()} <= {"torch", "torchvision"}
    asked = [key for thing in functions.values() for key in inspect.signature(thing).parameters]
    assert not [key for key in asked if FILES.search(key)]
    assert len(reached) >= 4


CONFIGS = {
    "at the top": "_target_: os.system",
    "nested": "a: {b: {c: {_target_: os.system, command: ls}}}",
    "in a list": "a: [1, {_target_: torch.nn.Identity}, [{_target_: os.system}]]",
    "partial": "a: {_target_: os.system, _partial_: true}",
    "not recursive": "a: {_target_: torch.nn.Identity, _recursive_: false, x: {_target_: os.system}}",
    "an argument": "a: {_target_: torch.nn.Sequential, _args_: [{_target_: builtins.eval, _args_: ['1']}]}",
    "by interpolation": "x: os.system\na: {_target_: '${x}'}",
    "by interpolation, though allowed": "x: torch.nn.Identity\na: {_target_: '${x}'}",
    "from pieces": "x: os\na: {_target_: '${x}.system'}",
    "a node by interpolation": "x: {_target_: os.system}\na: ${x}",
    "made by a resolver": "a: '${oc.create:{_target_: os.system}}'",
    "decoded": "a: \"${oc.decode:'{_target_: os.system}'}\"",
    "a default": "a: '${oc.select:nowhere,{_target_: os.system}}'",
    "a number": "a: {_target_: 7}",
    "null": "a: {_target_: null}",
    "a mapping": "a: {_target_: {x: torch.nn.Identity}}",
    "a list": "a: {_target_: [torch.nn.Identity]}",
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_target_is_found_at_any_depth(text: str) -> None:
    register_resolvers()
    with pytest.raises(Exception, match=r"_target_=.*|Unsupported interpolation type oc\.(create|decode|select)"):
        check_targets(DictConfig(OmegaConf.create(text)))


REMEDIES = {
    "os.system": r"in a yaml of conf/.*\n.*src/fovea/ defines in one of models, losses",
    "torchvision.models.resnet18": "Type model=torchvision model.name=resnet18",
    "timm.create_model": "Type model=timm model.name=",
    "lightning.pytorch.callbacks.early_stopping.EarlyStopping": r"Name it .*\.pytorch\.callbacks\.EarlyStopping$",
    "torch.nn.modules.loss.CrossEntropyLoss": r"Name it torch\.nn\.CrossEntropyLoss$",
}


@pytest.mark.parametrize("target", REMEDIES)
def test_the_message_names_place_target_and_remedy(target: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.stem\._target_={re.escape(target)}: .*\n.*{REMEDIES[target]}"):
        check_targets(OmegaConf.create({"model": {"stem": {"_target_": target}}}))


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_3", "model_parallel", "fsdp_cpu_offload"])
def test_a_strategy_that_unpickles_checkpoints_is_refused(strategy: str) -> None:
    check_targets(OmegaConf.create({"trainer": {"strategy": "ddp_spawn"}}))
    with pytest.raises(ValueError, match=strategy):
        check_targets(OmegaConf.create({"trainer": {"strategy": strategy}}))


def test_the_check_imports_nothing_that_a_config_names(tmp_path: Path) -> None:
    code = "from fovea.config.allowed_targets import allowed; allowed('torch.nn.Linear')"
    code += "; allowed('fovea.models.weights.fill.fill'); allowed('antigravity.x')"
    code += "; import sys; print({'torch', 'antigravity', 'fovea.models'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
