import os
import subprocess
import sys

import pytest

from fovea.config.resolvers import PROJECT
from fovea.distributed.threads import busy_warning, load_average, sleep_while_waiting


def test_threads_sleep_while_they_wait_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_program_sets_it_before_torch_is_imported() -> None:
    code = "import sys, os; from fovea.cli import entry; print('torch' in sys.modules); entry._prepare_process()"
    code += "; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["PYTHONPATH"] = str(PROJECT / "src")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "PASSIVE"]


@pytest.mark.parametrize(
    ("threads", "processes", "load", "cores", "proposed"),
    [
        (2, 1, 0.4, 2, None),  # quiet
        (1, 2, 9.0, 2, None),  # as few as can be
        (2, 1, 2.1, 2, 1),
        (16, 1, 12.5, 16, 4),
        (8, 2, 13.0, 16, 2),
        (2, 1, 50.0, 64, None),  # there are cores enough
    ],
)
def test_on_a_busy_machine_fewer_threads_are_proposed(
    threads: int, processes: int, load: float, cores: int, proposed: int | None
) -> None:
    text = busy_warning(threads, processes, load, cores)
    assert text is None if proposed is None else f"OMP_NUM_THREADS={proposed} in" in str(text)


def test_the_load_is_a_number() -> None:
    assert load_average() >= 0
