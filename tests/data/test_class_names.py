import logging

import pytest
import torch

from fovea.data.class_names import check_classes, images_per_class, similar_names
from fovea.data.index import Index, Splits


def single(*names: str) -> Splits:
    return Splits("multiclass", names, Index([f"{k}" for k in range(len(names))], torch.arange(len(names))))


@pytest.mark.parametrize("names", [("cat", "dog", "cat"), ("cat", ""), (" ", "cat")])
def test_equal_or_empty_class_names_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="1 class names are empty or belong to several"):
        check_classes(single(*names))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("Cat", "dog", "cat "), [[0, 2]]),
        (("No Finding", "no_finding", "NoFinding"), [[0, 1, 2]]),
        (("1", "-1", "1.5", "15"), []),
        (("+", "-", "x"), []),
        (("Bär", "BÄR"), [[0, 1]]),
    ],
)
def test_names_that_differ_only_in_case_or_punctuation_are_found(
    names: tuple[str, ...], wanted: list[list[int]]
) -> None:
    assert similar_names(names) == wanted


def test_warns_about_suspicious_names_with_their_image_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    check_classes(single("Cat", "cat", "nan", "None", "dog"))
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "'Cat' (1 images) and 'cat' (1 images) differ only in case, spaces or punctuation",
        "'nan' is a class of 1 images",
        "'None' is a class of 1 images",
    ]


def test_warns_about_classes_that_are_never_present_in_train(caplog: pytest.LogCaptureFixture) -> None:
    train = Index(["a", "b"], torch.tensor([[1, 0, -1], [1, 0, 0]]))
    val = Index(["c"], torch.tensor([[0, 1, 0]]))
    data = Splits("multilabel", ("cat", "dog", "emu"), train, val)
    check_classes(data)
    assert caplog.messages == ["2 of 3 classes are never present in train: ['dog', 'emu']"]
    assert images_per_class(data) == [2, 1, 0]


def test_images_of_an_index_shared_by_two_splits_are_counted_once() -> None:
    val = Index(["c"], torch.tensor([1]))
    data = Splits("multiclass", ("cat", "dog"), Index(["a"], torch.tensor([0])), val, val)
    assert images_per_class(data) == [1, 1]
