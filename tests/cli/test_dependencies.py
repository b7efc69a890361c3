"""The messages if a dependency is not installed or Python is too old."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from fovea.cli import dependencies

PROJECT = Path(__file__).resolve().parents[2]
ENTRIES = ("src/train.py", "src/evaluate.py", "src/predict.py", "scripts/pack.py")


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_the_dependencies_a_program_says_how_to_install_them(entry: str, tmp_path: Path) -> None:
    path = {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(
        [sys.executable, "-S", str(PROJECT / entry), "--help"], cwd=tmp_path, env=path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "torch, torchvision, lightning and 18 more are not installed" in done.stderr
    assert f"pip install -e {PROJECT}" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_single_missing_dependency_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dependencies, "find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(SystemExit):
        dependencies.exit_if_missing()
    assert f"error: torch is not installed for {sys.executable}" in capsys.readouterr().err


def test_a_python_that_is_too_old_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dependencies, "PYTHON", (99, 1))
    with pytest.raises(SystemExit):
        dependencies.exit_if_missing()
    assert "error: Python 99.1 or newer is needed" in capsys.readouterr().err
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    monkeypatch.undo()
    assert project["requires-python"] == f">={'.'.join(map(str, dependencies.PYTHON))}"
    for file in (*ENTRIES, "src/fovea/cli/entry.py", "src/fovea/cli/dependencies.py"):  # parsed before the check
        ast.parse((PROJECT / file).read_text("utf-8"), feature_version=(3, 9))


def test_the_list_of_dependencies_equals_pyprojects() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = {line.partition(">")[0].lower() for line in project["dependencies"]} - {"torchcodec"}
    providers = packages_distributions()
    asked = [{name.lower() for name in providers[module]} & declared for module in dependencies.NEEDED]
    assert set.union(*asked) == declared
    assert all(asked)
