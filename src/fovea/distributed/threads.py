"""Settings of the CPU threads of a process, and a warning if other programs keep the cores busy. Imports no torch."""

import os

BUSY = 0.75  # of the machine's cores, by the load average before the training


def sleep_while_waiting() -> None:
    """Make OpenMP's threads sleep instead of spin while they wait. Call this before torch is imported.

    Where several processes share the cores, spinning threads take the time of those that work. A variable that is set
    already is kept. scripts/benchmark_sharing.py measures the difference.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def busy_warning(threads: int, processes: int, load: float, cores: int) -> str | None:
    """The text of a warning if the machine is so busy that fewer threads would probably be faster, else None.

    Args:
        threads: of each process of this training.
        processes: of this training on this machine.
        load: the machine's load average of the last minute.
        cores: the machine's.
    """
    fewer = max(1, round((cores - load) / processes))
    if load < BUSY * cores or fewer >= threads:
        return None
    return (
        f"the machine is busy: load {load:.1f} on {cores} cores, and this run has {processes} x {threads} threads; "
        f"OMP_NUM_THREADS={fewer} in the environment is probably faster"
    )


def load_average() -> float:
    """Of the last minute; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
