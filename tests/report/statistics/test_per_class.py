"""The table of figures per class, against scikit-learn and the metrics of the training."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearns
from torchmetrics import Metric

from fovea.metrics.auroc import AUROC
from fovea.metrics.average_precision import AveragePrecision
from fovea.metrics.precision_recall import F1, Precision, Recall
from fovea.metrics.support import Support
from fovea.report.prediction_file import Predictions
from fovea.report.statistics import per_class as module
from fovea.report.statistics.per_class import PerClass, per_class

K, N = 6, 80
NAMES = list("abcdef")


def example(task: str, seed: int, images: int = N) -> Predictions:
    """Scores with many ties. Multi-label: class 2 has no positive, class 3 no negative, class 4 no known label.

    Single-label: class 2 has no image, and class 3 is never predicted.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 11, (images, K), generator=generator) / 10
    if task == "multiclass":
        scores[:, 3] = -0.1
        labels = torch.randint(K - 1, (images,), generator=generator)
        labels[labels == 2] = 5
        return Predictions("multiclass", NAMES, [""] * images, labels, scores)
    labels = torch.randint(-1, 2, (images, K), generator=generator)
    labels[:, 2], labels[:, 3], labels[:, 4] = -(labels[:, 2] == 1).long(), labels[:, 3].abs() * 2 - 1, -1
    return Predictions("multilabel", NAMES, [""] * images, labels.char(), scores)


def of_scikit_learn(target: np.ndarray, predicted: np.ndarray, scores: np.ndarray) -> list[float]:
    known = target != -1
    if not known.any():
        return [0] + [np.nan] * 6
    target, predicted, scores = target[known], predicted[known], scores[known]
    (tn, fp), _ = sklearns.confusion_matrix(target, predicted, labels=[0, 1])
    rates = [
        score(target, predicted, zero_division=np.nan)
        for score in (sklearns.precision_score, sklearns.recall_score, sklearns.f1_score)
    ]
    specificity = tn / (tn + fp) if tn + fp else np.nan
    average = sklearns.average_precision_score(target, scores) if target.any() else np.nan
    area = sklearns.roc_auc_score(target, scores) if 0 < target.sum() < len(target) else np.nan
    return [target.sum(), *rates[:2], specificity, rates[2], average, area]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("thresholds", [0.5, torch.linspace(0.1, 0.9, K)])
def test_several_labels_equal_scikit_learn(seed: int, thresholds: float | torch.Tensor) -> None:
    predictions = example("multilabel", seed)
    predicted = (predictions.probabilities > thresholds).numpy()
    columns = zip(predictions.labels.T.numpy(), predicted.T, predictions.probabilities.T.numpy(), strict=True)
    expected = np.array([of_scikit_learn(*column) for column in columns])
    np.testing.assert_allclose(
        torch.stack([*map(torch.Tensor.double, per_class(predictions, thresholds))], 1), expected
    )


@pytest.mark.parametrize("at_once", [1, 3 * N, 10_000_000])
def test_a_single_label_equals_scikit_learn(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    predictions = example("multiclass", 0)
    predicted, scores = predictions.probabilities.argmax(1).numpy(), predictions.probabilities.numpy()
    labels = predictions.labels.numpy()
    expected = np.array([of_scikit_learn(labels == k, predicted == k, scores[:, k]) for k in range(K)])
    np.testing.assert_allclose(torch.stack([*map(torch.Tensor.double, per_class(predictions))], 1), expected)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_table_equals_the_metrics_of_the_training(task: str) -> None:
    predictions, found = example(task, 1), per_class(example(task, 1))
    metrics: dict[str, Metric] = {
        "images": Support(K), "precision": Precision(K), "recall": Recall(K), "f1": F1(K), "auroc": AUROC(K)
    }  # fmt: skip
    if task == "multilabel":
        metrics["average_precision"] = AveragePrecision(K)
    for name, metric in metrics.items():
        metric.update(predictions.probabilities, predictions.labels)
        torch.testing.assert_close(getattr(found, name).float(), metric.compute().float(), equal_nan=True, msg=name)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_without_images_all_but_their_number_is_undefined(task: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found: PerClass = per_class(example(task, 0).take([]))
    assert found.images.tolist() == [0] * K
    assert all(values.isnan().all() and values.shape == (K,) for values in found[1:])
