"""The datamodule: reads a dataset's splits, carves out those it lacks, and makes their loaders."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose

from fovea.data.dataset import Batch, ImageDataset
from fovea.data.index import Index, Splits
from fovea.data.loader import TrainLoader, batch_loader
from fovea.data.sampler import EvalBatches, TrainBatches
from fovea.data.split import split_off

log = logging.getLogger(__name__)
Transforms = Sequence[Callable[[Tensor], Tensor]]


class ImageDataModule(LightningDataModule):
    """Batches of uint8 images for training, validation and test.

    Attributes:
        task: "multiclass" or "multilabel".
        class_names: in the order of the classes' indices.
        splits: "train", "val" and "test" -> Index. Without a test split of its own, and with no test_fraction, a
            dataset is tested on its validation images.
        unreadable: the files left out so far on this rank (on_error="skip").
    """

    def __init__(
        self,
        read: Callable[[Path | None], Splits],
        root: str | None,
        augment: dict[str, Transforms],
        image_size: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        on_error: str = "raise",
        background: Sequence[int] = (255, 255, 255),
        val_fraction: float = 0.0,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Reads the index of the data (no image yet).

        Args:
            read: the source; it is given `root`.
            augment: "train" and "eval" transforms, uint8 (3, H, W) -> uint8 (3, image_size, image_size).
            batch_size: the global batch, over all devices.
            val_fraction, test_fraction: of all training images, carved out where the source has no such split.
            class_names: a trained run's; the data's classes take their places in it.

        Raises:
            ValueError: the data has classes that `class_names` lacks, or a split is empty.
        """
        super().__init__()
        data = read(Path(root).expanduser() if root else None)
        if class_names is not None:
            data = in_order(data, list(class_names))
        self.task, self.class_names = data.task, data.class_names
        self.splits = carve(data, val_fraction, test_fraction, split_seed)
        self.transforms = {split: Compose([nn.Identity(), *steps]) for split, steps in augment.items()}
        self.image_size, self.batch_size, self.num_workers = image_size, batch_size, num_workers
        self.seed, self.on_error, self.background = seed, on_error, background
        self.unreadable: set[str] = set()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def batches_per_epoch(self) -> int:
        return len(self.splits["train"]) // self.batch_size

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        batches = self.train_batches(self.trainer.global_rank, self.trainer.world_size)
        dataset = self.dataset("train", self.transforms["train"])
        loader = batch_loader(dataset, batches, self.num_workers, self._pin(), persistent=True)
        return TrainLoader(loader, batches, self._place)

    def train_batches(self, rank: int, world_size: int) -> TrainBatches:
        """Raises ValueError where the batch doesn't suit the data or the number of devices."""
        shuffle = not self._overfits()
        return TrainBatches(len(self.splits["train"]), self.batch_size, self.seed, rank, world_size, shuffle)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.eval_dataloader("train" if self._overfits() else "val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Each image of the split once over all ranks."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EvalBatches(len(self.splits[split]), self.batch_size, rank, world_size)
        dataset = self.dataset(split, self.transforms["eval"])
        return batch_loader(dataset, batches, self.num_workers, self._pin(), persistent=False)

    def test_on(self, split: str) -> None:
        """Let "train", "val", "test", or "all" images of the data be what is tested."""
        if split != "all":
            self.splits["test"] = self.splits[split]
            return
        parts = {id(index): index for index in self.splits.values()}.values()  # val may stand in for test
        paths = [path for index in parts for path in index.paths]
        self.splits["test"] = Index(paths, torch.cat([index.targets for index in parts]))

    def dataset(self, split: str, transform: Callable[[Tensor], Tensor]) -> ImageDataset:
        return ImageDataset(self.splits[split], transform, self.image_size, self.seed, self.on_error, self.background)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Say once of each file that it was left out."""
        if len(batch.unreadable):
            assert self.trainer is not None
            in_train = self.trainer.training or (self.trainer.validating and self._overfits())
            stage = "train" if in_train else "test" if self.trainer.testing else "val"
            files = {self.splits[stage].paths[i] for i in batch.unreadable.tolist()}
            for file in sorted(files - self.unreadable):
                log.warning("left out, for it can't be read: %s", file)
            self.unreadable |= files
        return batch

    def fingerprint(self) -> str:
        """A digest of which images each split holds and of what is known of them; not of their pixels."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for split, index in sorted(self.splits.items()):
            digest.update(f"\n{split} {len(index)}\n".encode())
            digest.update("\n".join(index.paths).encode())
            digest.update(index.targets.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _place(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def _overfits(self) -> bool:
        """Whether Lightning is to repeat a few batches (trainer.overfit_batches), and to validate on them."""
        return bool(getattr(self.trainer, "overfit_batches", 0))

    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def carve(data: Splits, val_fraction: float, test_fraction: float, seed: int) -> dict[str, Index]:
    """The three splits, those that the data lacks taken from train, stratified; fractions are of all of train."""
    train, val, test = data.train, data.val, data.test
    whole = len(train)
    if test is None and test_fraction:
        train, test = split_off(train, test_fraction, seed)
    if val is None:
        if not val_fraction:
            raise ValueError(
                "the data has no validation split: type data.val_fraction=0.1, say, to carve one out of train"
            )
        train, val = split_off(train, val_fraction * whole / len(train), seed + 1)
    if test is None:
        log.info("the data has no test split: the test figures are those of the %d validation images", len(val))
        test = val
    splits = {"train": train, "val": val, "test": test}
    for name, index in splits.items():
        if not len(index):
            raise ValueError(f"the {name} split of the data is empty ({whole} images in train): give it images")
    return splits


def in_order(data: Splits, class_names: list[str]) -> Splits:
    """The same data with its classes at the places that `class_names` gives them; classes it lacks become unknown."""
    strange = [name for name in data.class_names if name not in set(class_names)]
    if strange:
        raise ValueError(
            f"the data has {len(strange)} classes that the run was not trained on: {', '.join(strange[:3])}\n"
            f"The run's: {', '.join(class_names[:10])}"
        )
    places = torch.tensor([class_names.index(name) for name in data.class_names])

    def move(index: Index | None) -> Index | None:
        if index is None:
            return None
        if data.task == "multiclass":
            return replace(index, targets=places[index.targets])
        targets = torch.full((len(index), len(class_names)), -1.0)
        targets[:, places] = index.targets
        return replace(index, targets=targets)

    train = move(data.train)
    assert train is not None
    return Splits(data.task, tuple(class_names), train, move(data.val), move(data.test))
