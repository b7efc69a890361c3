"""Which of a run's processes this one is."""

import os
import time

BEGAN = time.time()  # about when this process started: torch is imported after this file


def is_first() -> bool:
    """Whether it is rank 0, however the ranks were started; known before they have met."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
