"""Two processes of one training, forked from the test: Lightning takes them for ranks that were started for it."""

import datetime
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed, multiprocessing

RANKS = 2
SOON = datetime.timedelta(seconds=60)


def on_two_ranks(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What `work(rank)` returns on each; plain data and tensors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(begin, (work, str(folder), port), nprocs=RANKS, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def begin(rank: int, work: Callable[[int], Any], folder: str, port: int) -> None:
    torch.set_num_threads(1)  # the pool of threads does not survive the fork
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    torch.save(work(rank), Path(folder) / f"{rank}.pt")
    if distributed.is_initialized():
        distributed.destroy_process_group()


def two_devices() -> dict[str, Any]:
    """The Trainer's arguments."""
    return {"strategy": DDPStrategy(process_group_backend="gloo", timeout=SOON), "devices": RANKS}
