"""Settings of the CPU threads of a process, and a warning if other programs keep the cores busy. Imports no torch."""

import os

BUSY = 0.75  # share of the cores; at a higher load average before the training the machine is busy


def sleep_while_waiting() -> None:
    """Make OpenMP's threads sleep instead of spin while they wait. Call this before torch is imported.

    If several processes share the cores, spinning threads slow down the threads that compute. A variable that is
    already set is kept. scripts/benchmark_sharing.py measures the difference.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def busy_warning(threads: int, processes: int, load: float, cores: int) -> str | None:
    """Return a warning if the machine is so busy that fewer threads would probably be faster, else None.

    Args:
        threads: number of threads of each process of this training.
        processes: number of processes of this training on this machine.
        load: the machine's load average of the last minute.
        cores: number of the machine's cores.
    """
    fewer = max(1, round((cores - load) / processes))
    if load < BUSY * cores or fewer >= threads:
        return None
    return (
        f"the machine is busy: load {load:.1f} on {cores} cores, and this run has {processes} x {threads} threads; "
        f"OMP_NUM_THREADS={fewer} in the environment is probably faster"
    )


def load_average() -> float:
    """Return the load average of the last minute; 0 if the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
