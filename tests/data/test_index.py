"""What is counted of a split's labels, against plain loops."""

import pytest
import torch

from fovea.data.index import class_counts, what_is_unknown


def test_known_labels_are_counted_by_class() -> None:
    targets = torch.tensor([[1, 0, -1], [1, 1, -1], [0, 1, -1]], dtype=torch.int8)
    assert class_counts(targets, 3) == {"present": [2, 2, 0], "absent": [1, 1, 0]}


def test_an_image_of_one_class_is_known_to_have_no_other() -> None:
    assert class_counts(torch.tensor([0, 2, 2], dtype=torch.int32), 4) == {
        "present": [1, 0, 2, 0],
        "absent": [2, 3, 1, 3],
    }


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([0, 1], "nothing"),
        ([[0, 1]], "nothing"),
        ([[0, 1], [-1, -1]], "images"),
        ([[0, 1], [-1, -1], [-1, 1]], "labels"),
        ([[-1], [1]], "images"),
    ],
)
def test_whole_images_or_single_labels_may_be_unknown(targets: list, expected: str) -> None:
    assert what_is_unknown(torch.tensor(targets)) == expected
