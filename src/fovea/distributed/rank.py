"""Tells rank 0 from the other ranks before torch is imported."""

import os
import time

BEGAN = time.time()  # about the start of this process, as torch is imported later


def is_first() -> bool:
    """Whether this process is rank 0, by the variables of any launcher; needs no process group."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
