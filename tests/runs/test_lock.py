import subprocess
import sys
from pathlib import Path

import pytest

from fovea.runs.lock import lock_folder

SRC = Path(__file__).resolve().parents[2] / "src"
WAIT = """
import os, sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from fovea.runs.lock import lock_folder
with lock_folder(Path(sys.argv[2]), True):
    if not os.fork():  # as a data loader does; the worker prints, so that it has begun when its parent is killed
        print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_locked_until_its_training_ends_even_if_workers_of_it_live_on(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, str(SRC), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ValueError, match=f"process {other.pid} on "), lock_folder(tmp_path, True):
            pytest.fail("not reached")
        with lock_folder(tmp_path, False):
            pass
        other.kill()
        other.wait()
        with lock_folder(tmp_path, True):
            pass
