import errno
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fovea.config.resolvers import PROJECT
from fovea.files import LockedError, atomic_write, locked, read_json, sha256, short_digest, write_safely

PROGRAM = """
import os, sys
from pathlib import Path
from fovea.files import write_safely
setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), 9))
write_safely(Path(sys.argv[1]), "new")
"""


def test_a_file_is_flushed_before_and_its_folder_after_the_rename(
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
def test_a_damaged_json_file_is_named_with_a_remedy(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"n": 1}')
    assert read_json(file, {"n": int, "maybe": str | None}, "mend it") == {"n": 1}
    file.write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is damaged \(.+\): mend it"):
        read_json(file, {"n": int}, "mend it")


def test_a_file_system_that_cannot_flush_folders_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def no_folders(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", no_folders)
    write_safely(tmp_path / "x.yaml", "new")
    assert (tmp_path / "x.yaml").read_text() == "new"


def test_a_ctrl_c_during_a_failed_write_stays_a_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            write_safely(tmp_path / "x.yaml", "new")
    assert not list(tmp_path.iterdir())


def test_several_writers_at_once_leave_one_of_their_contents_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    with atomic_write(file) as first, atomic_write(file) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert file.read_bytes() == b"first"  # it is renamed last
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), atomic_write(tmp_path / "x.bin"):
        (tmp_path / "missing").read_bytes()


def test_a_lock_is_refused_to_others_and_names_its_owner(tmp_path: Path) -> None:
    for _ in range(2):  # it is free again after its end
        with locked(tmp_path / "lock"), pytest.raises(LockedError) as error, locked(tmp_path / "lock"):
            pytest.fail("not reached")
        assert str(error.value) == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "lock"):
        pass
    assert "no locks (No locks available)" in caplog.text


def test_digests_are_those_of_the_concatenated_parts() -> None:
    assert sha256([b"ab", b"", b"c"]) == hashlib.sha256(b"abc").digest()
    assert short_digest(iter([b"a", b"bc"])) == "ba7816bf8f01cfea"  # FIPS 180-4's example begins so
