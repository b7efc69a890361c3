"""The datamodule: reads a dataset's splits, carves out those it lacks, and makes their loaders."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule

from fovea.data.class_names import check_classes
from fovea.data.duplicates import without_repeats
from fovea.data.fingerprint import record
from fovea.data.index import Index, Splits, concatenate
from fovea.data.loading.batch_samplers import EvalBatches, TrainBatches
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.device_decode import DeviceDecodeLoader
from fovea.data.loading.loader import BatchLoader, TrainLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import InOrder, Order, Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.split import split_off
from fovea.data.store.store import read_store

log = logging.getLogger(__name__)
Sampler = Callable[[Index, Sequence[str]], Order]


class ImageDataModule(LightningDataModule):
    """Batches of uint8 images for training, validation and test.

    Attributes:
        task: "multiclass" or "multilabel".
        class_names: in the order of the classes' indices.
        splits: "train", "val" and "test" -> Index. Data with neither a test split nor a test_fraction is tested on its
            validation images, or, when it is evaluated and has none of those either, on all images. Data that is
            evaluated may lack train and val.
        unreadable: the files left out so far on this rank (on_error="skip").
    """

    def __init__(
        self,
        read: Callable[[Path | None], Splits],
        root: str | None,
        augment: dict[str, Augment],
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
        sampler: Sampler = Shuffled,
        store: str | None = None,
        store_cache: str | None = None,
        decode: Literal["cpu", "cuda"] = "cpu",
        resident: bool = False,
        to_train: bool = True,
    ) -> None:
        """Reads the index of the data (no image yet).

        Args:
            read: the source; it is given `root`.
            augment: what is done to "train" and "eval" images.
            image_size: for the summary; the crops have their own.
            batch_size: the global batch, over all devices.
            val_fraction, test_fraction: of all training images, carved out where the source has no such split.
            class_names: a trained run's; the data's classes take their places in it.
            sampler: (index, class names) -> the order of the training images.
            store: where scripts/pack.py put the data; it is read instead of the source.
            store_cache: the folder that the files of a store elsewhere are copied to.
            decode: "cuda" decodes JPEGs on the GPU that trains.
            resident: keep all images on the device.
            to_train: whether the data must have training and validation images, and several classes.

        Raises:
            ValueError: the data has classes that `class_names` lacks, or lacks what training needs; two classes have
                one name; an image is in two splits, or listed with different labels.
        """
        super().__init__()
        if store:
            log.info("the images are those of the store %s", store)
        data = read_store(store, store_cache) if store else read(Path(root).expanduser() if root else None)
        if decode == "cuda" and data.train and data.train.store and not data.train.store.encoded:
            raise ValueError(f"data.store={store} holds pixels: there is nothing for data.decode=cuda to decode")
        check_classes(data)
        data = without_repeats(data)
        if class_names is not None:
            data = in_order(data, list(class_names))
        self.task, self.class_names = data.task, data.class_names
        if to_train and self.task == "multiclass" and self.num_classes < 2:
            raise ValueError(f"data.root={root}: one class only, {self.class_names[0]!r}: nothing to tell apart")
        self.splits = carve(data, val_fraction, test_fraction, split_seed, to_train)
        self.root, self.augment, self.sampler = root, augment, sampler
        self.image_size, self.batch_size, self.num_workers = image_size, batch_size, num_workers
        self.seed, self.on_error, self.background = seed, on_error, background
        self.decode, self.resident = decode, resident
        self.resident_images: list[ResidentImages] = []
        self.unreadable: set[str] = set()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def order(self) -> Order:
        """What an epoch of training consists of."""
        return self.sampler(self.splits["train"], self.class_names)

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        batches = self.train_batches(self.trainer.global_rank, self.trainer.world_size)
        loader = self._loader(self.splits["train"], self.augment["train"], batches, persistent=True)
        return TrainLoader(loader, batches, self._place)

    def train_batches(self, rank: int, world_size: int) -> TrainBatches:
        """Raises ValueError where the batch doesn't suit the data or the number of devices."""
        order = InOrder(self.splits["train"]) if self._overfits() else self.order
        return TrainBatches(order, self.batch_size, self.seed, rank, world_size)

    def val_dataloader(self) -> Iterable[Batch]:
        return self.eval_dataloader("train" if self._overfits() else "val")

    def test_dataloader(self) -> Iterable[Batch]:
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> Iterable[Batch]:
        """Each image of the split once over all ranks."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EvalBatches(len(self.splits[split]), self.batch_size, rank, world_size)
        return self._loader(self.splits[split], self.augment["eval"], batches, persistent=False)

    def _loader(
        self, index: Index, augment: Augment, batches: TrainBatches | EvalBatches, persistent: bool
    ) -> Iterable[Batch]:
        dataset = ImageDataset(index, augment, self.seed, self.on_error, self.background)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self.resident:
            kept = next((images for images in self.resident_images if images.index is index), None)
            if kept is None:
                kept = ResidentImages(dataset, device, self.num_workers)
                self.resident_images.append(kept)
            return ResidentLoader(kept, dataset, batches)
        if self.decode == "cuda":
            return DeviceDecodeLoader(dataset, batches, self.num_workers, device, persistent)
        return BatchLoader(dataset, batches, self.num_workers, device.type == "cuda", persistent)

    def test_on(self, split: str) -> str:
        """Let "train", "val", "test", or "all" images of the data be what is tested.

        Returns:
            Which these are: "val" or "all" where those stand in for a test split that the data lacks.

        Raises:
            ValueError: the data has no such split, or no image in it.
        """
        parts = {id(index): index for index in self.splits.values()}.values()  # val may stand in for test
        tested = self._stands_in() if split == "test" else split
        if split not in (*self.splits, "all"):
            own = self.splits.items() if self._stands_in() == "test" else list(self.splits.items())[:-1]
            there = ", ".join(f"{len(index)} {name}" for name, index in own)
            raise ValueError(f"split={split}: the data has no such split (it has {there}); split=all tests all images")
        self.splits["test"] = concatenate(list(parts)) if split == "all" else self.splits[split]
        if not len(self.splits["test"]):
            raise ValueError(f"split={split}: the {tested} split of the data is empty")
        return tested

    def _stands_in(self) -> str:
        """What is called "test": "val", "all" (of data that are not divided) or really "test"."""
        test = self.splits["test"]
        return "val" if test is self.splits.get("val") else "all" if test is self.splits.get("train") else "test"

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

    def fingerprint(self) -> dict[str, Any]:
        """Which images each split holds, what is known of them, and their files: see fingerprint.py."""
        return record(self.class_names, self.splits, self.root)

    def _place(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def _overfits(self) -> bool:
        """Whether Lightning is to repeat a few batches (trainer.overfit_batches), and to validate on them."""
        return bool(getattr(self.trainer, "overfit_batches", 0))


def carve(
    data: Splits, val_fraction: float, test_fraction: float, seed: int, to_train: bool = True
) -> dict[str, Index]:
    """The splits; where the data lacks val or test and a fraction is given, it is taken from train, stratified.

    Fractions are of all of train. What stands in for test is val, or train where there is nothing else.
    """
    train, val, test = data.train, data.val, data.test
    whole = len(train) if train else 0
    if train and test is None and test_fraction:
        train, test = split_off(train, test_fraction, seed)
    if train and val is None and val_fraction:
        train, val = split_off(train, val_fraction * whole / len(train), seed + 1)
    splits = {name: i for name, i in (("train", train), ("val", val), ("test", test)) if i is not None}
    if to_train:
        _check_trains(splits, whole)
    if to_train and test is None and val is not None:
        log.info("the data has no test split: the test figures are those of the %d validation images", len(val))
    return splits | {"test": next(i for i in (test, val, train) if i is not None)}


def _check_trains(splits: dict[str, Index], whole: int) -> None:
    if "train" not in splits:
        raise ValueError(f"the data has no training images, only {', '.join(splits)}: there is nothing to train on")
    if "val" not in splits:
        raise ValueError("the data has no validation split: type data.val_fraction=0.1, say, to carve one out of train")
    for name, index in splits.items():
        if not len(index):
            raise ValueError(f"the {name} split of the data is empty ({whole} images in train): give it images")


def in_order(data: Splits, class_names: list[str]) -> Splits:
    """The same data with its classes at the places that `class_names` gives them; classes it lacks become unknown."""
    strange = [name for name in data.class_names if name not in set(class_names)]
    if strange:
        raise ValueError(
            f"the data has {len(strange)} classes that the run was not trained on: {', '.join(strange[:3])}\n"
            f"The run's: {', '.join(class_names[:10])}\n"
            "A new run can start from its weights: weights=<run folder>/checkpoints/last.ckpt"
        )
    places = torch.tensor([class_names.index(name) for name in data.class_names])

    def move(index: Index | None) -> Index | None:
        if index is None:
            return None
        if data.task == "multiclass":
            return index.with_targets(places[index.targets.long()])
        targets = torch.full((len(index), len(class_names)), -1, dtype=torch.int8)
        targets[:, places] = index.targets
        return index.with_targets(targets)

    train, val = move(data.train), move(data.val)
    test = val if data.test is data.val else move(data.test)  # a store says so where it has no test images of its own
    return Splits(data.task, tuple(class_names), train, val, test)
