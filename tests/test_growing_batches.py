"""Trainings whose batches grow or shrink, against plain loops over the batches of each epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_folder
from lightning import Callback, Trainer
from tasks import make_task, make_trainer
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop
from fovea.data.pixels.normalize import Normalize
from fovea.data.progressive import batch_sizes
from fovea.data.sources.folder import read_folder

CROP = Augment(CenterCrop(4, 4))
EVERY, EPOCHS, SEED = 3, 5, 2
PREPROCESS = Normalize([0.5] * 3, [0.5] * 3)
RAMPS = {  # (batch in the first epoch, data.batch_size, epochs) -> the batch of each epoch
    (4, 8, 2): [4, 4, 8, 8, 8],  # half of the way from 4 to 8 is rounded to the even number of steps, 0
    (2, 7, 3): [2, 4, 6, 7, 7],
    (9, 3, 3): [9, 6, 6, 3, 3],
    (8, 8, 3): [8] * 5,
}


@pytest.mark.parametrize("ramp", RAMPS)
def test_batches_go_evenly_to_the_full_one_in_multiples_of_the_smaller_one(ramp: tuple[int, int, int]) -> None:
    first, full, epochs = ramp
    sizes = batch_sizes({"start": None, "step": 32, "batch_size": first, "epochs": epochs}, full)
    unit = min(first, full)
    for epoch in range(5):
        position = np.interp(epoch, [0, epochs], [first, full])
        rounded = first + unit * np.round((position - first) / unit)
        assert (
            sizes(epoch)
            == RAMPS[ramp][epoch]
            == (full if epoch >= epochs else np.clip(rounded, min(first, full), max(first, full)))
        )


def test_devices_that_divide_the_first_and_the_full_batch_divide_every_batch() -> None:
    for first, full in ((4, 18), (30, 4), (8, 64)):
        sizes = batch_sizes({"batch_size": first, "epochs": 7}, full).of_epochs()
        assert len({*sizes}) > 2
        assert all(size % 2 == 0 for size in sizes)


def test_without_a_first_batch_and_in_runs_of_earlier_versions_every_batch_is_the_full_one() -> None:
    for options in (None, {"start": None, "epochs": None, "step": 32, "batch_size": None}, {"start": 8, "epochs": 3}):
        assert batch_sizes(options, 64).of_epochs() == [64]


class Record(Callback):
    """The images of every batch, the batches that Lightning expects, the workers, and when it validates."""

    def __init__(self) -> None:
        self.indices: list[list[Tensor]] = []
        self.expected: list[float] = []
        self.workers: set[tuple[int, ...]] = set()
        self.validated: list[tuple[int, int]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.indices.append([])
        self.expected.append(trainer.num_training_batches)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.indices[-1].append(batch.indices)
        loader: Any = trainer.train_dataloader
        if loader.loader.workers is not None:
            self.workers.add(tuple(worker.pid for worker in loader.loader.workers._iterator._workers))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.validated.append((trainer.current_epoch, len(self.indices[-1])))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


@pytest.mark.parametrize(("ramp", "workers"), [((2, 7, 3), 2), ((9, 3, 3), 0)])
def test_a_training_equals_a_plain_loop_over_the_batches_of_each_epoch(
    tmp_path: Path, ramp: tuple[int, int, int], workers: int
) -> None:
    """With accumulated batches: the last step of an epoch may have fewer, in each epoch another number."""
    first, full, epochs = ramp
    make_folder(tmp_path, images=10)
    data = ImageDataModule(
        lambda root: read_folder(tmp_path),
        str(tmp_path),
        {"train": CROP, "eval": CROP},
        image_size=4,
        batch_size=full,
        progressive={"start": None, "step": 32, "batch_size": first, "epochs": epochs},
        num_workers=workers,
        seed=SEED,
        val_fraction=0.2,
    )
    task, record = make_task(network=network(), preprocess=PREPROCESS), Record()
    options: dict[str, Any] = {"max_epochs": EPOCHS, "accumulate_grad_batches": EVERY, "val_check_interval": 0.5}
    trainer = make_trainer(record, reload_dataloaders_every_n_epochs=1, **options)
    trainer.fit(task, datamodule=data)

    images, net, steps = ImageDataset(data.splits["train"], CROP), network(), 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for epoch, size in enumerate(RAMPS[ramp]):
        draws = data.train_sampler.draw(SEED, epoch)
        batches = [draws[start : start + size] for start in range(0, len(draws) - size + 1, size)]
        assert record.expected[epoch] == len(batches)
        assert all(torch.equal(*pair) for pair in zip(record.indices[epoch], batches, strict=True))
        half = len(batches) // 2
        assert [n for e, n in record.validated if e == epoch] == [*range(half, len(batches) + 1, half)]
        for start in range(0, len(batches), EVERY):
            optimizer.zero_grad()
            window = [images.__getitems__([(epoch, i, 0) for i in b.tolist()]) for b in batches[start : start + EVERY]]
            losses = [F.cross_entropy(net(PREPROCESS(one.images)), one.targets) for one in window]
            torch.stack(losses).mean().backward()
            optimizer.step()
            steps += 1
    assert trainer.global_step == steps
    torch.testing.assert_close(task.network[1].weight, net[1].weight)
    assert len(record.workers) == (workers > 0)  # the same ones in every epoch
