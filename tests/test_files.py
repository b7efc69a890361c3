import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fovea.config.resolvers import PROJECT
from fovea.files import read_json, write_safely

PROGRAM = """
import os, sys
from pathlib import Path
from fovea.files import write_safely
setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), 9))
write_safely(Path(sys.argv[1]), "new")
"""


def test_it_is_on_the_disk_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    write_safely(tmp_path / "x.yaml", "é")
    assert done == ["fsync", "replace", "fsync"]
    assert (tmp_path / "x.yaml").read_bytes() == "é".encode()


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_kill_half_way_leaves_the_old_file(at: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("old")
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(file), at], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "old"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"n": "1"}', "{}"])
def test_what_is_not_as_it_was_written_is_named_with_a_remedy(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"n": 1}')
    assert read_json(file, {"n": int, "maybe": str | None}, "mend it") == {"n": 1}
    file.write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is damaged \(.+\): mend it"):
        read_json(file, {"n": int}, "mend it")


def test_a_file_system_that_flushes_no_folders_takes_files_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def no_folders(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", no_folders)
    write_safely(tmp_path / "x.yaml", "new")
    assert (tmp_path / "x.yaml").read_text() == "new"


def test_a_ctrl_c_while_an_error_is_written_down_stays_a_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            write_safely(tmp_path / "x.yaml", "new")
    assert not list(tmp_path.iterdir())
