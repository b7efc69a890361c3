"""A process that can't heed a signal, for it waits outside of Python, is ended nevertheless."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
DEAF = """
import ctypes, sys, threading
sys.path.insert(0, sys.argv[1])
from fovea.training import stop_signals
stop_signals.PATIENCE, stop_signals.SOON = float(sys.argv[2]), 0.5
mutex = ctypes.create_string_buffer(64)
lock = ctypes.CDLL(None).pthread_mutex_lock
with stop_signals.ended_if_deaf(lambda: print("at last", flush=True)), stop_signals.StopSignals():
    threading.Timer(1, print, ("waits",), {"flush": True}).start()
    lock(mutex), lock(mutex)  # no signal interrupts it
"""


@pytest.mark.parametrize(("patience", "signals"), [("0.5", 1), ("300", 2)])
def test_a_process_that_waits_outside_of_python_is_ended_at_a_signal_or_soon_after_the_second(
    patience: str, signals: int
) -> None:
    command = [sys.executable, "-c", DEAF, str(SRC), patience]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == "waits\n"
        for _ in range(signals):
            deaf.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        try:
            assert deaf.wait(timeout=20) == 128 + signal.SIGTERM
        finally:
            deaf.kill()
        assert deaf.stdout.read() == "at last\n"
