"""A signal ends a process even if its main thread is blocked outside of Python."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
BLOCKED = """
import ctypes, sys, threading
sys.path.insert(0, sys.argv[1])
from fovea.training import stop_signals
stop_signals.PATIENCE, stop_signals.SHORT_PATIENCE = float(sys.argv[2]), 0.5
mutex = ctypes.create_string_buffer(64)
lock = ctypes.CDLL(None).pthread_mutex_lock
with stop_signals.exit_if_blocked(lambda: print("exits", flush=True)), stop_signals.StopSignals():
    threading.Timer(0.3, print, ("waits",), {"flush": True}).start()
    lock(mutex), lock(mutex)  # no signal interrupts it
"""


@pytest.mark.parametrize(("patience", "signals"), [("0.5", 1), ("300", 2)])
def test_a_blocked_process_is_ended_after_a_signal_and_sooner_after_a_second_one(patience: str, signals: int) -> None:
    command = [sys.executable, "-c", BLOCKED, str(SRC), patience]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as blocked:
        assert blocked.stdout is not None
        assert blocked.stdout.readline() == "waits\n"
        for _ in range(signals):
            blocked.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        try:
            assert blocked.wait(timeout=20) == 128 + signal.SIGTERM
        finally:
            blocked.kill()
        assert blocked.stdout.read() == "exits\n"
