import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from fovea.data.loading import workers


class Slow(Dataset[int]):
    """A dataset whose second item takes forever."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        time.sleep(1000 * index)
        return index


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_ignore_signals_and_are_stopped_at_exit(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.3)  # how long torch waits for each
    before = set(multiprocessing.active_children())
    loader = DataLoader(Slow(), batch_size=None, num_workers=1, worker_init_fn=workers.ignore_signals)
    batches = workers.iterate_workers(loader)
    assert next(batches) == 0
    (process,) = set(multiprocessing.active_children()) - before
    os.kill(process.pid, number)
    time.sleep(0.3)
    assert process.is_alive()
    workers.stop_all_workers()
    process.join(5)
    assert not process.is_alive()
