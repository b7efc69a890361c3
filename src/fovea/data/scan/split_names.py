"""Which split the name of a folder, or a value of a CSV column, stands for."""

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
    """The split that a word of `name` names, without regard to case: val of `Validation`, `seg_valid`, `val2017`.

    Words are what other characters than letters, and capitals within, divide: `latest` and `trainers` name no split.
    A name with words of two splits (`train_test`) names none.

    Args:
        whole: the other words may only be FILLERS, so `test_images` names a split, and `test tube` does not.
    """
    words = [_bare(word.lower()) for letters in re.findall(r"[^\W\d_]+", name) for word in CAMEL.split(letters)]
    found = {WORDS[word] for word in words if word in WORDS}
    others = [word for word in words if word and word not in WORDS]
    return found.pop() if len(found) == 1 and not (whole and others) else None


def _bare(word: str) -> str:
    """The word without a filler at its end: `train` of `trainset`; nothing of a filler alone."""
    if word in FILLERS:
        return ""
    return next((bare for end in FILLERS if (bare := word.removesuffix(end)) in WORDS), word)
