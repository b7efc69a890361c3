"""Divides a dataset into the splits that a run trains, validates and tests on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fovea.data.corrections import correct
from fovea.data.division.few_images import limit_per_class
from fovea.data.division.folds import fold_of, rare_classes
from fovea.data.division.image_groups import shared_groups, with_groups
from fovea.data.division.split import split_off
from fovea.data.division.subset import take_subset
from fovea.data.index import Index, Splits, class_counts, concatenate


@dataclass(frozen=True)
class Division:
    """The keys of `data` that set which split and which label the images have; see conf/data/base/images.yaml.

    Attributes:
        val_fraction, test_fraction: of all training images, split off if the source has no such split.
        split_seed: of all random choices here.
        folds: of a cross-validation; None: there is none.
        fold: the fold that is tested, from 0; None if `folds` is.
        val_as_test: test the source's val split, and split another one off train by val_fraction.
        group_pattern: a regular expression that takes the images' groups from their paths, see `with_groups`; None: the
            groups that the source gives, if it does.
        limit_per_class: keep only so many training images of each class; None: all.
        corrections: a table of labels that a person corrected, see `corrections.correct`.
        subset: a list of the training images that are used, see `take_subset`; None: all.
    """

    val_fraction: float = 0.0
    test_fraction: float = 0.0
    split_seed: int = 0
    folds: int | None = None
    fold: int | None = None
    val_as_test: bool = False
    group_pattern: str | None = None
    limit_per_class: int | None = None
    corrections: str | None = None
    subset: str | None = None


class Divided(NamedTuple):
    """Divided data.

    Attributes:
        splits: "train", "val" and "test" -> Index. Without a test split and a test_fraction, test is val; without val
            too, test is train.
        corrected: what the corrections changed; None without corrections.
        texts: what was done, for the log.
        warnings: what may be meant otherwise.
    """

    splits: dict[str, Index]
    corrected: dict[str, Any] | None
    texts: list[str]
    warnings: list[str]


def divide(data: Splits, division: Division, root: str | None = None, to_train: bool = True) -> Divided:
    """Take the subset, split off what is missing, correct labels, then limit the training images of each class.

    The result depends on the arguments and the files that they name alone.

    Args:
        data: as read from the source.
        division: what to do.
        root: the folder of the data, for the paths of the subset and the corrections.
        to_train: whether the data must have training and validation images.

    Raises:
        ValueError: a split that training needs is missing or empty, the data do not fit the folds or `val_as_test`, a
            path has no group, or the subset or the corrections are invalid.
    """
    texts, warnings, left_out = list[str](), list[str](), dict[str, Index]()
    if division.subset:
        data, others, text, warnings = take_subset(data, division.subset, root)
        texts, left_out = [text], {"not in the subset": others}
    if division.group_pattern:
        data = with_groups(data, division.group_pattern, root)
    if division.folds is not None:
        data, own_test, text, cautions = _with_fold(data, division)
        texts, warnings = [*texts, text], [*warnings, *cautions]
        left_out |= {"not in the folds": own_test} if own_test else {}
    elif division.val_as_test:
        data = _with_val_as_test(data)
    warnings += shared_groups(_given(data))
    splits, carved = _carve(data, division, to_train)
    texts, corrected = [*texts, *carved], None
    if division.corrections:  # the table may have rows about images that are left out
        found = correct(splits | left_out, data.task, data.class_names, division.corrections, root)
        splits, corrected = {name: found.splits[name] for name in splits}, found.record
        texts, warnings = [*texts, found.text], [*warnings, *found.warnings]
        if to_train:
            check_trainable(splits)
    if division.limit_per_class and "train" in splits:
        limited = limit_per_class(splits["train"], data.class_names, division.limit_per_class, division.split_seed + 2)
        splits = splits | {"train": limited.images}
        texts, warnings = [*texts, limited.text], [*warnings, *limited.warnings]
    return Divided(splits, corrected, texts, warnings)


def training_images_of_folds(data: Splits, division: Division, root: str | None = None) -> list[Index]:
    """Return the training images of each fold; [] without folds. For the arguments see `divide`."""
    folds = (replace(division, fold=fold) for fold in range(division.folds or 0))
    return [divide(data, one, root).splits["train"] for one in folds]


def _with_fold(data: Splits, division: Division) -> tuple[Splits, Index | None, str, list[str]]:
    """Divide train and val into folds: one is test, the others are train. The data's own test split is left out.

    Returns:
        the data; the images that are left out; a sentence for the log; warnings.
    """
    assert division.folds is not None and division.fold is not None
    parts = [index for index in (data.train, data.val) if index is not None]
    if not parts:
        raise ValueError(f"data.folds={division.folds}: the data has no train and no val images to divide into folds")
    whole = concatenate(parts) if len(parts) > 1 else parts[0]
    train, test = fold_of(whole, division.folds, division.fold, division.split_seed)
    left_out = data.test if data.test is not data.val else None
    text = f"fold {division.fold} of {division.folds} is the test split: {len(test):,} of {len(whole):,} images"
    if left_out:
        text += f"; the {len(left_out):,} images of the data's own test split are left out"
    counts = class_counts(whole.targets, len(data.class_names))["present"]
    warnings = rare_classes(counts, data.class_names, division.folds)
    return replace(data, train=train, val=None, test=test), left_out, text, warnings


def _with_val_as_test(data: Splits) -> Splits:
    """Return the data with its val split as test. Raises ValueError if it has no val or has a test split."""
    if data.val is None:
        raise ValueError("data.val_as_test=true: the data has no val split; data.test_fraction splits a test off train")
    if data.test is not None and data.test is not data.val:
        raise ValueError(
            f"data.val_as_test=true: the data has a test split of its own, of {len(data.test):,} images: remove the key"
        )
    return replace(data, val=None, test=data.val)


def _carve(data: Splits, division: Division, to_train: bool) -> tuple[dict[str, Index], list[str]]:
    """Return the splits, and sentences for the log; a missing val or test is split off train by its fraction."""
    train, val, test = data.train, data.val, data.test
    total = len(train) if train else 0
    if train and test is None and division.test_fraction:
        train, test = split_off(train, division.test_fraction, division.split_seed)
    if train and val is None and division.val_fraction:
        train, val = split_off(train, division.val_fraction * total / len(train), division.split_seed + 1)
    splits = _given(Splits(data.task, data.class_names, train, val, test))
    texts = []
    if to_train:
        check_trainable(splits)
    if to_train and test is None and val is not None:
        texts = [f"the data has no test split: the {len(val)} validation images are used for the test too"]
    return splits | {"test": next(i for i in (test, val, train) if i is not None)}, texts


def _given(data: Splits) -> dict[str, Index]:
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {name: index for name, index in splits.items() if index is not None}


def check_trainable(splits: Mapping[str, Index]) -> None:
    """Raise ValueError if a split that training needs is missing or empty."""
    if "train" not in splits:
        raise ValueError(f"the data has no training images, only {', '.join(splits)}: add a train split")
    if "val" not in splits:
        raise ValueError("the data has no validation split: set data.val_fraction=0.1, for example, to split off train")
    for name, index in splits.items():
        if not len(index):
            raise ValueError(
                f"the {name} split of the data is empty ({len(splits['train'])} images in train): add images to it"
            )
