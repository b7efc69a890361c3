"""Who may import whom. The rules are functions of (file, imported names), so that a test can break them."""

import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
FILES = sorted(file.relative_to(SRC).as_posix() for file in SRC.rglob("*.py"))
MOST_FILES = 15  # in a folder
KNOWS_HYDRA = (
    *("train.py", "evaluate.py", "predict.py", "report.py", "compare.py", "export.py"),
    *("fovea/build.py", "fovea/parts/", "fovea/load_run.py", "fovea/cli/", "fovea/config/"),
)
HYDRA = ("hydra", "omegaconf")
TORCH = ("torch", "torchvision", "lightning", "torchmetrics")
TORCH_FREE = (
    *(
        "cli/",
        "config/",
        "files.py",
        "runs/figure_names.py",
        "error_text.py",
        "distributed/rank.py",
        *("distributed/memory.py", "distributed/threads.py"),
    ),
    *("runs/results_file.py", "runs/checkpoint_names.py"),
    *("leaderboard/", "report/page.py", "report/run/history.py", "report/run/texts.py"),
)
EVERYWHERE = ("files.py", "runs/figure_names.py")  # may be imported by all
# What a folder or file of the package may import of the package, besides its own folder and these two; a file's own
# rule replaces its folder's. build.py may import all.
MAY_IMPORT = {
    "cli": (
        "cli/errors",
        "config",
        "error_text.py",
        "leaderboard",
        *("distributed/rank.py", "distributed/memory.py", "distributed/threads.py"),
        *("runs/results_file.py", "runs/checkpoint_names.py"),
    ),
    "cli/errors": ("config", "error_text.py"),
    "config": ("runs/results_file.py",),
    "runs": ("config", "training", "error_text.py", "data/fingerprint.py"),
    "training": ("distributed", "data/index.py", "optim/warmup.py"),
    "distributed": ("error_text.py",),
    "task.py": ("training",),
    "parts": (
        *("error_text.py", "cli", "cli/errors", "config", "runs", "training"),
        *("models", "models/weights", "losses", "objectives", "optim", "callbacks", "loggers", "speed", "data/pixels"),
        "data/progressive.py",
    ),
    "soup": ("task.py", "config", "runs", "models/averaging", "data/fingerprint.py", "data/loading"),
    "results": (
        *("task.py", "config", "training", "runs", "distributed", "loggers", "leaderboard", "models"),
        *("data", "data/loading", "data/pixels", "report", "report/run", "report/pictures", "report/statistics"),
    ),
    "load_run.py": (
        *("build.py", "parts", "task.py", "cli", "config"),
        *("results", "runs", "report", "data/loading", "data/pixels"),
    ),
    **dict.fromkeys(
        (
            *("models/weights", "models/averaging", "callbacks/text"),
            *("losses", "objectives", "metrics", "optim", "loggers", "speed"),
        ),
        (),
    ),
    "models": ("models/weights",),
    "callbacks": (
        "callbacks/text",
        *("models/averaging", "models/freeze.py", "models/weights/head.py", "models/patch_whitening.py"),
        "optim/gradient_clipping.py",
    ),
    "leaderboard": (
        *("config", "runs/results_file.py"),
        *("report/page.py", "report/run/history.py", "report/run/texts.py"),
    ),
    "report": ("report/statistics",),
    "report/statistics": ("report",),
    "report/pictures": ("report", "report/statistics"),
    "report/run": ("report", "report/statistics"),
    **dict.fromkeys(
        (
            "files.py",
            "runs/figure_names.py",
            "error_text.py",
            "distributed/rank.py",
            "runs/results_file.py",
            "runs/checkpoint_names.py",
        ),
        (),
    ),
    **dict.fromkeys(("distributed/memory.py", "distributed/threads.py"), ()),
    "data": ("data/scan",),
    "data/scan": ("data", "data/pixels"),
    "data/pixels": ("data",),
    "data/division": ("data",),
    "data/sources": ("data", "data/division", "data/scan", "data/pixels"),
    "data/store": ("data", "data/pixels"),
    "data/loading": ("data", "data/division", "data/pixels", "data/store"),
    "data/check": ("data", "data/pixels", "data/store", "data/loading"),
}


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
    libraries = {name: name.split(".")[0] for name in names}
    wrong = [name for name, first in libraries.items() if first in HYDRA and not file.startswith(KNOWS_HYDRA)]
    file = file.removeprefix("fovea/")
    ours = {module for name in names if (module := file_of(name))}
    if file.startswith(TORCH_FREE):
        wrong += [name for name, first in libraries.items() if first in TORCH]
        wrong += [module for module in ours if not module.startswith(TORCH_FREE)]
    allowed = allowed_for(file)
    return wrong + [module for module in ours if allowed is not None and not {module, room_of(module)} & allowed]


def allowed_for(file: str) -> set[str] | None:
    """The folders and files that a file of the package may import; None for all."""
    room = room_of(file)
    if file in MAY_IMPORT:
        return {*EVERYWHERE, *MAY_IMPORT[file]}
    return {room, *EVERYWHERE, *MAY_IMPORT[room]} if room in MAY_IMPORT else None


def room_of(file: str) -> str:
    """A file's folder within the package, without folders below those of data/; the file itself where it has none."""
    return "/".join(file.split("/")[:-1][:2]) or file


def file_of(name: str) -> str | None:
    """The package's file that holds what an import names; None for a folder or what is not the package's."""
    parts = name.split(".")
    for n in range(len(parts), 1, -1):
        file = "/".join(parts[:n]) + ".py"
        if parts[0] == "fovea" and file in FILES:
            return file.removeprefix("fovea/")
    return None


def test_no_file_imports_what_its_place_forbids() -> None:
    wrong = {file: broken(file, imported((SRC / file).read_text("utf-8"))) for file in FILES}
    assert {file: names for file, names in wrong.items() if names} == {}


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("fovea/models/x.py", "import hydra"),
        ("fovea/models/x.py", "from fovea.data.index import Index"),
        ("fovea/data/x.py", "def f():\n    from fovea import task"),
        ("fovea/data/pixels/x.py", "from fovea.data.loading import loader"),
        ("fovea/task.py", "from fovea.losses.bce import BinaryCrossEntropy"),
        ("fovea/task.py", "from fovea.objectives.supervised import supervised"),
        ("fovea/objectives/x.py", "from fovea.training.batch_loss import BatchLoss"),
        ("fovea/runs/x.py", "from omegaconf import OmegaConf"),
        ("fovea/training/x.py", "from fovea.data.division import split"),
        ("fovea/cli/x.py", "from fovea.distributed.gather import gather"),
        ("fovea/config/x.py", "import torch.nn"),
        ("fovea/config/x.py", "from fovea.error_text import line"),
        ("fovea/config/x.py", "from fovea import build"),
        ("fovea/config/x.py", "from fovea.runs.run_folder import Results"),
        ("fovea/results/run_tables.py", "from fovea.load_run import LoadedRun"),
        ("fovea/runs/results_file.py", "from fovea.runs.run_folder import Results"),
        ("fovea/runs/checkpoint_names.py", "import torch"),
        ("fovea/files.py", "from fovea.config import secrets"),
    ],
)
def test_a_forbidden_import_is_found(file: str, source: str) -> None:
    assert broken(file, imported(source))


def test_every_room_has_a_rule() -> None:
    rooms = {room_of(file.removeprefix("fovea/")) for file in FILES if file.startswith("fovea/")}
    assert rooms - set(MAY_IMPORT) == {"build.py", "__init__.py"}


def test_no_folder_holds_more_files_than_a_person_can_look_over() -> None:
    counts = Counter(Path(file).parent.as_posix() for file in FILES if not file.endswith("__init__.py"))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_two_files_share_a_name() -> None:
    names = Counter(Path(file).name for file in FILES if not file.endswith("__init__.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_init_is_empty() -> None:
    assert [file for file in FILES if file.endswith("__init__.py") and (SRC / file).read_text("utf-8")] == []
