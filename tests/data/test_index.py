"""Counts of present, absent and unknown labels."""

import pytest
import torch

from fovea.data.index import class_counts, unknown_kind


def test_present_and_absent_labels_are_counted_per_class() -> None:
    targets = torch.tensor([[1, 0, -1], [1, 1, -1], [0, 1, -1]], dtype=torch.int8)
    assert class_counts(targets, 3) == {"present": [2, 2, 0], "absent": [1, 1, 0]}


def test_a_single_label_image_counts_as_absent_for_all_other_classes() -> None:
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
def test_unknown_kind_distinguishes_whole_images_from_single_labels(targets: list, expected: str) -> None:
    assert unknown_kind(torch.tensor(targets)) == expected
