"""The datamodule: reads a dataset's splits, splits off the missing ones and creates the data loaders."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning import LightningDataModule
from torch import Tensor

from fovea.data.class_names import check_classes
from fovea.data.division.division import Division, divide, training_images_of_folds
from fovea.data.duplicates import drop_duplicates
from fovea.data.fingerprint import record
from fovea.data.index import Index, Splits, concatenate
from fovea.data.loading.batch_samplers import EvalBatchSampler, TrainBatchSampler
from fovea.data.loading.dataset import Batch, ImageDataset
from fovea.data.loading.device_decode import DeviceDecodeLoader
from fovea.data.loading.loader import BatchLoader, TrainLoader
from fovea.data.loading.resident import ResidentImages, ResidentLoader
from fovea.data.loading.samplers import Sampler, Sequential, Shuffled
from fovea.data.pixels.augment import Augment
from fovea.data.progressive import Progression, batch_sizes, image_sizes
from fovea.data.store.store import read_store

log = logging.getLogger(__name__)
MakeSampler = Callable[[Index, Sequence[str]], Sampler]


class ImageDataModule(LightningDataModule):
    """Provides batches of uint8 images for training, validation and test.

    Attributes:
        task: "multiclass" or "multilabel".
        class_names: in the order of the class indices.
        splits: "train", "val" and "test" -> Index. Without a test split and a test_fraction, test is val; for
            evaluation of data without val too, test is all images. Only for evaluation, train and val may be missing.
        corrected: what the corrections changed; None without corrections.
        evaluated: the augmentation of images that are evaluated: augment["eval"], unless test-time augmentation needs a
            larger part of them.
        least_epoch: with folds, the smallest number of images in an epoch of a training on any of them.
        unreadable: the files skipped so far on this rank (on_error="skip").
    """

    def __init__(
        self,
        read: Callable[[Path | None], Splits],
        root: str | None,
        augment: dict[str, Augment],
        image_size: int,
        batch_size: int,
        eval_image_size: int | None = None,
        progressive: Mapping[str, Any] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        on_error: str = "raise",
        background: Sequence[int] = (255, 255, 255),
        val_fraction: float = 0.0,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int | None = None,
        val_as_test: bool = False,
        group_column: str | None = None,
        group_pattern: str | None = None,
        limit_per_class: int | None = None,
        corrections: str | None = None,
        subset: str | None = None,
        class_names: Sequence[str] | None = None,
        sampler: MakeSampler = Shuffled,
        store: str | None = None,
        store_cache: str | None = None,
        decode: Literal["cpu", "cuda"] = "cpu",
        resident: bool = False,
        to_train: bool = True,
    ) -> None:
        """Read the index of the data, without reading images.

        Args:
            read: the source; it is called with `root`.
            augment: the augmentations of "train" and "eval" images.
            image_size, eval_image_size: for the summary; each crop has its own size.
            progressive: growing training images and batches, see `progressive.image_sizes` and `batch_sizes`.
            batch_size: the global batch size, over all devices.
            val_fraction, test_fraction, split_seed, folds, fold, val_as_test: see `Division`.
            group_pattern, limit_per_class, corrections, subset: see `Division`.
            group_column: the column with the images' groups; the source must be a table. A store must have been packed
                with this column; without it, it keeps the groups that it was packed with.
            class_names: those of a trained run; the data's classes get the same indices.
            sampler: (index, class names) -> the sampler of the training images.
            store: a folder or URL written by scripts/pack.py; it is read instead of the source.
            store_cache: the folder that the files of a remote store are copied to.
            decode: "cuda" decodes JPEGs on the training GPU.
            resident: keep all images on the device.
            to_train: whether the data must have training and validation images, and several classes.

        Raises:
            ValueError: the data has classes that `class_names` lacks, or lacks what training needs; two classes have
                the same name; an image is in two splits or has different labels; the corrections or the subset are
                invalid.
        """
        super().__init__()
        data = self._read(with_group_column(read, group_column), root, store, store_cache, group_column, decode)
        if class_names is not None:
            data = with_class_order(data, list(class_names))
        self.task, self.class_names = data.task, data.class_names
        if to_train and self.task == "multiclass" and self.num_classes < 2:
            raise ValueError(
                f"data.root={root} has only one class, {self.class_names[0]!r}: training needs two or more"
            )
        division = Division(
            *(val_fraction, test_fraction, split_seed, folds, fold, val_as_test),
            *(group_pattern, limit_per_class, corrections, subset),
        )
        self.splits, self.corrected, texts, cautions = divide(data, division, root, to_train)
        for text in texts:
            log.info(text)
        for caution in cautions:
            log.warning(caution)
        self.root, self.augment, self.make_sampler = root, augment, sampler
        folds_trained = training_images_of_folds(data, division, root) if to_train else []
        self.least_epoch = min((len(sampler(index, self.class_names)) for index in folds_trained), default=None)
        self.evaluated = augment["eval"]
        self.progressive = progressive
        augment["train"].size_at = self.growing = image_sizes(progressive, image_size)
        self.image_size, self.eval_image_size = image_size, eval_image_size or image_size
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed, self.on_error, self.background = seed, on_error, background
        self.decode, self.resident = decode, resident
        self.resident_images: list[ResidentImages] = []
        self.unreadable: set[str] = set()
        self.train_loader: TrainLoader | None = None  # since the last `setup`
        self.val_loader: Iterable[Batch] | None = None

    @staticmethod
    def _read(
        read: Callable[[Path | None], Splits],
        root: str | None,
        store: str | None,
        store_cache: str | None,
        group_column: str | None,
        decode: str,
    ) -> Splits:
        if store:
            log.info("the images are read from the store %s", store)
            data = read_store(store, store_cache, group_column)
        else:
            data = read(Path(root).expanduser() if root else None)
        if decode == "cuda" and data.train and data.train.store and not data.train.store.encoded:
            raise ValueError(
                f"data.store={store} contains decoded pixels: data.decode=cuda has nothing to decode, remove it"
            )
        check_classes(data)
        return drop_duplicates(data)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def train_sampler(self) -> Sampler:
        return self.make_sampler(self.splits["train"], self.class_names)

    @property
    def batch_sizes(self) -> Progression:
        """The global batch size of each epoch of the training."""
        return batch_sizes(self.progressive, self.batch_size)

    def setup(self, stage: str) -> None:
        """Forget the loaders of another training."""
        self.train_loader = self.val_loader = None

    def train_dataloader(self) -> TrainLoader:
        """Return the same loader in every epoch, so that its workers and their memory are kept.

        Lightning asks for it again in every epoch if the number of batches changes.
        """
        if self.train_loader is None:
            batches = self.train_batches(*self._rank())
            loader = self._loader(self.splits["train"], self.augment["train"], batches, persistent=True)
            self.train_loader = TrainLoader(loader, batches, self._position)
        return self.train_loader

    def training_images(self) -> Iterator[Tensor]:
        """Yield this rank's images (B, 3, S, S) of an epoch of the training, augmented, in batches; uint8.

        It is the first epoch or, if the images grow, the first one with the full size.
        """
        batches = self.train_batches(*self._rank())
        batches.start_at(self.growing.epochs if self.growing else 0, 0)
        for batch in self._loader(self.splits["train"], self.augment["train"], batches, persistent=False):
            yield batch.images

    def train_batches(self, rank: int, world_size: int) -> TrainBatchSampler:
        """Return the batch sampler; raise ValueError if the batch size does not fit the data or the device count."""
        sampler = Sequential(self.splits["train"]) if self._overfits() else self.train_sampler
        return TrainBatchSampler(sampler, self.batch_sizes, self.seed, rank, world_size)

    def val_dataloader(self) -> Iterable[Batch]:
        """Return the same loader in every epoch of a training."""
        if self.val_loader is None:
            self.val_loader = self.eval_dataloader("train" if self._overfits() else "val")
        return self.val_loader

    def test_dataloader(self) -> Iterable[Batch]:
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> Iterable[Batch]:
        """Return a loader that yields each image of the split once over all ranks."""
        return self.loader_of(self.splits[split])

    def loader_of(self, index: Index) -> Iterable[Batch]:
        """Return a loader that yields each image of the index once over all ranks, without random augmentation."""
        batches = EvalBatchSampler(len(index), self.batch_size, *self._rank())
        return self._loader(index, self.evaluated, batches, persistent=False)

    def _rank(self) -> tuple[int, int]:
        """Return this rank and the number of ranks."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self, index: Index, augment: Augment, batches: TrainBatchSampler | EvalBatchSampler, persistent: bool
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
        """Make the "train", "val", "test" or "all" images of the data the test split.

        Returns:
            The split that is tested: "val" or "all" instead of "test" if the data has no test split of its own.

        Raises:
            ValueError: the data has no such split, or no image in it.
        """
        parts = {id(index): index for index in self.splits.values()}.values()  # test may be the same index as val
        tested = self._test_source() if split == "test" else split
        if split not in (*self.splits, "all"):
            own = self.splits.items() if self._test_source() == "test" else list(self.splits.items())[:-1]
            counts = ", ".join(f"{len(index)} {name}" for name, index in own)
            raise ValueError(f"split={split}: the data has no such split (it has {counts}); split=all tests all images")
        self.splits["test"] = concatenate(list(parts)) if split == "all" else self.splits[split]
        if not len(self.splits["test"]):
            raise ValueError(f"split={split}: the {tested} split of the data is empty")
        return tested

    def _test_source(self) -> str:
        """Return which images are the test split: "val", "all" (the data has no splits), or "test" itself."""
        test = self.splits["test"]
        return "val" if test is self.splits.get("val") else "all" if test is self.splits.get("train") else "test"

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Warn once about each file that was skipped."""
        if len(batch.unreadable):
            assert self.trainer is not None
            in_train = self.trainer.training or (self.trainer.validating and self._overfits())
            stage = "train" if in_train else "test" if self.trainer.testing else "val"
            files = {self.splits[stage].paths[i] for i in batch.unreadable.tolist()}
            for file in sorted(files - self.unreadable):
                log.warning("skipped, because it cannot be read: %s", file)
            self.unreadable |= files
        return batch

    def fingerprint(self) -> dict[str, Any]:
        """Return the digests of the data, see `fingerprint.record`."""
        return record(self.class_names, self.splits, self.root) | {"corrections": self.corrected}

    def _position(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def _overfits(self) -> bool:
        """Return whether Lightning trains and validates on the same few batches (trainer.overfit_batches)."""
        return bool(getattr(self.trainer, "overfit_batches", 0))


def with_group_column(read: Callable[[Path | None], Splits], column: str | None) -> Callable[[Path | None], Splits]:
    """Return the source so that it reads the images' groups; raise ValueError if it can't."""
    if column is None:
        return read
    if "group_column" not in signature(read).parameters:
        raise ValueError(
            f"data.group_column={column}: only tables have columns (data=csv, data=multilabel_csv); "
            "data.group_pattern=<regular expression> takes the groups from the paths"
        )
    bound: Callable[[Path | None], Splits] = partial(cast(Any, read), group_column=column)
    return bound


def with_class_order(data: Splits, class_names: list[str]) -> Splits:
    """Return the data with the class indices of `class_names`; labels of classes that the data lacks are unknown."""
    unknown = [name for name in data.class_names if name not in set(class_names)]
    if unknown:
        raise ValueError(
            f"the data has {len(unknown)} classes that the run was not trained on: {', '.join(unknown[:3])}\n"
            f"The run's classes: {', '.join(class_names[:10])}\n"
            "A new run can start from its weights: weights=<run folder>/checkpoints/last.ckpt"
        )
    new_index = torch.tensor([class_names.index(name) for name in data.class_names])

    def reindex(index: Index | None) -> Index | None:
        if index is None:
            return None
        if data.task == "multiclass":
            return index.with_targets(new_index[index.targets.long()])
        targets = torch.full((len(index), len(class_names)), -1, dtype=torch.int8)
        targets[:, new_index] = index.targets
        return index.with_targets(targets)

    train, val = reindex(data.train), reindex(data.val)
    test = val if data.test is data.val else reindex(data.test)  # in a store without test images, test is val
    return Splits(data.task, tuple(class_names), train, val, test)
