import numpy as np

from fovea.data.check import clusters
from fovea.data.check.clusters import clusters_of, label_numbers


def test_images_with_one_key_are_a_cluster_and_the_worst_come_first() -> None:
    keys = np.array([7, 3, 7, 9, 3, 5, 5, 8])
    numbers = np.array([0, 1, 2, 3, 4, 5, 6, 9])
    splits = np.array([0, 0, 0, 0, 1, 0, 1, 0, 0, 0])
    labels = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 0])
    found = clusters_of(keys, numbers, splits, labels)
    assert [(c.members.tolist(), c.mixed, c.across) for c in found] == [
        ([5, 6], True, True),
        ([1, 4], False, True),
        ([0, 2], False, False),
    ]
    assert len(clusters_of(keys, numbers, splits, labels, least=1)) == 5
    assert clusters_of(keys[:0], numbers[:0], splits, labels) == []


def test_members_with_other_labels_and_splits_are_listed_first(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(clusters, "MOST_MEMBERS", 3)
    splits, labels = np.array([0, 0, 0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    (cluster,) = clusters_of(np.zeros(6), np.arange(6), splits, labels)
    assert cluster.pairs(splits, labels) == [5, 4, 3]


def test_equal_labels_have_equal_numbers() -> None:
    assert label_numbers([np.array([2, 0]), np.array([2])]).tolist() == [2, 0, 2]
    several = label_numbers([np.array([[1, 0, -1], [0, 0, 1]], np.int8), np.array([[1, 0, -1], [1, 0, 0]], np.int8)])
    assert several[0] == several[2]
    assert len(set(several.tolist())) == 3
