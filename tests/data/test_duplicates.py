import logging
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from fovea.data.duplicates import drop_duplicates
from fovea.data.index import Index, Splits
from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import CenterCrop


def index(*images: tuple[str, int]) -> Index:
    return Index([path for path, _ in images], torch.tensor([label for _, label in images]))


def splits(**parts: Index) -> Splits:
    return Splits("multiclass", ("cat", "dog"), **parts)


def test_data_without_duplicates_are_returned_unchanged() -> None:
    data = splits(train=index(("a", 0), ("b", 1)), val=index(("c", 0)))
    assert drop_duplicates(data) is data


@pytest.mark.parametrize("second", ["x/a.jpg", "./x/a.jpg", "x/y/../a.jpg", "x//a.jpg", os.path.abspath("x/a.jpg")])
def test_an_image_listed_twice_with_one_label_is_used_once_and_counted(
    second: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = drop_duplicates(splits(train=index(("x/a.jpg", 1), ("b", 0), (second, 1), ("c", 1))))
    assert list(data.train.paths) == ["x/a.jpg", "b", "c"]
    assert data.train.targets.tolist() == [1, 0, 1]
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("1 images are listed more than once with the same label")


def test_an_image_with_two_labels_is_refused_with_both() -> None:
    data = splits(train=index(("a.jpg", 0), ("b", 0), ("./a.jpg", 1)))
    with pytest.raises(ValueError, match=r"1 images are .* different labels(.|\n)*a\.jpg \(train: cat; train: dog\)"):
        drop_duplicates(data)


def test_labels_contradict_each_other_across_splits_too() -> None:
    data = splits(train=index(("a.jpg", 0)), val=index(("b", 0)), test=index(("a.jpg", 1)))
    with pytest.raises(ValueError, match=r"different labels(.|\n)*\(train: cat; test: dog\)"):
        drop_duplicates(data)


def test_an_image_in_two_splits_is_refused_with_a_count() -> None:
    shared = [("a", 0), ("b", 1), ("c", 0), ("d", 0)]
    with pytest.raises(ValueError, match=r"4 images are in more than one split(.|\n)*a \(train: cat; val: cat\)"):
        drop_duplicates(splits(train=index(*shared, ("e", 0)), val=index(*shared)))


def test_multilabel_conflicts_name_the_present_and_unknown_classes() -> None:
    both = Index(["a", "a"], torch.tensor([[1, 0], [1, -1]]))
    with pytest.raises(ValueError, match=r"\(train: cat; train: cat, dog unknown\)"):
        drop_duplicates(Splits("multilabel", ("cat", "dog"), both))


def test_an_index_shared_by_two_splits_stays_shared() -> None:
    val = index(("b", 0), ("b", 0))
    data = drop_duplicates(splits(train=index(("a", 0)), val=val, test=val))
    assert data.test is data.val
    assert list(data.val.paths) == ["b"]


def test_removed_duplicates_match_a_plain_loop() -> None:
    draw = random.Random(0)
    names = [f"/data/{draw.choice(['', './', 'x/../'])}{draw.randrange(3000)}.jpg" for _ in range(2000)]
    wanted = defaultdict(list)
    for name in names:
        wanted[os.path.normpath(name)].append(name)
    kept = drop_duplicates(splits(train=index(*[(name, 0) for name in names]))).train
    assert list(kept.paths) == [some[0] for some in wanted.values()]


def test_the_datamodule_checks_duplicates_and_class_names_of_any_source(tmp_path: Path) -> None:
    augment = Augment(CenterCrop(8, 8))

    def load(names: tuple[str, ...], train: Index) -> ImageDataModule:
        data = Splits("multiclass", names, train, index(("v", 0)))
        return ImageDataModule(lambda _: data, str(tmp_path), {"train": augment, "eval": augment}, 8, 2)

    assert len(load(("cat", "dog"), index(("a", 0), ("a", 0), ("b", 1))).splits["train"]) == 2
    with pytest.raises(ValueError, match="different labels"):
        load(("cat", "dog"), index(("a", 0), ("a", 1)))
    with pytest.raises(ValueError, match="1 class names are empty or belong to several classes, such as 'cat'"):
        load(("cat", "cat"), index(("a", 0), ("b", 1)))
