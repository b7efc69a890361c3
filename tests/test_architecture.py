"""Who may import whom. The rules are functions of (file, imported names), so that a test can break them."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
LEAVES = ("models", "losses", "metrics", "optim", "callbacks", "report", "data")
KNOWS_HYDRA = ("train.py", "evaluate.py", "predict.py", "export.py", "fovea/build.py", "fovea/config/")
FILES = sorted(file.relative_to(SRC).as_posix() for file in SRC.rglob("*.py"))


def imported(source: str) -> set[str]:
    """Every module that the source names in an import, at its top or within a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def broken(file: str, names: Iterable[str]) -> list[str]:
    """The imports that break a rule."""
    ours = {name for name in names if name.split(".")[0] == "fovea" and name != "fovea"}
    wrong = [n for n in names if n.split(".")[0] in ("hydra", "omegaconf") and not file.startswith(KNOWS_HYDRA)]
    group = file.split("/")[1] if file.startswith("fovea/") else ""
    if group in LEAVES:
        wrong += [name for name in ours if name.split(".")[1] != group]
    if file == "fovea/task.py":
        wrong += [name for name in ours if name.split(".")[1] in (*LEAVES, "config", "build", "run")]
    if group == "config":
        torch_or_leaf = ("torch", "torchvision", "lightning", "torchmetrics")
        wrong += [n for n in names if n.split(".")[0] in torch_or_leaf or (n in ours and n.split(".")[1] != "config")]
    return wrong


@pytest.mark.parametrize("file", FILES)
def test_no_file_imports_what_its_place_forbids(file: str) -> None:
    assert broken(file, imported((SRC / file).read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("fovea/models/x.py", "import hydra"),
        ("fovea/models/x.py", "from fovea.data.index import Index"),
        ("fovea/data/x.py", "def f():\n    from fovea import task"),
        ("fovea/task.py", "from fovea.losses.bce import BinaryCrossEntropy"),
        ("fovea/run.py", "from omegaconf import OmegaConf"),
        ("fovea/config/x.py", "import torch.nn"),
        ("fovea/config/x.py", "from fovea import build"),
    ],
)
def test_a_forbidden_import_is_found(file: str, source: str) -> None:
    assert broken(file, imported(source))


def test_every_init_is_empty() -> None:
    assert [file for file in FILES if file.endswith("__init__.py") and (SRC / file).read_text("utf-8")] == []
