"""The classifier of the folds is scikit-learn's linear discriminant analysis, fitted to the other folds."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from fovea.report.statistics import cross_validation
from fovea.report.statistics.cross_validation import FOLDS, Scaled, _folds, _moments, _shrinkage, cross_validated


def clusters(images: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    centers = 1.5 * torch.randn(classes, width, generator=generator)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    return (centers[labels] + torch.randn(images, width, generator=generator)) @ mixing + 5, labels


def several_labels(labels: Tensor, classes: int) -> Tensor:
    """Class k is present for the labels k and k + 1, and some labels are unknown."""
    numbers = torch.arange(classes)
    present = ((labels[:, None] == numbers) | (labels[:, None] == numbers + 1)).char()
    return present.masked_fill(torch.rand(present.shape, generator=torch.Generator().manual_seed(1)) < 0.1, -1)


def shrinkage_of(features: Tensor, labels: Tensor, classes: int) -> float:
    scaled = Scaled(features)
    return _shrinkage(scaled, labels, _moments(scaled, labels, torch.arange(len(labels)), classes))


@pytest.mark.parametrize("chunk", [8192, 37])
def test_each_fold_is_predicted_by_discriminant_analysis_of_the_others(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "CHUNK", chunk)
    features, labels = clusters(300, 12, 4)
    found = cross_validated(features, labels, "multiclass", 4, seed=3)
    scaled = Scaled(features)[torch.arange(300)].double().numpy()
    shrinkage = shrinkage_of(features, labels, 4)
    for rows in _folds(labels, 4, seed=3):
        others = np.setdiff1d(np.arange(300), rows.numpy())
        given = labels[others].numpy()
        analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=None)
        analysis.covariance_estimator = _Shrunk(scaled[others], given, shrinkage)
        expected = analysis.fit(scaled[others], given).predict_proba(scaled[rows.numpy()])
        np.testing.assert_allclose(found[rows].numpy(), expected, atol=1e-4)
    assert found.argmax(1).eq(labels).float().mean() > 0.9


class _Shrunk:
    """Gives scikit-learn the covariance within the classes, shrunk."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, shrinkage: float) -> None:
        means = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
        residuals = features - means[np.searchsorted(np.unique(labels), labels)]
        covariance = residuals.T @ residuals / len(labels)
        scale = np.trace(covariance) / len(covariance)
        self.covariance_ = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(len(covariance))

    def fit(self, features: np.ndarray) -> "_Shrunk":
        return self


def test_several_labels_are_discriminated_class_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without unknown labels and without shrinkage, each class is the two-class analysis."""
    monkeypatch.setattr(cross_validation, "_shrinkage", lambda *_: 0.0)
    features, numbers = clusters(300, 8, 4)
    labels = several_labels(numbers, 3).clamp(min=0)
    found = cross_validated(features, labels, "multilabel", 3, seed=0)
    scaled = Scaled(features)[torch.arange(300)].double().numpy()
    for rows in _folds(labels, 3, seed=0):
        others = np.setdiff1d(np.arange(300), rows.numpy())
        for k in range(3):
            analysis = LinearDiscriminantAnalysis(solver="lsqr").fit(scaled[others], labels[others, k].numpy())
            expected = analysis.predict_proba(scaled[rows.numpy()])[:, 1]
            np.testing.assert_allclose(found[rows, k].numpy(), expected, atol=1e-4)


def test_the_shrinkage_is_ledoit_and_wolfs() -> None:
    features, labels = clusters(200, 10, 3)
    scaled = Scaled(features)[torch.arange(200)]
    means = torch.stack([scaled[labels == k].mean(0) for k in range(3)])
    expected = ledoit_wolf_shrinkage((scaled - means[labels]).numpy(), assume_centered=True)
    assert shrinkage_of(features, labels, 3) == pytest.approx(expected, rel=1e-3)
    several = several_labels(labels, 3)
    assert shrinkage_of(features, several, 3) == pytest.approx(ledoit_wolf_shrinkage(scaled.numpy()), rel=1e-3)


def test_an_images_own_label_does_not_change_its_probabilities() -> None:
    features, labels = clusters(200, 6, 3)
    other = labels.clone()
    other[7] = (labels[7] + 1) % 3
    folds = _folds(labels, 3, seed=0)
    fold = next(rows for rows in folds if 7 in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "_folds", lambda *_: folds)
        patch.setattr(cross_validation, "_shrinkage", lambda *_: 0.1)
        one, two = (cross_validated(features, given, "multiclass", 3, 0) for given in (labels, other))
    torch.testing.assert_close(one[fold], two[fold], atol=1e-5, rtol=0)
    assert (one - two).abs().max() > 1e-4


def test_every_image_is_in_one_fold_and_folds_are_stratified_and_seeded() -> None:
    labels = torch.tensor([0] * 50 + [1] * 7 + [2] * 2 + [3])
    folds = _folds(labels, 4, seed=5)
    assert sorted(torch.cat(folds).tolist()) == list(range(60))
    counts = torch.stack([torch.bincount(labels[rows], minlength=4) for rows in folds])
    assert (counts.max(0).values - counts.min(0).values).max() == 1
    assert all(torch.equal(a, b) for a, b in zip(folds, _folds(labels, 4, seed=5), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(folds, _folds(labels, 4, seed=6), strict=True))
    several = torch.zeros(60, 3, dtype=torch.int8)
    several[:50, 0] = several[40:45, 1] = several[:2, 2] = 1
    of_rare = [[(several[rows, k] == 1).sum().item() for rows in _folds(several, 3, 0)] for k in (1, 2)]
    assert of_rare[0] == [1] * FOLDS
    assert sorted(of_rare[1]) == [0, 0, 0, 1, 1]


def test_a_class_of_one_image_is_not_judged_and_the_others_are() -> None:
    features, labels = clusters(100, 5, 3)
    labels = torch.cat([labels, torch.tensor([4])])  # no image of class 3
    features = torch.cat([features, features[:1] + 9])
    found = cross_validated(features, labels, "multiclass", 5, seed=0)
    assert found[-1].isnan().all()
    assert found[:-1].isfinite().all()
    assert (found[:, 3].nan_to_num() == 0).all()
    torch.testing.assert_close(found[:-1].sum(1), torch.ones(100))


def test_a_label_that_no_or_every_image_has_is_not_judged() -> None:
    features, numbers = clusters(100, 5, 3)
    labels = torch.stack([numbers == 0, numbers < 9, numbers > 9, numbers > 9, numbers == 1], 1).char()
    labels[:, 3] = -1
    found = cross_validated(features, labels, "multilabel", 5, seed=0)
    assert found[:, [1, 2, 3]].isnan().all()
    assert found[:, [0, 4]].isfinite().all()


@pytest.mark.parametrize("kind", ["constant", "one constant", "twice", "wide", "half", "large"])
def test_features_that_have_no_inverse_covariance_are_no_problem(kind: str) -> None:
    features, labels = clusters(60, 5, 3)
    features = {
        "constant": torch.full((60, 5), 0.1),
        "one constant": torch.cat([features, torch.full((60, 1), 0.1)], 1),
        "twice": torch.cat([features, features], 1),
        "wide": torch.cat([features, torch.randn(60, 300, generator=torch.Generator().manual_seed(0))], 1),
        "half": features.half(),
        "large": features * 1e6,
    }[kind]
    for task, given in (("multiclass", labels), ("multilabel", several_labels(labels, 3)[:, 1:])):
        found = cross_validated(features, given, task, 3 if task == "multiclass" else 2, seed=0)  # type: ignore[arg-type]
        assert found.dtype == torch.float32
        assert ((found >= 0) & (found <= 1)).all()
        if task == "multiclass" and kind not in ("constant", "wide"):
            assert found.argmax(1).eq(labels).float().mean() > 0.75


@pytest.mark.parametrize("images", [1, 2, 6])
def test_very_few_images_are_no_problem(images: int) -> None:
    features, labels = clusters(images, 4, 2)
    for given in (labels, several_labels(labels, 2)):
        found = cross_validated(features, given, "multiclass" if given.ndim == 1 else "multilabel", 2, seed=0)
        assert found.shape == (images, 2)


def test_one_label_of_one_class_is_judged() -> None:
    features, labels = clusters(80, 4, 2)
    found = cross_validated(features, labels[:, None].char(), "multilabel", 1, seed=0)
    two = cross_validated(features, labels, "multiclass", 2, seed=0)[:, 1]
    assert (found[:, 0] - two).abs().max() < 0.2
    assert ((found[:, 0] > 0.5) == (labels == 1)).float().mean() > 0.8


def test_wrong_labels_are_predicted_as_what_they_are() -> None:
    features, truth = clusters(500, 10, 5)
    labels = truth.clone()
    wrong = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:25]
    labels[wrong] = (truth[wrong] + 1) % 5
    found = cross_validated(features, labels.int(), "multiclass", 5, seed=0)  # as an index has them
    assert found[wrong].argmax(1).eq(truth[wrong]).float().mean() > 0.9
