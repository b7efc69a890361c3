"""scripts/rename.py: a renamed clone passes its tests and trains, even if the old name isn't installed."""

import os
import runpy
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from fovea.config.resolvers import PROJECT

SCRIPT = runpy.run_path(str(PROJECT / "scripts" / "rename.py"))
OLD = SCRIPT["package"](PROJECT)
NEW = "lab7" if OLD != "lab7" else "lab_number_8"
LONGER = "a_project_with_a_long_name_2"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project's files with its own git history."""
    copy = tmp_path / "a clone"
    for file in SCRIPT["files"](PROJECT):
        there = copy / file.relative_to(PROJECT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=copy, check=True)
    return copy


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter with all packages that are installed here except this project."""
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    others = [folder for folder in sys.path if folder.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")  # .pth files within them have no effect
    return tmp_path / "venv" / "bin" / "python"


def run(python: Path | str, clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {"RUNS_DIR": str(clone.parent / "runs"), "DATA_DIR": str(clone.parent / "data"), "PYTHONPATH": ""}
    done = subprocess.run([str(python), *words], cwd=clone, env=os.environ | own, capture_output=True, text=True)
    print(done.stdout[-4000:], done.stderr[-4000:])
    return done


def rename(clone: Path, name: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, clone, "scripts/rename.py", name)


@pytest.mark.parametrize(
    "name",
    [
        *("Lab", "my-lab", "7lab", "lab 7", "été", "", "../lab", "lab.seven"),  # no identifier in lower case
        *("class", "match", "code", "test", "torch", "hydra", "timm", "pytest"),  # of Python, or installed
        *("train", "predict", "helpers", "conf", "tests", "src"),  # of the project
    ],
)
def test_an_invalid_package_name_is_refused(name: str) -> None:
    assert SCRIPT["refusal"](name, PROJECT)


def test_valid_package_names_are_accepted() -> None:
    assert not SCRIPT["refusal"](NEW, PROJECT)
    assert not SCRIPT["refusal"](LONGER, PROJECT)


def test_a_word_after_a_line_break_in_a_string_is_replaced() -> None:
    assert SCRIPT["with_name"](r'"one\neye.two", neye', "eye", "lab7") == r'"one\nlab7.two", neye'


def test_only_whole_words_are_replaced_and_web_addresses_stay() -> None:
    text = "import eye.x; EYE_RANK = Eye; eyes, keye; https://x.org/eye/1 eye"
    assert (
        SCRIPT["with_name"](text, "eye", "lab7")
        == "import lab7.x; LAB7_RANK = Lab7; eyes, keye; https://x.org/eye/1 lab7"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [NEW, LONGER])
def test_a_renamed_clone_mentions_the_old_name_nowhere_and_is_linted_clean(clone: Path, name: str) -> None:
    assert rename(clone, name).returncode == 0
    kept = ("LICENSE", "CITATION.cff", "CHANGELOG.md")
    texts = {file: file.read_bytes().lower() for file in SCRIPT["files"](clone) if file.name not in kept}
    assert [file for file, text in texts.items() if OLD.encode() in text] == []
    assert (clone / "src" / name / "task.py").is_file()
    assert not (clone / "src" / OLD).exists()
    for words in (["check"], ["format", "--check"]):
        assert run(sys.executable, clone, "-m", "ruff", *words, ".").returncode == 0
    again = rename(clone, name)
    assert (again.returncode, again.stdout) == (0, f"the project is already called {name}\n")


def test_uncommitted_changes_are_found(tmp_path: Path) -> None:
    assert SCRIPT["uncommitted"](tmp_path) is None  # there is no git
    for words in (["init", "-q"], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert SCRIPT["uncommitted"](tmp_path) is None
    (tmp_path / "Makefile").write_text("x:\n")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert "uncommitted changes" in SCRIPT["uncommitted"](tmp_path)


@pytest.mark.slow
def test_uncommitted_changes_are_refused(clone: Path) -> None:
    (clone / "Makefile").write_text("x:\n")
    done = rename(clone, NEW)
    assert done.returncode == 1
    assert "uncommitted changes" in done.stderr
    assert (clone / "src" / OLD).is_dir()


@pytest.mark.slow
def test_a_download_without_git_is_renamed_too(clone: Path) -> None:
    shutil.rmtree(clone / ".git")
    assert rename(clone, NEW).returncode == 0
    assert f"src/{NEW}" in (clone / "pyproject.toml").read_text()


@pytest.mark.slow
def test_a_renamed_clone_starts_where_the_old_name_is_not_installed(clone: Path, python: Path) -> None:
    assert rename(clone, NEW).returncode == 0
    assert run(python, clone, "-c", f"import {OLD}").returncode == 1
    assert run(python, clone, "src/train.py", "--help").returncode == 0


@pytest.mark.slow
def test_a_renamed_clone_trains_and_packs(clone: Path, python: Path) -> None:
    assert rename(clone, NEW).returncode == 0
    short = ("data=digits", "trainer.max_epochs=1", "model=se_resnet_small", "data.num_workers=0")
    assert run(python, clone, "src/train.py", *short).returncode == 0
    (results,) = (clone.parent / "runs").rglob("results.json")
    assert '"finished"' in results.read_text()
    (site,) = clone.parent.glob("venv/lib/python*/site-packages")
    (site / "clone.pth").write_text(f"{clone}/src\n")  # as `pip install -e .` does, which scripts/ need
    words = ("data=digits", f"output={clone.parent}/store", "num_workers=0")
    assert run(python, clone, "scripts/pack.py", *words).returncode == 0


@pytest.mark.slow
def test_a_renamed_clone_passes_all_its_tests(clone: Path, python: Path) -> None:
    assert rename(clone, NEW).returncode == 0
    assert run(python, clone, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider").returncode == 0
