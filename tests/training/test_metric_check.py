import logging
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchmetrics import CatMetric, Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MultilabelF1Score,
    MultilabelRecall,
)

from fovea.metrics.auroc import MeanAUROC
from fovea.training.metric_check import CLASSES, check_accepted, check_metrics

CONF = Path(__file__).resolve().parents[2] / "conf" / "metrics"


def warning(caplog: pytest.LogCaptureFixture, metric: Metric, multilabel: bool) -> str:
    with caplog.at_level(logging.WARNING):
        check_metrics({"custom": metric}, multilabel, "val has no image of owl")
    return caplog.text


@pytest.mark.parametrize("name", ["multiclass", "multilabel"])
def test_no_metric_of_conf_counts_a_class_without_labels(name: str, caplog: pytest.LogCaptureFixture) -> None:
    config = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), {"num_classes": CLASSES})
    for metric in instantiate(config.metrics).values():
        assert metric is None or not warning(caplog, metric, name == "multilabel")


@pytest.mark.parametrize("classes", [2, 5, 7])
@pytest.mark.parametrize("multilabel", [False, True])
def test_a_metric_for_another_kind_of_labels_is_refused(classes: int, multilabel: bool) -> None:
    kinds = [MulticlassCalibrationError(classes, validate_args=False), MultilabelRecall(classes, validate_args=False)]
    good, bad = reversed(kinds) if multilabel else kinds
    check_accepted({"mine": good}, multilabel, classes)
    with pytest.raises(
        ValueError, match=rf"metrics\.mine: {type(bad).__name__} fails on (one|several) label.*\n.*=null"
    ):
        check_accepted({"fine": good, "mine": bad}, multilabel, classes)


def test_a_mean_that_counts_a_class_without_images_as_0_causes_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    text = warning(caplog, MulticlassAUROC(CLASSES, average="macro"), multilabel=False)
    assert "metrics.custom: perfect predictions give 0.750 instead of 1.000" in text
    assert "one of 4 classes is absent, which distorts the figure: val has no image of owl" in text


@pytest.mark.parametrize("kind", [MultilabelF1Score, MultilabelRecall])
def test_a_multilabel_mean_that_counts_a_class_without_labels_as_0_causes_a_warning(
    kind: type[Metric], caplog: pytest.LogCaptureFixture
) -> None:
    assert "0.750" in warning(caplog, kind(num_labels=CLASSES, average="macro", ignore_index=-1), multilabel=True)


@pytest.mark.parametrize(
    "metric",
    [
        MulticlassAccuracy(CLASSES, average="macro"),
        MulticlassCalibrationError(CLASSES),
        MeanAUROC(CLASSES),
        CatMetric(),  # gives no single number
    ],
)
def test_other_metrics_cause_no_warning(metric: Metric, caplog: pytest.LogCaptureFixture) -> None:
    assert not warning(caplog, metric, multilabel=False)
