"""The majority-class baseline, against scikit-learn's DummyClassifier."""

import numpy as np
import torch
from sklearn.dummy import DummyClassifier

from fovea.data.index import class_counts
from fovea.metrics.average_precision import AveragePrecision
from fovea.report.prediction_file import Predictions
from fovea.report.statistics.baseline import class_shares, majority


def test_a_single_label_is_predicted_as_by_scikit_learn() -> None:
    training = torch.tensor([0, 2, 2, 1, 2, 0])
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((6, 1)), training)
    tested = Predictions("multiclass", list("abc"), ["x", "y"], torch.tensor([2, 0]), torch.eye(3)[:2])
    found = majority(tested, class_shares(class_counts(training, 3)))
    np.testing.assert_allclose(found.probabilities, dummy.predict_proba(np.zeros((2, 1))), rtol=1e-6)
    assert found.probabilities.argmax(1).tolist() == [2, 2]
    assert (found.labels is tested.labels, found.paths) == (True, ["x", "y"])


def test_a_class_of_several_has_its_share_of_the_known_labels() -> None:
    training = torch.tensor([[1, 0, -1], [1, -1, -1], [0, 0, -1]])
    assert class_shares(class_counts(training, 3)).tolist() == torch.tensor([2 / 3, 0, 0]).tolist()


def test_the_average_precision_of_the_baseline_is_the_share_of_positives() -> None:
    labels = torch.tensor([[1, 0], [0, 0], [0, 1], [-1, 0]], dtype=torch.int8)
    tested = Predictions("multilabel", list("ab"), list("wxyz"), labels, torch.rand(4, 2))
    metric = AveragePrecision(2)
    metric.update(majority(tested, class_shares(class_counts(labels, 2))).probabilities, labels)
    assert metric.compute().tolist() == torch.tensor([1 / 3, 1 / 4]).tolist()


def test_without_training_images_no_class_is_frequent() -> None:
    assert class_shares(class_counts(torch.tensor([], dtype=torch.int64), 2)).tolist() == [0, 0]
