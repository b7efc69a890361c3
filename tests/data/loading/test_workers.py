import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from fovea.data.loading import workers


class Slow(Dataset[int]):
    """Its second item never comes."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        time.sleep(1000 * index)
        return index


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_does_not_end_the_workers_and_the_end_of_the_program_does(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.3)  # how long torch waits for each
    before = set(multiprocessing.active_children())
    loader = DataLoader(Slow(), batch_size=None, num_workers=1, worker_init_fn=workers.leave_signals)
    made = workers.from_workers(loader)
    assert next(made) == 0
    (process,) = set(multiprocessing.active_children()) - before
    os.kill(process.pid, number)
    time.sleep(0.3)
    assert process.is_alive()
    workers.end_all()
    process.join(5)
    assert not process.is_alive()
