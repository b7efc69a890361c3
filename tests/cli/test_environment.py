"""The folders that the environment and .env name."""

import os
from pathlib import Path

import pytest

from fovea.cli import environment
from fovea.cli.environment import load_environment


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, another folder to be in, and no folder variables."""
    for name in environment.FOLDERS:
        monkeypatch.setenv(name, "x")  # so that monkeypatch restores it after the test
        monkeypatch.delenv(name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    monkeypatch.setenv("HOME", "/users/me")
    return tmp_path


def test_folders_of_dotenv_are_expanded_and_relative_to_the_project(project: Path) -> None:
    (project / ".env").write_text("\ufeffRUNS_DIR=2024\nDATA_DIR='~/été data'\nexport IMAGENET_DIR=$HOME/in\n", "utf-8")
    load_environment()
    found = [os.environ[name] for name in ("RUNS_DIR", "DATA_DIR", "IMAGENET_DIR")]
    assert found == [str(project / "2024"), "/users/me/été data", "/users/me/in"]


def test_folders_of_the_environment_win_and_are_relative_to_the_current_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text("RUNS_DIR=/from/dotenv\nDATA_DIR=/from/dotenv\n")
    monkeypatch.setenv("RUNS_DIR", "2024_01_05")
    monkeypatch.setenv("DATA_DIR", "")
    load_environment()
    assert os.environ["RUNS_DIR"] == str(project / "elsewhere" / "2024_01_05")
    assert "DATA_DIR" not in os.environ


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("RUNS_DIR=/x\n".encode("utf-16"), ".env is in UTF-16"),
        ("RUNS_DIR=/x\n".encode("utf-16-le"), ".env is in UTF-16"),
        ("A=1\nRUNS_DIR=/été\n".encode("latin-1"), ".env, line 2: a letter is not UTF-8"),
        (b"A=1\n'no = line\nB=2\n", ".env, line 2: NAME=value is expected"),
        (b"RUNS_DIR=$NOT_SET/x\n", "the environment has no variable NOT_SET"),
    ],
)
def test_a_dotenv_that_cannot_be_read_is_reported_in_one_line(project: Path, content: bytes, said: str) -> None:
    (project / ".env").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load_environment()
    assert len(str(caught.value).splitlines()) == 1
