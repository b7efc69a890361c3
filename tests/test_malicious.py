"""What strangers send to run code: nothing of it runs, and what was refused is named."""

import ast
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import SMALL, some
from safetensors.torch import load_file, save_file
from tensorboard import program
from tensorboard.plugins.core.core_plugin import CorePluginLoader

from fovea.data.sources.coco import read_coco
from fovea.data.sources.folder import read_folder
from fovea.data.sources.imagenet import read_imagenet
from fovea.data.sources.multilabel_csv import read_multilabel_csv
from fovea.data.sources.voc import read_voc
from fovea.data.store.encode import Format
from fovea.data.store.pack import Source, pack
from fovea.data.store.remote import read_remote
from fovea.data.store.store import read_store
from fovea.models.from_timm import build_timm
from fovea.models.from_torchvision import build_torchvision

Invoke = Callable[..., tuple[int, str, str]]
PROJECT = Path(__file__).resolve().parents[1]
LOADER, DUMPER = (getattr(yaml, f"C{name}", getattr(yaml, name)) for name in ("SafeLoader", "SafeDumper"))  # C: faster


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """Not there at the end, though the payload does work."""
    mark = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()
    mark.rmdir()
    yield mark
    assert not mark.exists()


def refused(outcome: tuple[int, str, str], *said: object) -> None:
    """In a few lines."""
    code, _, err = outcome
    assert code == 2, err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.strip()]) <= 10
    for words in said:
        assert str(words) in err


def poison(file: Path, mark: Path) -> Path:
    """A checkpoint as it was, with a payload in it."""
    content = torch.load(file, weights_only=True) if file.exists() else {"state_dict": {}}
    torch.save(content | {"payload": Payload(mark)}, file)
    return file


# ------------------------------------------------------------------------------------------------- files of weights


@pytest.mark.parametrize("key", ["weights", "ckpt_path"])
def test_a_training_does_not_start_from_a_file_with_code(
    invoke: Invoke, folder: Path, tmp_path: Path, mark: Path, key: str
) -> None:
    file = poison(tmp_path / "w.ckpt", mark)
    refused(invoke("train", "data=folder", f"data.root={folder}", *SMALL, f"{key}={file}"), file, "posix.mkdir")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_a_network_is_not_filled_from_a_file_with_code(tmp_path: Path, mark: Path, suffix: str) -> None:
    file = poison(tmp_path / f"w{suffix}", mark)
    builders: list[Callable[..., object]] = [build_torchvision, *([build_timm] if find_spec("timm") else [])]
    for build in builders:
        with pytest.raises(ValueError, match=re.escape(str(file))):
            build("resnet18", num_classes=3, weights=str(file))
    with pytest.raises(ValueError, match=r"model\.checkpoint_path"):
        build_timm("resnet18", num_classes=3, checkpoint_path=str(file))


@pytest.mark.parametrize("program", ["evaluate", "predict"])
def test_a_runs_checkpoint_with_code_is_refused(
    invoke: Invoke, trained: Path, folder: Path, mark: Path, program: str
) -> None:
    source = [f"source={folder}"] if program == "predict" else []
    best = poison(trained / "checkpoints" / "best.ckpt", mark)
    refused(invoke(program, f"run={trained}", *source), best, "posix.mkdir")
    best.unlink()
    last = poison(trained / "checkpoints" / "last.ckpt", mark)
    refused(invoke(program, f"run={trained}", *source), last, "posix.mkdir")
    refused(invoke(program, f"run={trained}", *source, f"ckpt_path={last}"), last, "posix.mkdir")


def test_a_run_with_code_in_its_last_checkpoint_is_not_resumed(invoke: Invoke, trained: Path, mark: Path) -> None:
    files = [poison(file, mark) for file in sorted((trained / "checkpoints").glob("*.ckpt"))]
    assert files
    refused(invoke("train", f"resume={trained}", "trainer.max_epochs=2"), trained / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", b"\x80\x04N."])
def test_a_checkpoint_that_is_none_is_named(invoke: Invoke, trained: Path, content: bytes) -> None:
    best = trained / "checkpoints" / "best.ckpt"
    best.write_bytes(content)
    refused(invoke("evaluate", f"run={trained}"), best, "copy it again")


@pytest.mark.parametrize("key", ["ckpt_path", "weights"])
def test_a_checkpoint_is_not_taken_from_the_network(invoke: Invoke, folder: Path, key: str) -> None:
    address = "http://127.0.0.1:9/model.ckpt"
    refused(invoke("train", "data=folder", f"data.root={folder}", *SMALL, f"{key}={address}"), f"{key}={address}")


def test_a_strategy_that_unpickles_is_not_given_a_checkpoint(invoke: Invoke, trained: Path) -> None:
    file = trained / "checkpoints" / "best.ckpt"
    refused(invoke("train", f"ckpt_path={file}", "trainer.strategy=fsdp"), "trainer.strategy=fsdp")


# --------------------------------------------------------------------------------------------------- a run's config


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    file = run / "config.yaml"
    content = yaml.load(file.read_text(), LOADER)
    change(content)
    file.write_text(yaml.dump(content, Dumper=DUMPER, sort_keys=False))
    return file


def set_key(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *folders, last = path.split(".")
        for name in folders:
            content = content.setdefault(name, {})
        content[last] = value

    return change


EVIL = {"_target_": "os.system", "command": "touch '{mark}'", "_convert_": "all"}
DOORS: dict[str, tuple[dict[str, Any], str]] = {
    "a network": ({"model": EVIL}, "model._target_=os.system"),
    "nested in one": ({"model.stem": EVIL}, "model.stem._target_=os.system"),
    "a metric": ({"metrics.x": EVIL}, "metrics.x._target_=os.system"),
    "partial": ({"parameter_groups": {"_target_": "builtins.exec", "_partial_": True}}, "builtins.exec"),
    "by interpolation": ({"loss._target_": "${x}", "x": "os.system"}, "loss._target_=${x}"),
    "by a node elsewhere": ({"mixing": "${x}", "x": EVIL}, "x._target_=os.system"),
    "made by a resolver": ({"callbacks.x": "${oc.create:{_target_:os.system}}"}, "oc.create"),
    "as a default": ({"callbacks.x": "${oc.select:class_names,{_target_:os.system}}"}, "oc.select"),
    "through a module's imports": (
        {"loss._target_": "fovea.data.sources.image_files.os.system"},
        "fovea.data.sources.image_files.os.system",
    ),
    "by a reference": ({"loss._target_": "${class_names.0}"}, "loss._target_=${class_names.0}"),
    "resolved when it is built": ({"callbacks.x": r"\${oc.select:y,{_target_:os.system}}"}, "callbacks.x="),
    "Hydra's callbacks": ({"hydra": {"callbacks": {"x": EVIL}}}, "hydra is Hydra's own key"),
    "Hydra's logging": ({"hydra.job_logging": {"handlers": {"x": {"()": "os.system"}}}}, "hydra is Hydra's own key"),
    "a defaults list": ({"defaults": [{"override hydra/launcher": "joblib"}]}, "defaults is Hydra's own key"),
    "the environment": ({"logger.x": "${oc.env:HOME}"}, "logger.x: ${oc.env:HOME} reads a variable"),
    "the environment, hidden": (
        {"logger.x": "${${y}:HOME}", "y": "oc.env"},
        "logger.x: ${oc.env:HOME} reads a variable",
    ),
    "a strategy": ({"trainer.strategy": "fsdp"}, "trainer.strategy=fsdp"),
    "a profiler outside": (
        {"trainer.profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "/etc"}},
        "trainer.profiler.dirpath=/etc is outside",
    ),
    "a folder outside": (
        {"callbacks.best.folder": "/etc"},
        "callbacks.best.folder=/etc is outside",
    ),
    "above the run": (
        {"logger.csv.folder": "x/../../../.."},
        "logger.csv.folder=",
    ),
    "at home": (
        {"trainer.default_root_dir": "~"},
        "trainer.default_root_dir=~ is outside",
    ),
    "a folder outside, in two steps": (
        {"data_dir": "/x", "y": "/etc", "callbacks.last.folder": "${y}"},
        "callbacks.last.folder=/etc is outside",
    ),
    "where the data are kept": (
        {"callbacks.last.folder": "${data_dir}"},
        "callbacks.last.folder={tmp}/data is outside",
    ),
    "another run": (
        {"callbacks.last.folder": "{tmp}/runs/train/other"},
        "callbacks.last.folder={tmp}/runs/train/other is outside",
    ),
    "seen from where the program starts": (
        {"callbacks.last.folder": "runs"},
        "callbacks.last.folder=runs is outside",
    ),
    "the copies of a store": (
        {"data.store_cache": "/etc/x"},
        "data.store_cache=/etc/x is outside of the run's folder and of DATA_DIR",
    ),
    "a listing": (
        {"data.read.cache": "{tmp}/runs"},
        "data.read.cache={tmp}/runs is outside",
    ),
    "data to be made": (
        {"data.root": "{tmp}/made", "data.read._target_": "fovea.data.sources.digits.read_digits"},
        "data.root={tmp}/made is outside",
    ),
    "data to be made elsewhere in it": (
        {"mixing": {"_target_": "fovea.data.sources.digits.read_digits", "root": "{tmp}/made"}},
        "mixing.root={tmp}/made is outside",
    ),
    "another host": ({"logger.x": {"tracking_uri": "https://evil.example"}}, "logger.x.tracking_uri=https://evil"),
}


@pytest.mark.parametrize("door", some(DOORS))
def test_a_strangers_run_is_refused_before_anything_of_it_is_built(
    invoke: Invoke, trained: Path, mark: Path, door: str
) -> None:
    changes, said = (json.loads(_here(json.dumps(part), mark)) for part in DOORS[door])
    for path, value in changes.items():
        edit(trained, set_key(path, value))
    before = sorted(trained.rglob("*"))
    refused(invoke("evaluate", f"run={trained}"), said)
    assert sorted(trained.rglob("*")) == before


def _here(text: str, mark: Path) -> str:
    return text.replace("{mark}", str(mark)).replace("{tmp}", str(mark.parent))


@pytest.mark.parametrize("key", ["resume", "rerun", "source=x.png run"])
def test_so_it_is_by_every_program(invoke: Invoke, trained: Path, mark: Path, key: str) -> None:
    edit(trained, set_key("mixing", {"_target_": "os.system", "command": f"touch '{mark}'"}))
    more, _, key = key.rpartition(" ")
    refused(invoke("predict" if more else "train", *more.split(), f"{key}={trained}"), "mixing._target_=os.system")


def test_the_command_line_adds_no_strange_target_to_a_run_either(invoke: Invoke, trained: Path) -> None:
    refused(invoke("evaluate", f"run={trained}", "+metrics.x._target_=os.getcwd"), "os.getcwd", "in a yaml of conf/")


def test_a_sweep_over_a_strangers_run_is_refused_too(invoke: Invoke, trained: Path, mark: Path) -> None:
    edit(trained, set_key("mixing", {"_target_": "os.system", "command": f"touch '{mark}'"}))
    code, _, err = invoke("evaluate", "-m", f"run={trained}", "split=val,test")
    assert code != 0
    assert "mixing._target_=os.system" in err


@pytest.mark.slow
def test_a_place_that_is_typed_is_the_users_own(invoke: Invoke, trained: Path, tmp_path: Path) -> None:
    edit(trained, set_key("logger.csv.folder", "/nowhere"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, _, err = invoke("train", f"resume={trained}", "trainer.max_epochs=2", f"logger.csv.folder={elsewhere}")
    assert "/nowhere" not in err
    assert code == 0, err
    assert (elsewhere / "metrics.csv").is_file()


STRANGE = {
    "a place": ("trainer=cpu", "trainer.default_root_dir", "{tmp}/x", "trainer.default_root_dir={tmp}/x is outside"),
    "the environment": ("trainer=cpu", "trainer.x", "${oc.env:HOME}", "trainer.x: ${oc.env:HOME} reads a variable"),
    "of other data": (
        "data=folder",
        "data.image_size",
        "${oc.env:HOME}",
        "${oc.env:HOME} reads a variable",
    ),
    "where loggers write": ("logger=csv", "logger.csv.folder", "{tmp}/x", ""),
    "where listings go": ("data=folder", "data_dir", "{tmp}/x", ""),
    "a mapping": ("trainer={max_epochs: 1}", "trainer.default_root_dir", "{tmp}/x", "trainer"),
    "beside it": (
        "logger.tensorboard={name: x}",
        "logger.tensorboard.save_dir",
        "{tmp}/x",
        "save_dir={tmp}/x is outside",
    ),
}


@pytest.mark.parametrize("kind", some(STRANGE))
def test_a_group_that_is_typed_vouches_for_what_it_brings_alone(
    invoke: Invoke, trained: Path, folder: Path, tmp_path: Path, kind: str
) -> None:
    typed, place, value, said = (part.replace("{tmp}", str(tmp_path)) for part in STRANGE[kind])
    edit(trained, set_key(place, value))
    outcome = invoke("evaluate", f"run={trained}", typed, *([f"data.root={folder}"] if "data" in typed else []))
    if said:
        refused(outcome, said)
    else:
        assert outcome[0] == 0, outcome[2]
        assert value not in next(trained.glob("evaluate/*/resolved.yaml")).read_text()


@pytest.mark.slow
def test_made_data_and_copies_lie_where_this_machine_keeps_its_own(
    invoke: Invoke, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "here"))
    edit(trained, set_key("data_dir", str(tmp_path / "there")))
    code, _, err = invoke("train", f"resume={trained}", "trainer.max_epochs=2")
    assert code == 0, err
    data = yaml.safe_load((trained / "resolved.yaml").read_text())["data"]
    assert data["store_cache"] == str(tmp_path / "here" / "stores")
    assert data["read"]["cache"] == str(tmp_path / "here" / "listings")
    assert not (tmp_path / "there").exists()


@pytest.mark.slow
def test_made_data_that_are_there_are_read_wherever_they_are(invoke: Invoke, tmp_path: Path) -> None:
    words = ("data=digits", f"data.root={tmp_path}/made", *SMALL, "trainer.limit_train_batches=2")
    assert invoke("train", *words, f"hydra.run.dir={tmp_path}/run")[0] == 0
    code, _, err = invoke("evaluate", f"run={tmp_path}/run")
    assert code == 0, err
    (tmp_path / "made").rename(tmp_path / "gone")
    refused(invoke("evaluate", f"run={tmp_path}/run"), f"data.root={tmp_path}/made is outside")
    code, _, err = invoke("evaluate", f"run={tmp_path}/run", f"data.root={tmp_path}/made")
    assert code == 0, err


YAMLS = {
    "a tag": "!!python/object/apply:os.system ['touch {mark}']",
    "a tag inside": "model: {x: !!python/object/apply:os.system ['touch {mark}']}",
    "a name": "model: {x: !!python/name:os.system }",
    "a bomb of aliases": "a: &a [1]\n"
    + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
    "depth": "model: " + "[" * 1500,
}


@pytest.mark.parametrize("kind", YAMLS)
def test_a_runs_yaml_makes_no_object_and_no_flood(invoke: Invoke, trained: Path, mark: Path, kind: str) -> None:
    file = trained / "config.yaml"
    file.write_text(YAMLS[kind].replace("{mark}", str(mark)))
    refused(invoke("evaluate", f"run={trained}"), file, "can't be read as a run's config")


# ------------------------------------------------------------------------------------------------------------- data


def test_a_listing_kept_in_a_cache_is_no_pickle(
    folder: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.data.scan.scan.CLOCK_TICK", 0)  # else a folder that has just changed is not kept
    cache = tmp_path / "cache"
    whole = read_folder(folder, cache)
    for kept in cache.iterdir():
        kept.write_bytes(pickle.dumps(Payload(mark)))
    assert read_folder(folder, cache).train.paths == whole.train.paths


def test_coco_names_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "train2017").mkdir()
    for name in ("../secret.jpg", "/etc/passwd", "a/../../b.jpg", ".."):
        content = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": []}
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"a\.json: file_name '.*' points outside the images' folder"):
            read_coco(tmp_path, train_annotations="a.json", val_annotations=None)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "[" * 200_000,
        '{"images": 3, "annotations": [], "categories": []}',
        '{"images": [3], "annotations": [], "categories": []}',
        '{"images": [{}], "annotations": [], "categories": []}',
        '{"images": [{"id": [], "file_name": "x"}], "annotations": [], "categories": []}',
        '{"images": [{"id": 1, "file_name": 7}], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [], "categories": [{"id": "1"}]}',
    ],
    ids=range(9),
)
def test_a_malformed_coco_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        read_coco(tmp_path, train_annotations="a.json", val_annotations=None)


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "x/../../y"])
def test_voc_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    lists = tmp_path / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(f"000001\n{name}\n")
    with pytest.raises(ValueError, match=r"train\.txt: '.*' points outside JPEGImages"):
        read_voc(tmp_path, val_list=None)


def test_csv_names_stay_below_the_root(tmp_path: Path) -> None:
    for name in ("../secret.png", "a/../../secret.png", ".."):
        (tmp_path / "labels.csv").write_text(f"path,a\n{name},1\n")
        with pytest.raises(ValueError, match=r"labels\.csv, line 2: '.*' points outside"):
            read_multilabel_csv(tmp_path)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", pickle.dumps({"synsets": []}), b"\0" * 4096])
def test_a_meta_mat_that_is_none_is_named(tmp_path: Path, content: bytes, mark: Path) -> None:
    for part in ("train/n01440764", "val/n01440764", "ILSVRC2012_devkit_t12/data"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"meta\.mat cannot be read"):
        read_imagenet(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "reference://x::https://127.0.0.1:9/x.json",
        "simplecache::https://127.0.0.1:9/x",
        "zip://x::file:///x.zip",
        *("local:///etc", "file:///etc", "dask://x", "ssh://host/x", "github://a:b@/x", "jupyter://x", "hdfs://x"),
    ],
)
def test_a_store_is_fetched_from_known_kinds_of_places_only(url: str) -> None:
    with pytest.raises(ValueError, match="cannot be a store"):
        read_remote(url)


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> Path:
    """A store of raw pixels."""
    data = read_folder(folder)
    assert data.val
    assert data.test
    splits = {"train": data.train, "val": data.val, "test": data.test}
    source = Source(data.task, data.class_names, splits, str(folder))
    pack(source, Format("raw", background=[0, 0, 0]), tmp_path / "store", 0, lambda *_: None)
    return tmp_path / "store"


ABOUT: list[tuple[str, Any]] = [
    *(("part_size", 0), ("part_size", -1), ("part_size", 1.5), ("part_size", "../../etc"), ("task", "os.system")),
    *(("class_names", None), ("class_names", [1]), ("class_names", []), ("splits", []), ("splits", {"train": [0, 1]})),
    *(("splits.val", [0, 10**12]), ("splits.val", [-5, 3]), ("splits.val", [9, 3]), ("splits.val", ["a", "b"])),
    *(("options", None), ("options.format", "pickle"), ("version", "../x"), ("options.format", ["raw"])),
]


@pytest.mark.parametrize(("path", "value"), ABOUT)
def test_a_stores_json_that_lies_is_named(store: Path, path: str, value: Any) -> None:
    content = json.loads((store / "store.json").read_text())
    set_key(path, value)(content)
    (store / "store.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"store\.json"):
        read_store(str(store))


COLUMNS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "sizes are larger": lambda columns: columns["sizes"].mul_(1000),
    "sizes are negative": lambda columns: columns["sizes"].mul_(-1),
    "images begin before the file": lambda columns: columns["starts"].sub_(10**9),
    "an image ends before it begins": lambda columns: columns["starts"][3:4].add_(10**12),
    "fewer sizes": lambda columns: columns.update(sizes=columns["sizes"][:3].clone()),
    "fewer targets": lambda columns: columns.update(targets=columns["targets"][:3].clone()),
    "fewer names": lambda columns: columns.update(name_starts=columns["name_starts"][:3].clone()),
    "names beyond the text": lambda columns: columns["name_starts"][1:].add_(10**6),
    "targets beyond the classes": lambda columns: columns["targets"].add_(1000),
    "targets of several labels": lambda columns: columns.update(targets=columns["targets"][:, None].clone()),
    "starts that are no numbers": lambda columns: columns.update(starts=columns["starts"].float()),
}


@pytest.mark.parametrize("lie", COLUMNS)
def test_a_stores_columns_that_lie_are_named(store: Path, lie: str) -> None:
    columns = load_file(store / "columns.safetensors")
    assert len(read_store(str(store)).train) == 36
    COLUMNS[lie](columns)
    save_file(columns, store / "columns.safetensors")
    with pytest.raises(ValueError, match=r"columns\.safetensors is inconsistent|store is damaged"):
        read_store(str(store))


# ---------------------------------------------------------------------------------------------------- the code itself

SOURCES = sorted([*(PROJECT / "src").rglob("*.py"), *(PROJECT / "scripts").rglob("*.py")])
UNSAFE = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads"),
    *("shelve.open", "joblib.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.jit.load"),
    *("torch.hub.load", "tarfile.open", "shutil.unpack_archive", "numpy.load", "np.load", "runpy.run_path"),
    *("http.server.HTTPServer", "socketserver.TCPServer", "HTTPServer", "ThreadingHTTPServer"),
}


def unsafe_calls(source: str) -> list[str]:
    """Calls that run what they are given, or load what may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        loads = name in ("torch.load", "trainer.fit", "trainer.test", "trainer.predict", "trainer.validate")
        if (
            name in UNSAFE
            or (loads and options.get("weights_only") != "True")
            or (name == "yaml.load" and "SafeLoader" not in ast.unparse(node))
            or options.get("shell") == "True"
            or options.get("allow_pickle") == "True"
            or name.endswith((".extractall", ".extract"))
        ):
            found.append(f"{name}, line {node.lineno}")
    return found


def test_nothing_in_the_project_runs_or_unpickles_what_it_is_given() -> None:
    found = {file.relative_to(PROJECT).as_posix(): unsafe_calls(file.read_text("utf-8")) for file in SOURCES}
    assert {file: calls for file, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    [
        *("eval(x)", "torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(x, yaml.Loader)", "np.load(f)"),
        *("subprocess.run(x, shell=True)", "archive.extractall(x)", "trainer.fit(task)", "pickle.loads(x)"),
    ],
)
def test_an_unsafe_call_is_found(source: str) -> None:
    assert unsafe_calls(source)


def test_nothing_of_the_project_listens_on_more_than_this_machine() -> None:
    files = [
        PROJECT / "README.md",
        *(PROJECT / "docs").glob("*.md"),
        PROJECT / "Makefile",
        *SOURCES,
        *(PROJECT / "conf").rglob("*.yaml"),
    ]
    words = r"bind_all|0\.0\.0\.0|--host\b|\.listen\(|\.bind\(|serve_forever|http\.server|socketserver|uvicorn|flask"
    found = {file.name: re.findall(words, file.read_text("utf-8")) for file in files}
    assert {name: words for name, words in found.items() if words} == {}


def test_tensorboard_listens_on_this_machine_alone_unless_it_is_told_otherwise() -> None:
    board = program.TensorBoard(plugins=[CorePluginLoader()])
    board.configure(argv=["tensorboard", "--logdir", "runs", "--port", "0"])
    assert board.flags.host is None
    assert not board.flags.bind_all
    server = program.WerkzeugServer(lambda environ, start: [], board.flags)
    try:
        assert server.server_address[0] in ("127.0.0.1", "::1")
    finally:
        server.server_close()
