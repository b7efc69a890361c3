from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import make_folder
from torchvision.transforms.v2 import RandomHorizontalFlip

from fovea.data.division.division import Division, divide
from fovea.data.index import Index, Splits
from fovea.data.loading.datamodule import ImageDataModule, with_class_order
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop
from fovea.data.sources.folder import read_folder

AUGMENT = Augment(CenterCrop(8, 8))


def index(n: int, classes: int = 2, start: int = 0) -> Index:
    return Index([f"{start + i}.png" for i in range(n)], torch.arange(n) % classes)


def carve(data: Splits, **options: float) -> dict[str, Index]:
    return divide(data, Division(**options)).splits  # type: ignore[arg-type]


def test_missing_splits_are_split_off_train_as_fractions_of_all_images() -> None:
    splits = carve(Splits("multiclass", ("a", "b"), index(100)), val_fraction=0.1, test_fraction=0.2)
    assert {name: len(part) for name, part in splits.items()} == {"train": 70, "val": 10, "test": 20}
    everything = [path for part in splits.values() for path in part.paths]
    assert sorted(everything) == sorted(index(100).paths)
    for part in splits.values():
        assert (part.targets == 0).sum() * 2 == len(part)


def test_existing_splits_are_not_changed() -> None:
    val = index(10, start=100)
    splits = carve(Splits("multiclass", ("a", "b"), index(100), val), val_fraction=0.1)
    assert splits["val"] is val
    assert len(splits["train"]) == 100


def test_without_test_images_validation_is_the_test_and_a_text_for_the_log_says_so() -> None:
    divided = divide(Splits("multiclass", ("a", "b"), index(100)), Division(val_fraction=0.1))
    assert divided.splits["test"] is divided.splits["val"]
    assert divided.texts == ["the data has no test split: the 10 validation images are used for the test too"]


def test_no_validation_images_and_no_fraction_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="data.val_fraction"):
        carve(Splits("multiclass", ("a", "b"), index(100)))


def test_training_needs_training_images_and_two_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training images, only val, test"):
        carve(Splits("multiclass", ("a", "b"), None, index(4), index(4)), val_fraction=0.1)
    augment = {"train": AUGMENT, "eval": AUGMENT}
    one = Splits("multiclass", ("only",), index(4, classes=1))
    with pytest.raises(ValueError, match="has only one class, 'only': training needs two"):
        ImageDataModule(lambda root: one, str(tmp_path), augment, 8, 8, val_fraction=0.5)


def test_classes_get_the_indices_of_a_trained_run() -> None:
    data = Splits("multiclass", ("bird", "dog"), Index(["x", "y"], torch.tensor([0, 1])))
    ordered = with_class_order(data, ["ant", "bird", "cat", "dog"])
    assert ordered.train.targets.tolist() == [1, 3]
    assert ordered.class_names == ("ant", "bird", "cat", "dog")


def test_a_class_that_multilabel_data_lacks_is_unknown() -> None:
    data = Splits("multilabel", ("dog", "ant"), Index(["x"], torch.tensor([[1.0, 0.0]])))
    assert with_class_order(data, ["ant", "bird", "dog"]).train.targets.tolist() == [[0.0, -1.0, 1.0]]


def test_a_class_the_run_was_not_trained_on_is_named() -> None:
    with pytest.raises(ValueError, match="1 classes.*zebra"):
        with_class_order(Splits("multiclass", ("ant", "zebra"), index(4)), ["ant", "bird"])


def datamodule(root: Path, **options: float) -> ImageDataModule:
    def read(root: Path | None) -> Splits:
        return Splits("multiclass", ("a", "b"), index(40), index(10, start=40), index(10, start=50))

    return ImageDataModule(read, str(root), {"train": AUGMENT, "eval": AUGMENT}, 8, 8, **options)  # type: ignore[arg-type]


def test_training_images_are_the_augmented_batches_of_the_first_epoch_each_time(tmp_path: Path) -> None:
    make_folder(tmp_path, ("a", "b"), images=5)
    augment = {"train": Augment(CenterCrop(12, 8), [RandomHorizontalFlip()]), "eval": AUGMENT}
    data = ImageDataModule(
        lambda root: read_folder(tmp_path), str(tmp_path), augment, 8, batch_size=3, seed=1, val_fraction=0.2
    )
    batches = data.train_batches(0, 1)
    dataset = ImageDataset(data.splits["train"], augment["train"], 1)
    expected = [dataset.__getitems__(keys).images for keys in batches]
    for _ in range(2):
        assert all(map(torch.equal, data.training_images(), expected))
    assert len(list(data.training_images())) == len(expected) == 2


def test_each_rank_has_its_share_of_the_training_images(tmp_path: Path) -> None:
    make_folder(tmp_path, ("a", "b"), images=10)
    augment = {"train": Augment(CenterCrop(12, 8), [RandomHorizontalFlip()]), "eval": AUGMENT}

    def images_of(rank: int, ranks: int) -> list[torch.Tensor]:
        data = ImageDataModule(lambda root: read_folder(tmp_path), None, augment, 8, 4, seed=1, val_fraction=0.2)
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks, strategy=strategy, overfit_batches=0)  # type: ignore[assignment]
        return list(data.training_images())

    first, second, whole = images_of(0, 2), images_of(1, 2), images_of(0, 1)
    assert len(whole) == 4
    for batch, *shares in zip(whole, first, second, strict=True):
        assert torch.equal(batch, torch.stack(shares, 1).flatten(0, 1))


def test_growing_training_images_are_given_at_their_full_size(tmp_path: Path) -> None:
    make_folder(tmp_path, ("a", "b"), images=5)
    augment, growing = {"train": Augment(CenterCrop(8, 8)), "eval": AUGMENT}, {"start": 4, "epochs": 2, "step": 4}
    options: dict[str, Any] = {"batch_size": 3, "progressive": growing, "val_fraction": 0.2}
    data = ImageDataModule(lambda root: read_folder(tmp_path), str(tmp_path), augment, 8, **options)
    assert {tuple(images.shape) for images in data.training_images()} == {(3, 3, 8, 8)}


def test_the_fingerprint_changes_with_a_label_but_not_with_other_options(tmp_path: Path) -> None:
    first, second = datamodule(tmp_path), datamodule(tmp_path, num_workers=3, seed=9)
    assert first.fingerprint() == second.fingerprint()
    second.splits["val"].targets[0] = 1 - second.splits["val"].targets[0]
    assert first.fingerprint() != second.fingerprint()


def test_all_images_can_be_tested_each_once(tmp_path: Path) -> None:
    data = datamodule(tmp_path)
    data.test_on("all")
    assert sorted(data.splits["test"].paths) == sorted(f"{i}.png" for i in range(60))
    shared = datamodule(tmp_path)
    shared.splits["test"] = shared.splits["val"]
    shared.test_on("all")
    assert len(shared.splits["test"]) == 50


def test_a_test_split_that_is_val_stays_val_with_the_classes_of_a_trained_run(tmp_path: Path) -> None:
    """As in a store; the images then count once in "all"."""
    val = index(10, start=40)

    def read(root: Path | None) -> Splits:
        return Splits("multiclass", ("a", "b"), index(40), val, val)

    augment = {"train": AUGMENT, "eval": AUGMENT}
    data = ImageDataModule(read, str(tmp_path), augment, 8, 8, class_names=["b", "a"])
    assert data.splits["test"] is data.splits["val"]
    data.test_on("all")
    assert len(data.splits["test"]) == 50


def to_evaluate(root: Path, data: Splits, **options: float) -> ImageDataModule:
    return ImageDataModule(
        lambda root: data,
        str(root),
        {"train": AUGMENT, "eval": AUGMENT},
        8,
        8,
        class_names=["a", "b"],
        to_train=False,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("data", "tested", "count"),
    [
        (Splits("multiclass", ("a", "b"), index(4)), "all", 4),
        (Splits("multiclass", ("b",), index(4, classes=1)), "all", 4),
        (Splits("multiclass", ("a", "b"), index(20), None, index(3, start=20)), "test", 3),
        (Splits("multiclass", ("a", "b"), index(20), index(5, start=20)), "val", 5),
        (Splits("multiclass", ("a",), None, None, index(1)), "test", 1),
        (Splits("multiclass", ("a", "b"), None, index(2)), "val", 2),
        (Splits("multilabel", ("a",), None, None, Index(["x"], torch.tensor([[1]]))), "test", 1),
    ],
)
def test_evaluation_uses_the_test_split_or_val_or_all_images(
    tmp_path: Path, data: Splits, tested: str, count: int
) -> None:
    module = to_evaluate(tmp_path, data)
    assert module.test_on("test") == tested
    assert len(module.splits["test"]) == count
    assert module.class_names == ("a", "b")
    whole = to_evaluate(tmp_path, data)
    assert whole.test_on("all") == "all"
    assert len(whole.splits["test"]) == sum(len(i) for i in (data.train, data.val, data.test) if i)


def test_the_error_about_a_missing_split_lists_the_existing_ones(tmp_path: Path) -> None:
    module = to_evaluate(tmp_path, Splits("multiclass", ("a", "b"), None, index(2), index(3, start=2)))
    with pytest.raises(ValueError, match="split=train: the data has no such split .it has 2 val, 3 test."):
        module.test_on("train")


def test_a_fraction_is_split_off_evaluated_data_as_in_training(tmp_path: Path) -> None:
    data = Splits("multiclass", ("a", "b"), index(40))
    module = to_evaluate(tmp_path, data, test_fraction=0.25, split_seed=3)
    assert module.test_on("test") == "test"
    trained = carve(data, val_fraction=0.1, test_fraction=0.25, split_seed=3)
    assert list(module.splits["test"].paths) == list(trained["test"].paths)
