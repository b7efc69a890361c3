"""Bootstrap intervals, against an ordinary bootstrap in a plain loop, a formula and simulated data."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchmetrics.wrappers import MinMaxMetric

from fovea.metrics.auroc import MeanAUROC
from fovea.metrics.average_precision import MeanAveragePrecision
from fovea.metrics.precision_recall import MacroF1, MicroF1
from fovea.report.statistics import intervals
from fovea.report.statistics.intervals import Interval, confidence_intervals, paired_differences, resamples


def accuracy(classes: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes=classes, average="micro", validate_args=False)


def single_label(images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities of a classifier that is often right, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += 2
    return logits.softmax(1), labels


def multilabel(images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 2, (images, classes), generator=generator)
    return (torch.randn(images, classes, generator=generator) + labels).sigmoid(), labels.char()


def quantiles(values: list[float]) -> Any:
    return pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), abs=1e-6)


def test_few_images_have_the_ordinary_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 150)
    probabilities, labels = single_label(60, 4)
    found = confidence_intervals({"accuracy": accuracy(4), "f1": MacroF1(4)}, probabilities, labels, seed=3)
    rows, drawn = resamples(60, 60, intervals.RESAMPLES, seed=3)
    assert sorted(torch.cat(rows).tolist()) == list(range(60))
    predicted, images = probabilities.argmax(1).numpy(), torch.cat(rows)[drawn].numpy()  # (R, 60)
    pairs = [(labels.numpy()[some], predicted[some]) for some in images]
    assert found["accuracy"][1:] == quantiles([accuracy_score(*pair) for pair in pairs])
    assert found["f1"][1:] == quantiles([f1_score(*pair, average="macro") for pair in pairs])
    assert found["accuracy"].value == pytest.approx(accuracy_score(labels, predicted))
    assert found["f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_states_that_are_concatenated_have_the_ordinary_bootstrap_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 150)
    probabilities, labels = multilabel(40, 1)
    found = confidence_intervals({"mAP": MeanAveragePrecision(1)}, probabilities, labels)["mAP"]
    rows, drawn = resamples(40, 40, intervals.RESAMPLES, seed=0)
    values = []
    for images in torch.cat(rows)[drawn]:
        known = images[labels[images, 0] != -1]
        values.append(average_precision_score(labels[known, 0] == 1, probabilities[known, 0]))
    assert found[1:] == quantiles(values)


def test_many_images_in_groups_have_the_interval_of_the_normal_approximation() -> None:
    probabilities, labels = single_label(6000, 10)
    found = confidence_intervals({"accuracy": accuracy(10)}, probabilities, labels)["accuracy"]
    share = (probabilities.argmax(1) == labels).double().mean().item()
    half = 1.96 * math.sqrt(share * (1 - share) / 6000)
    assert found.value == pytest.approx(share)
    assert found.low == pytest.approx(share - half, abs=0.15 * half)
    assert found.high == pytest.approx(share + half, abs=0.15 * half)


@pytest.mark.slow
def test_the_true_accuracy_lies_in_95_percent_of_the_intervals() -> None:
    covered, truth = 0, 0.8
    for seed in range(200):
        right = torch.rand(700, generator=torch.Generator().manual_seed(seed)) < truth
        found = confidence_intervals({"a": accuracy(2)}, torch.eye(2)[right.long()], torch.ones(700).long(), seed)["a"]
        covered += found.low <= truth <= found.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200) <= covered / 200 <= 0.95 + 3 * math.sqrt(0.95 * 0.05 / 200)


def test_the_seed_alone_decides_and_the_metrics_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 150)
    probabilities, labels = multilabel(50, 3)
    metrics = {"mAP": MeanAveragePrecision(3), "f1": MicroF1(3)}
    metrics["f1"].update(probabilities, labels)
    before = metrics["f1"].compute()
    first = confidence_intervals(metrics, probabilities, labels)
    torch.rand(1)
    assert confidence_intervals(metrics, probabilities, labels) == first
    assert confidence_intervals(metrics, probabilities, labels, seed=1) != first
    assert metrics["f1"].update_count == 1
    assert metrics["f1"].compute() == before


class Largest(Metric):
    """Has a state that is not summed."""

    full_state_update = False
    largest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("largest", torch.tensor(0.0), dist_reduce_fx="max")

    def update(self, preds: Tensor, target: Tensor) -> None:
        self.largest = torch.maximum(self.largest, preds.max())

    def compute(self) -> Tensor:
        return self.largest


class Failing(MicroF1):
    def compute(self) -> Tensor:
        raise ValueError("class 3 is missing")


class Trace(MulticlassConfusionMatrix):
    """Has a large state."""

    def compute(self) -> Tensor:
        return super().compute().trace()


def test_a_state_that_cannot_be_combined_has_no_interval() -> None:
    probabilities, labels = single_label(20, 3)
    metrics: Mapping[str, Metric] = {"largest": Largest(), "wraps": MinMaxMetric(accuracy(3)), "f1": MacroF1(3)}
    found = confidence_intervals(metrics, probabilities, labels)
    assert (found["largest"], found["wraps"]) == (None, None)
    assert found["f1"] is not None
    assert paired_differences({"largest": Largest()}, probabilities, probabilities, labels) == {"largest": None}


def test_a_metric_that_fails_has_no_interval_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert confidence_intervals({"x": Failing(3)}, *single_label(20, 3)) == {"x": None}
    assert "metrics.x: no confidence interval, as the metric fails on a resample: class 3 is missing" in caplog.text


def test_one_rank_of_several_needs_no_other() -> None:
    def wait(*_: object, **__: object) -> None:
        raise AssertionError("it would wait for the other ranks")

    metric = MulticlassAccuracy(num_classes=3, distributed_available_fn=lambda: True, dist_sync_fn=wait)
    assert confidence_intervals({"x": metric}, *single_label(20, 3))["x"] is not None


def test_large_states_have_fewer_groups_or_resamples_and_still_larger_ones_no_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probabilities, labels = single_label(120, 4)
    monkeypatch.setattr(intervals, "MOST_SUMMED", 60 * 16)
    (found,) = confidence_intervals({"x": Trace(4)}, probabilities, labels).values()
    _, drawn = resamples(120, 60, intervals.RESAMPLES, seed=0)
    assert drawn.shape == (500, 60)
    assert found.low < found.value == (probabilities.argmax(1) == labels).sum() < found.high
    monkeypatch.setattr(intervals, "MOST_SUMMED", 49 * 16)
    assert confidence_intervals({"x": Trace(4)}, probabilities, labels) == {"x": None}
    full = confidence_intervals({"x": MeanAUROC(4)}, probabilities, labels)["x"]
    monkeypatch.setattr(intervals, "AT_FULL_COUNT", 1)
    fewer = confidence_intervals({"x": MeanAUROC(4)}, probabilities, labels)["x"]
    assert fewer != full
    assert fewer == pytest.approx(full, abs=0.02)
    monkeypatch.setattr(intervals, "MOST_CONCATENATED", 2 * 120 * 4 - 1)
    assert confidence_intervals({"x": MeanAUROC(4)}, probabilities, labels) == {"x": None}


@pytest.mark.parametrize("images", [0, 1])
def test_fewer_than_two_images_have_no_interval(images: int) -> None:
    assert confidence_intervals({"f1": MacroF1(3)}, *single_label(images, 3)) == {"f1": None}


def test_resamples_in_which_a_metric_is_undefined_are_left_out() -> None:
    scores, labels = torch.tensor([[0.2], [0.9], [0.4], [0.5]]), torch.tensor([[0], [1], [0], [-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = confidence_intervals({"mAP": MeanAveragePrecision(1)}, scores, labels)
        assert found == {"mAP": Interval(1.0, 1.0, 1.0)}  # a resample without the positive has none
        nothing = confidence_intervals({"mAP": MeanAveragePrecision(1)}, scores, torch.zeros_like(labels))
    assert nothing == {"mAP": None}


def test_a_paired_difference_has_the_resamples_of_both() -> None:
    one, labels = single_label(80, 4)
    other = (one.log() + 0.8 * torch.randn(80, 4, generator=torch.Generator().manual_seed(5))).softmax(1)
    found = paired_differences({"accuracy": accuracy(4)}, one, other, labels)["accuracy"]
    rows, drawn = resamples(80, 80, intervals.RESAMPLES, seed=0)
    gain = (other.argmax(1) == labels).double() - (one.argmax(1) == labels).double()
    values = gain[torch.cat(rows)][drawn].mean(1)
    assert found.value == pytest.approx(gain.mean().item())
    assert found[1:3] == quantiles(values.tolist())
    side = min((values <= 0).sum().item(), (values >= 0).sum().item())
    assert found.p_value == pytest.approx(min(1, 2 * (side + 1) / 501))


def test_equal_runs_do_not_differ_and_a_much_better_one_does() -> None:
    probabilities, labels = single_label(100, 3)
    assert paired_differences({"f1": MacroF1(3)}, probabilities, probabilities, labels)["f1"] == (0, 0, 0, 1)
    better = paired_differences({"f1": MacroF1(3)}, 1 - probabilities, torch.eye(3)[labels], labels)["f1"]
    assert better.low > 0.5
    assert better.p_value == pytest.approx(2 / 501)
