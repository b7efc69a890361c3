"""errors.csv has the images that are wrong, by plain loops."""

import torch

from fovea.report.errors import MOST_COLUMNS, certainty, error_rows, wrong
from fovea.report.prediction_file import Predictions

NAMES = ["cat", "dog", "owl"]


def single_label() -> Predictions:
    values = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.4, 0.3, 0.3]])
    return Predictions("multiclass", NAMES, ["a", "b", "c", "d"], torch.tensor([0, 2, 0, 1]), values)


def multilabel() -> Predictions:
    values = torch.tensor([[0.9, 0.2, 0.5], [0.4, 0.8, 0.1], [0.7, 0.6, 0.9], [0.2, 0.9, 0.3]])
    labels = torch.tensor([[1, 0, 0], [1, 0, -1], [-1, -1, -1], [0, 1, 1]], dtype=torch.int8)
    return Predictions("multilabel", NAMES, ["a", "b", "c", "d"], labels, values)


def test_wrong_images_come_with_the_most_certain_mistake_first() -> None:
    rows = error_rows(single_label())
    assert [(row["path"], row["label"], row["predicted"], row["probability"]) for row in rows] == [
        ("c", "cat", "dog", 0.9),
        ("b", "owl", "dog", 0.7),
        ("d", "dog", "cat", 0.4),
    ]
    assert rows[0]["p(owl)"] == torch.tensor(0.05).item()


def test_of_several_labels_the_missed_and_the_false_ones_are_named_and_unknown_ones_are_not_wrong() -> None:
    rows = error_rows(multilabel())
    assert [(row["path"], row["missed"], row["false"]) for row in rows] == [("b", "cat", "dog"), ("d", "owl", "")]
    assert [row["probability"] for row in rows] == [0.8, 0.7]


def test_an_image_without_a_wrong_label_is_as_certain_as_its_least_certain_known_label() -> None:
    assert wrong(multilabel()).tolist() == [False, True, False, True]
    torch.testing.assert_close(certainty(multilabel())[[0, 2]], torch.tensor([0.5, 1.0]))


def test_of_many_classes_only_the_predicted_probability_is_written() -> None:
    names = [str(k) for k in range(MOST_COLUMNS + 1)]
    many = Predictions("multiclass", names, ["a"], torch.tensor([3]), torch.eye(len(names))[:1])
    assert error_rows(many) == [{"path": "a", "label": "3", "predicted": "0", "probability": 1.0}]
    assert error_rows(many.take([])) == []
