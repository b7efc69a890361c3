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
from fovea.training.metric_check import CLASSES, check_metrics

CONF = Path(__file__).resolve().parents[2] / "conf" / "metrics"


def said(caplog: pytest.LogCaptureFixture, metric: Metric, multilabel: bool) -> str:
    with caplog.at_level(logging.WARNING):
        check_metrics({"mine": metric}, multilabel, "val has no image of owl")
    return caplog.text


@pytest.mark.parametrize("name", ["multiclass", "multilabel"])
def test_no_metric_of_conf_counts_a_class_without_labels(name: str, caplog: pytest.LogCaptureFixture) -> None:
    config = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), {"num_classes": CLASSES})
    for metric in instantiate(config.metrics).values():
        assert metric is None or not said(caplog, metric, name == "multilabel")


def test_a_mean_that_counts_a_class_without_images_as_0_is_named(caplog: pytest.LogCaptureFixture) -> None:
    text = said(caplog, MulticlassAUROC(CLASSES, average="macro"), multilabel=False)
    assert "metrics.mine: perfect predictions give 0.750 in place of 1.000" in text
    assert "one of 4 classes is absent; val has no image of owl" in text


@pytest.mark.parametrize("kind", [MultilabelF1Score, MultilabelRecall])
def test_so_is_one_of_several_labels(kind: type[Metric], caplog: pytest.LogCaptureFixture) -> None:
    assert "0.750" in said(caplog, kind(num_labels=CLASSES, average="macro", ignore_index=-1), multilabel=True)


@pytest.mark.parametrize(
    "metric",
    [
        MulticlassAccuracy(CLASSES, average="macro"),
        MulticlassCalibrationError(CLASSES),
        MeanAUROC(CLASSES),
        CatMetric(),  # gives no single number
    ],
)
def test_nothing_is_said_of_others(metric: Metric, caplog: pytest.LogCaptureFixture) -> None:
    assert not said(caplog, metric, multilabel=False)
