"""Recognizes the split (train, val, test) in a folder's name or in a value of a CSV column."""

import re
from typing import Literal

Split = Literal["train", "val", "test"]

WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tests", "tst"), "test"),
}
FILLERS = (
    "set",
    "dataset",
    "data",
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "samples",
    "split",
    "folder",
)
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # trainData, XTrain


def split_of(name: str, whole: bool = False) -> Split | None:
    """Return the split that a word of `name` stands for, ignoring case: val for `Validation`, `seg_valid`, `val2017`.

    Non-letters and inner capitals separate words, so `latest` and `trainers` stand for no split. Neither does a name
    with words for two splits (`train_test`).

    Args:
        whole: accept only FILLERS as other words: `test_images` is a split, `test tube` is not.
    """
    words = [_without_filler(word.lower()) for text in re.findall(r"[^\W\d_]+", name) for word in CAMEL.split(text)]
    found = {WORDS[word] for word in words if word in WORDS}
    others = [word for word in words if word and word not in WORDS]
    return found.pop() if len(found) == 1 and not (whole and others) else None


def _without_filler(word: str) -> str:
    """Remove a filler at the word's end: `train` for `trainset`, an empty string for a filler alone."""
    if word in FILLERS:
        return ""
    return next((stem for filler in FILLERS if (stem := word.removesuffix(filler)) in WORDS), word)
