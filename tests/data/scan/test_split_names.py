"""Names of folders and CSV values that stand for a split."""

import pytest

from fovea.data.scan.split_names import split_of

TRAIN = ["train", "Training", "TRAIN", "train_set", "train2017", "training_images", "trainset", "TrainData"]
VAL = ["val", "valid", "Validation", "dev", "VAL-IMAGES", "eval", "val_256", "validationset", "Val Images"]
TEST = ["test", "Testing", "dataset-test", "test1", "Test.Images", "testdata", "TESTING_SET", "images.test"]


@pytest.mark.parametrize(
    ("name", "split"),
    [*((name, "train") for name in TRAIN), *((name, "val") for name in VAL), *((name, "test") for name in TEST)],
)
def test_usual_split_names_are_recognized_in_any_case(name: str, split: str) -> None:
    assert split_of(name, whole=True) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("seg_train", "train"),
        ("asl_alphabet_test", "test"),
        ("PrivateTest", "test"),
        ("trainA", "train"),
        ("XTrain", "train"),
    ],
)
def test_a_split_in_a_part_of_a_name_is_recognized_unless_whole_is_set(name: str, split: str) -> None:
    assert split_of(name) == split
    assert split_of(name, whole=True) is None


@pytest.mark.parametrize(
    "name",
    ["", "17", "cat", "images", "trainers", "latest", "contest", "protester", "invalid", "device", "value", "testé"],
)
def test_other_words_are_not_splits(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize("name", ["train_test", "trainval", "TrainVal", "test-val", "train_test_split"])
def test_a_name_with_two_splits_is_not_a_split(name: str) -> None:
    assert split_of(name) is None
