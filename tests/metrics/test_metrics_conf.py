"""The metrics of conf/metrics, compared with scikit-learn on difficult splits: absent classes, unknown labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics import Metric

from fovea.training.meter import update

CONF = Path(__file__).resolve().parents[2] / "conf" / "metrics"
K = 7
UNDEFINED: dict[str, Any] = {"zero_division": np.nan}

pytestmark = pytest.mark.filterwarnings("error")


def build(name: str, num_classes: int = K) -> tuple[dict[str, Metric], dict[str, Metric]]:
    config = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), {"num_classes": num_classes})
    assert config.monitor in {f"val/{metric}" for metric in config.metrics}
    scalars, per_class = instantiate(config.metrics), instantiate(config.per_class_metrics)
    return {key: metric for key, metric in scalars.items() if metric is not None}, dict(per_class)


def compute(metrics: dict[str, Metric], probabilities: Tensor, target: Tensor, batch: int = 16) -> dict[str, Any]:
    rows = torch.arange(len(target))
    for mine in rows.split(batch) if len(rows) else [rows]:
        update(metrics.values(), probabilities[mine], target[mine])
    return {name: metric.compute().tolist() for name, metric in metrics.items()}


def multiclass(n: int = 50) -> tuple[Tensor, Tensor]:
    """Make a split where classes 5 and 6 never occur and 6 is never predicted."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(n, K, generator=generator)
    probabilities[:, 6] = 0
    return probabilities / probabilities.sum(1, keepdim=True), torch.randint(0, 5, (n,), generator=generator)


def multilabel(n: int = 50) -> tuple[Tensor, Tensor]:
    """Make a split: class 6 is never present or predicted; a third of the labels and all of row 3 are unknown."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(n, K, generator=generator)
    probabilities[:, 6] /= 3
    target = torch.randint(-1, 2, (n, K), generator=generator)
    target[:, 6] = target[:, 6].clamp(max=0)
    target[3] = -1
    return probabilities, target


def test_multiclass_numbers_equal_scikit_learn() -> None:
    probabilities, labels = multiclass()
    predicted = probabilities.argmax(1)
    result = compute(build("multiclass")[0], probabilities, labels)
    assert result == {
        "accuracy": pytest.approx(sk.accuracy_score(labels, predicted)),
        "top5": pytest.approx(sk.top_k_accuracy_score(labels, probabilities, k=5, labels=range(K))),
        "f1": pytest.approx(sk.f1_score(labels, predicted, average="macro")),  # over the classes that occur
    }


def test_multiclass_numbers_per_class_equal_scikit_learn() -> None:
    probabilities, labels = multiclass()
    result = compute(build("multiclass")[1], probabilities, labels)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=range(K), **UNDEFINED
    )
    assert np.isnan([precision[6], recall[5], recall[6], f1[6]]).all()
    assert f1[5] == 0  # predicted, but never correctly
    np.testing.assert_allclose(result["precision"], precision, rtol=1e-6)
    np.testing.assert_allclose(result["recall"], recall, rtol=1e-6)
    np.testing.assert_allclose(result["f1"], f1, rtol=1e-6)
    assert result["images"] == [(labels == k).sum() for k in range(K)]


def test_balanced_accuracy_equals_scikit_learn_and_calibration_error_a_loop_over_the_bins() -> None:
    probabilities, labels = multiclass()
    parts: Any = OmegaConf.merge(
        *(OmegaConf.load(CONF / f"{name}.yaml") for name in ("balanced_accuracy", "calibration_error")),
        {"num_classes": K},
    )
    result = compute(instantiate(parts.metrics), probabilities, labels)
    recalls = sk.recall_score(labels, probabilities.argmax(1), labels=range(5), average=None)  # of those with images
    assert result["balanced_accuracy"] == pytest.approx(recalls.mean())
    confidence, right = probabilities.max(1).values.numpy(), (probabilities.argmax(1) == labels).numpy()
    bins = np.ceil(confidence * 15)
    gaps = [abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(1, 16)]
    assert result["calibration_error"] == pytest.approx(sum(gaps) / len(labels), rel=1e-5)


def known(probabilities: Tensor, target: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (known targets, predictions for them) of each class."""
    return [
        (t[t >= 0].numpy(), (p[t >= 0] > 0.5).long().numpy()) for p, t in zip(probabilities.T, target.T, strict=True)
    ]


def test_multilabel_numbers_equal_scikit_learn_over_the_known_entries() -> None:
    probabilities, target = multilabel()
    classes = known(probabilities, target)
    everything = [np.concatenate(column) for column in zip(*classes, strict=True)]
    aps = [
        sk.average_precision_score(t[t >= 0], p[t >= 0])
        for p, t in zip(probabilities.T, target.T, strict=True)
        if (t == 1).any()
    ]
    assert len(aps) == K - 1
    assert compute(build("multilabel")[0], probabilities, target) == {
        "mAP": pytest.approx(np.mean(aps)),
        "f1_micro": pytest.approx(sk.f1_score(*everything)),
        "f1_macro": pytest.approx(np.nanmean([sk.f1_score(t, p, **UNDEFINED) for t, p in classes])),
    }


def test_multilabel_numbers_per_class_equal_scikit_learn_over_the_known_entries() -> None:
    probabilities, target = multilabel()
    classes = known(probabilities, target)
    result = compute(build("multilabel")[1], probabilities, target)
    assert np.isnan(result["average_precision"]).tolist() == [False] * 6 + [True]
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        np.testing.assert_allclose(result[name], [score(t, p, **UNDEFINED) for t, p in classes], rtol=1e-6)
    assert result["images"] == [(target[:, k] == 1).sum() for k in range(K)]


@pytest.mark.parametrize("name", ["multiclass", "multilabel"])
def test_a_batch_without_images_changes_nothing(name: str) -> None:
    probabilities, target = multiclass() if name == "multiclass" else multilabel()
    once, again = build(name), build(name)
    for plain, with_empty in zip(once, again, strict=True):
        update(with_empty.values(), probabilities[:0], target[:0])
        np.testing.assert_equal(compute(with_empty, probabilities, target), compute(plain, probabilities, target))


def test_every_figure_of_a_split_without_a_known_label_is_nan() -> None:
    scalars, per_class = build("multilabel")
    nothing = torch.rand(4, K), torch.full((4, K), -1)
    assert np.isnan(list(compute(scalars, *nothing).values())).all()
    table = compute(per_class, *nothing)
    assert table.pop("images") == [0] * K
    assert np.isnan(list(table.values())).all()


@pytest.mark.parametrize("absent", [-1, 0])
def test_perfect_predictions_score_1_though_a_class_is_unknown_or_absent(absent: int) -> None:
    target = torch.tensor([[1, 0, absent], [0, 1, absent], [1, 1, absent]])
    scalars, per_class = build("multilabel", 3)
    assert set(compute(scalars, (target == 1).float(), target).values()) == {1.0}
    assert np.isnan(compute(per_class, (target == 1).float(), target)["f1"]).tolist() == [False, False, True]
    labels = torch.tensor([0, 1, 1])
    assert set(compute(build("multiclass", 3)[0], torch.eye(3)[labels], labels).values()) == {1.0}


def test_an_absent_class_counts_as_soon_as_it_is_predicted() -> None:
    target = torch.tensor([[1, 0, 0], [0, 1, 0]])
    predicted = torch.tensor([[1, 0, 0], [0, 1, 1]]).float()
    assert compute(build("multilabel", 3)[0], predicted, target)["f1_macro"] == pytest.approx(2 / 3)
    unknown = torch.tensor([[1, 0, -1], [0, 1, -1]])
    assert compute(build("multilabel", 3)[0], predicted, unknown)["f1_macro"] == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_macro_f1_equals_scikit_learn_with_classes_absent_unknown_or_never_predicted(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 5, (K,), generator=generator)
    probabilities, target = torch.rand(12, K, generator=generator), torch.randint(-1, 2, (12, K), generator=generator)
    target[:, kinds == 0] = -1
    target[:, kinds == 1] = target[:, kinds == 1].clamp(max=0)
    target[:, kinds == 2] = target[:, kinds == 2].clamp(max=0)
    probabilities[:, (kinds == 1) | (kinds == 3)] /= 3  # never predicted
    classes = [(t, p) for t, p in known(probabilities, target) if len(t)]
    expected = np.array([sk.f1_score(t, p, **UNDEFINED) for t, p in classes])
    scalars, _ = build("multilabel")
    found = compute(scalars, probabilities, target)["f1_macro"]
    np.testing.assert_allclose(found, np.mean(expected[~np.isnan(expected)]), rtol=1e-6)
    defined: Any = scalars["f1_macro"].defined
    assert defined.sum() == (~np.isnan(expected)).sum()
    labels = torch.randint(0, K, (5,), generator=generator)
    single = compute(build("multiclass")[0], probabilities[:5], labels)["f1"]
    assert single == pytest.approx(sk.f1_score(labels, probabilities[:5].argmax(1), average="macro"))


def test_one_image_of_two_classes_is_enough() -> None:
    labels, present = torch.tensor([1]), torch.tensor([[0, 1]])
    probabilities = torch.tensor([[0.2, 0.8]])
    assert compute(build("multiclass", 2)[0], probabilities, labels) == {"accuracy": 1.0, "f1": 1.0}
    assert compute(build("multilabel", 2)[0], probabilities, present) == {
        "mAP": 1.0,
        "f1_micro": 1.0,
        "f1_macro": 1.0,
    }


def test_one_class_is_measured_as_a_binary_problem() -> None:
    random = torch.Generator().manual_seed(0)
    probabilities, target = torch.rand(40, 1, generator=random), torch.randint(-1, 2, (40, 1), generator=random)
    scalars, per_class = build("multilabel", num_classes=1)
    found, of_class = compute(scalars, probabilities, target), compute(per_class, probabilities, target)
    known = (target != -1).numpy()
    scores, truth = probabilities.numpy()[known], target.numpy()[known]
    f1 = sk.f1_score(truth, scores > 0.5)
    assert found == pytest.approx({"mAP": sk.average_precision_score(truth, scores), "f1_micro": f1, "f1_macro": f1})
    assert of_class["images"] == (truth == 1).sum()
    assert of_class["recall"] == pytest.approx(sk.recall_score(truth, scores > 0.5))
