"""What a data source says: which images there are and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Task = Literal["multiclass", "multilabel"]


@dataclass(frozen=True)
class Index:
    """The images of one split, in a fixed order.

    Attributes:
        paths: N files.
        targets: (N,) int64 class indices, or (N, K) float: 1 present, 0 absent, -1 unknown.
    """

    paths: Sequence[str]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Splits:
    """A dataset as a source reads it; `val` and `test` are None where the source has no such split.

    `class_names[k]` is the name of target column or index k, in the source's own fixed order.
    """

    task: Task
    class_names: tuple[str, ...]
    train: Index
    val: Index | None = None
    test: Index | None = None
