"""What the Makefile installs, and with what: a .venv of shell scripts writes down how they are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fovea.config.resolvers import PROJECT

PYTHON = r"""#!/bin/sh
if [ "$4" = list ]; then
cat << "END"
:env:.index-url='https://own.example/x=1'
global.extra-index-url='file:///a\nfile:///b'
END
else echo "python $*" >> calls; fi
"""
UV = """#!/bin/sh
echo "uv $* [$UV_DEFAULT_INDEX] [$UV_INDEX] [$UV_FIND_LINKS] [$UV_CONSTRAINT]" >> calls
exit $UV_FAILS
"""
FROM = "[https://own.example/x=1] [file:///a file:///b] [] [constraints.txt]"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, text in {"python": PYTHON, "pip": PYTHON, "uv": UV}.items():
        file = tmp_path / ".venv" / "bin" / name
        file.write_text(text)
        file.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def calls(clone: Path, *words: str, **environment: str) -> list[str]:
    """What `make <words>` calls."""
    (clone / "calls").write_text("")
    names = [name for name in os.environ if not name.startswith(("UV_", "PIP_", "MAKE", "MFLAGS"))]
    own = {name: os.environ[name] for name in names} | {"UV_FAILS": "0"} | environment
    subprocess.run(["make", *words], cwd=clone, env=own, check=True)
    return (clone / "calls").read_text().splitlines()


def test_training_installs_what_it_needs_and_tests_install_the_rest_each_once(clone: Path) -> None:
    get_uv, own_python = "python -m pip install -q uv", "uv pip install -q --python .venv/bin/python -e"
    train = "python src/train.py debug=fast"
    assert calls(clone, "train", "ARGS=debug=fast") == [get_uv, f"{own_python} . {FROM}", train]
    assert calls(clone, "train", "ARGS=debug=fast") == [train]
    test = "python -m pytest -n 2 --dist worksteal -x"
    assert calls(clone, "test", "ARGS=-x") == [get_uv, f"{own_python} .[dev] {FROM}", test]
    assert calls(clone, "test", "ARGS=-x") == [test]
    (clone / "constraints.txt").touch()
    assert len(calls(clone, "train")) == 3


def test_pip_installs_if_uv_fails(clone: Path) -> None:
    assert calls(clone, "setup", UV_FAILS="2")[-1] == "python -m pip install -q -e .[dev]"


def test_without_a_python_that_is_new_enough_one_line_says_what_is_needed(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    done = subprocess.run(["make", "train", "PYTHON="], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 2
    assert "needs Python 3.11 or newer with venv and pip" in done.stdout + done.stderr
