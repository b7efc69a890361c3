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
def test_a_split_is_known_by_its_usual_names_in_any_case(name: str, split: str) -> None:
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
def test_a_split_is_known_as_part_of_a_name_unless_the_whole_is_asked_for(name: str, split: str) -> None:
    assert split_of(name) == split
    assert split_of(name, whole=True) is None


@pytest.mark.parametrize(
    "name",
    ["", "17", "cat", "images", "trainers", "latest", "contest", "protester", "invalid", "device", "value", "testé"],
)
def test_other_words_name_no_split(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize("name", ["train_test", "trainval", "TrainVal", "test-val", "train_test_split"])
def test_a_name_of_two_splits_names_none(name: str) -> None:
    assert split_of(name) is None
